// Package memory tells before a base is loaded how much memory it will take on which
// device, and refuses what can't fit: llama.cpp ends the process when it runs out.
//
// [Estimate] is a pure function of what the base's file says of itself ([Model], which
// adapters/gguf reads), of the wished sizes ([Config]) and of the devices. It follows
// what llama.cpp and backend/llama's pool allocate; nothing is measured or allocated here.
package memory

import "lorikeet/backend"

// Model is what the header of a base tells of its size.
type Model struct {
	Context     int // that it was trained for
	Hidden      int // elements of a token between layers
	FeedForward int // the widest
	Heads       int
	Vocabulary  int
	Quantized   bool // some of its matrices are
	F32         bool // all of its matrices are

	Input  int64 // bytes of the matrix of embeddings and its like, which stay in host memory
	Output int64 // bytes of what comes behind the last layer
	// Tied says that the embeddings are also the output's matrix: on a GPU, a copy of them.
	Tied   bool
	Layers []Layer

	// Targets are those matrices outside of layers that adapters may change.
	Targets []backend.Weight
}

// Layer is one of a base's layers.
type Layer struct {
	Bytes      int64
	Key, Value int              // elements of a token in the KV cache
	Targets    []backend.Weight // that adapters may change
}

// Config is how a base is to be loaded.
type Config struct {
	GPULayers int       // negative: all, and the output; so is more than there are layers
	Split     []float64 // share of each GPU; empty: by their free memory

	Context     int // of one sequence: the cache has at least so many tokens
	CacheTokens int
	CacheType   backend.DataType
	StepTokens  int
	Sequences   int
	Flash       bool // attention without a matrix of tokens by cache

	Slots    int // including slot 0; below 2 there is no pool
	Rank     int // padded, see PadRank
	PoolType backend.DataType
}

// FastRank is a multiple that ranks must have for the fast kernels of a GPU; others
// make it wait for the host at each adapted matrix of a mixed step. ggml's kernel
// (mmf.cu) takes rows of a multiple of 64 elements in F16 and of 32 in F32, and a
// multiple of 32 rows: rank is the length of B's rows, and the number of A's.
func FastRank(t backend.DataType) int {
	if t == backend.F16 {
		return 64
	}
	return 32
}

// FastTokens is the largest mixed step that the fast kernels compute for a matrix of so
// many rows.
func FastTokens(rows int) int {
	if rows > 1024 {
		return 128
	}
	return 512
}

// PadRank is the rank that a pool has for adapters up to a rank: on a GPU a multiple of
// FastRank.
func PadRank(rank int, t backend.DataType, gpu bool) int {
	if !gpu {
		return rank
	}
	f := FastRank(t)
	return (rank + f - 1) / f * f
}

// Fast tells whether the fast kernels can multiply by a weight's A and B. Other weights
// can be adapted too, but slowly when adapters are mixed.
func Fast(w backend.Weight, rank int, t backend.DataType) bool {
	return w.In%FastRank(t) == 0 && rank%FastRank(t) == 0 && w.Out%32 == 0
}
