// Package lora is an adapter as its files tell it, before it is laid out for a
// pool: pairs of low-rank matrices, by the names of the base's weights.
//
// Readers (adapters/peft, adapters/gguf) produce an [Adapter]; [Image] turns one, or
// several together, into the slot image that backend.Pool describes. The matrices
// are views of the files, mapped until the adapter is closed: nothing is copied before
// the image.
package lora

import (
	"fmt"
	"math"

	"lorikeet/backend"
)

// DataType is the element type of a stored matrix, little-endian.
type DataType int

// Element types that adapters come in.
const (
	F32 DataType = iota
	F16
	BF16
)

// Size is the bytes of one element.
func (d DataType) Size() int {
	if d == F32 {
		return 4
	}
	return 2
}

// Matrix is a row-major matrix. len(Data) is Rows*Cols*Type.Size().
type Matrix struct {
	Name       string // as the file calls it
	Rows, Cols int
	Type       DataType
	Data       []byte
	// Heads, if not 0, says that the rows are in the order in which transformers
	// stores a rotary projection of so many heads, each as two halves; llama.cpp's
	// llama wants the halves of a head interleaved.
	Heads int
}

// Pair changes one weight W of the base into W + Scale·B·A.
type Pair struct {
	Weight string // GGUF name
	A      Matrix // rank × in
	B      Matrix // out × rank
	Scale  float32
}

// Rank is the rank of the pair.
func (p *Pair) Rank() int { return p.A.Rows }

// Adapter is a LoRA for one base.
type Adapter struct {
	File         string // that holds the tensors, for messages; without a folder
	Architecture string // of the base; empty if the files do not tell
	Digest       string // of the files' content, see files.Digest
	Pairs        []Pair
	Tensors      int // of the files, all of which make up the pairs
	// Invocation is set for an activated LoRA: the tokens from which on it was trained
	// to be used.
	Invocation []backend.Token

	release []func()
}

// Own has Close call release, which takes back the memory that matrices are views of.
func (a *Adapter) Own(release func()) { a.release = append(a.release, release) }

// Close gives the files' memory back: the matrices are gone. It is idempotent.
func (a *Adapter) Close() {
	for i := range a.Pairs {
		a.Pairs[i].A.Data, a.Pairs[i].B.Data = nil, nil
	}
	for _, release := range a.release {
		release()
	}
	a.release = nil
}

// MaxFileSize is the largest file of weights that can fit a base, in bytes: what
// fills a slot, in F32, and a header.
func MaxFileSize(m *backend.ModelInfo) int64 {
	const header = 32 << 20
	return header + 4*int64(m.Pool.ImageSize()/m.Pool.Type.Size())
}

// MaxInvocation is the largest number of invocation tokens.
const MaxInvocation = 64

// Invocation checks what a file says are invocation tokens.
func Invocation(tokens []int64) ([]backend.Token, error) {
	if len(tokens) == 0 || len(tokens) > MaxInvocation {
		return nil, fmt.Errorf("not 1 to %d tokens", MaxInvocation)
	}
	out := make([]backend.Token, len(tokens))
	for i, t := range tokens {
		if t < 0 || t > math.MaxInt32 {
			return nil, fmt.Errorf("%d is no token", t)
		}
		out[i] = backend.Token(t)
	}
	return out, nil
}

// Scaled is an adapter at a multiple of its strength.
type Scaled struct {
	*Adapter
	Scale float32
}

// Error is an adapter that can't be served. Its text names the file, the tensor
// if one is to blame, and the reason.
type Error struct {
	File   string // within the adapter, never a path of the server; after the adapter's name where several are asked for
	Tensor string
	Reason string
}

// Error is bounded: clients get it, and the files may hold names of megabytes.
func (e *Error) Error() string {
	if e.Tensor == "" {
		return fmt.Sprintf("%s: %.400s", e.File, e.Reason)
	}
	return fmt.Sprintf("%s: tensor %.200q: %.400s", e.File, e.Tensor, e.Reason)
}

// CheckTogether tells whether adapters that passed Check fit one slot of the pool.
// Errors are *Error.
func CheckTogether(m *backend.ModelInfo, adapters []Scaled) error {
	ranks := map[string]int{}
	for _, a := range adapters {
		for i := range a.Pairs {
			p := &a.Pairs[i]
			if ranks[p.Weight] += p.Rank(); ranks[p.Weight] > m.Pool.Rank {
				return &Error{a.File, p.A.Name, fmt.Sprintf("rank %d together with the request's other adapters is over the pool's %d (raise max_rank of the base)", ranks[p.Weight], m.Pool.Rank)}
			}
		}
	}
	return nil
}

// Check tells whether the adapter fits the base and its pool. Errors are *Error.
func (a *Adapter) Check(m *backend.ModelInfo) error {
	if a.Architecture != "" && a.Architecture != m.Architecture {
		return &Error{File: a.File, Reason: fmt.Sprintf("made for a base of architecture %q; this base is %q", a.Architecture, m.Architecture)}
	}
	for _, t := range a.Invocation {
		if int(t) >= m.Vocabulary {
			return &Error{File: a.File, Reason: fmt.Sprintf("invocation token %d is outside the base's vocabulary of %d", t, m.Vocabulary)}
		}
	}
	weights := make(map[string]backend.Weight, len(m.Pool.Weights))
	for _, w := range m.Pool.Weights {
		weights[w.Name] = w
	}
	for i := range a.Pairs {
		p := &a.Pairs[i]
		w, ok := weights[p.Weight]
		switch {
		case !ok:
			return &Error{a.File, p.A.Name, fmt.Sprintf("the base has no weight %s that adapters can change", p.Weight)}
		case p.A.Cols != w.In:
			return &Error{a.File, p.A.Name, fmt.Sprintf("%d columns, but %s takes %d inputs", p.A.Cols, p.Weight, w.In)}
		case p.B.Rows != w.Out:
			return &Error{a.File, p.B.Name, fmt.Sprintf("%d rows, but %s gives %d outputs", p.B.Rows, p.Weight, w.Out)}
		case p.A.Rows != p.B.Cols:
			return &Error{a.File, p.B.Name, fmt.Sprintf("rank %d, but its lora_A has rank %d", p.B.Cols, p.A.Rows)}
		case p.Rank() > m.Pool.Rank:
			return &Error{a.File, p.A.Name, fmt.Sprintf("rank %d is over the pool's %d (raise max_rank of the base)", p.Rank(), m.Pool.Rank)}
		case p.B.Heads != 0 && p.B.Rows%(2*p.B.Heads) != 0:
			return &Error{a.File, p.B.Name, fmt.Sprintf("%d rows can't be the halves of %d heads", p.B.Rows, p.B.Heads)}
		case math.IsNaN(float64(p.Scale)) || math.IsInf(float64(p.Scale), 0):
			return &Error{a.File, p.B.Name, "its scale is not a number"}
		}
	}
	if len(a.Pairs) == 0 {
		return &Error{File: a.File, Reason: "no LoRA tensors"}
	}
	return nil
}
