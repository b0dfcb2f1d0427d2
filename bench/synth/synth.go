// Package synth makes a base and adapters of random weights to measure with: of the
// shape and the scale of real ones, but without sense.
//
// [Base] writes a base in GGUF, [Adapters] a folder of PEFT adapters for it, and
// [Many] presents a few adapters as very many different ones. All of it follows from
// the [Config] alone. It is no fixture for tests of correctness: tests/oracle has those.
package synth

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Config is the shape of a base, of architecture "llama".
type Config struct {
	Hidden, Layers, Heads, KVHeads, FeedForward int
	Vocabulary                                  int
	Context                                     int
	Type                                        Type // of the layers' matrices, whose rows are whole blocks
	Seed                                        uint64
}

// Default has 207 million parameters; its file is 414 MB.
var Default = Config{Hidden: 1024, Layers: 12, Heads: 16, KVHeads: 8, FeedForward: 2816, Vocabulary: 32000, Context: 8192, Seed: 1}

// Seven has the shape of a model of 7 billion parameters; its file is 14.5 GB in F16, 4.5 GB
// in Q4_0.
var Seven = Config{Hidden: 4096, Layers: 32, Heads: 32, KVHeads: 8, FeedForward: 14336, Vocabulary: 32000, Context: 8192, Seed: 1}

// generation is raised when the same Config gives other files than before.
const generation = 1

// key names the files of a Config.
func (c Config) key() string {
	h := sha256.Sum256(fmt.Appendf(nil, "%d %+v", generation, c))
	return hex.EncodeToString(h[:4])
}

// matrix is a matrix of a layer, as GGUF and as transformers call it.
type matrix struct {
	gguf, peft string
	in, out    int
}

// layer is what a layer consists of, its norms aside.
func (c Config) layer() []matrix {
	kv := c.Hidden / c.Heads * c.KVHeads
	return []matrix{
		{"attn_q", "self_attn.q_proj", c.Hidden, c.Hidden},
		{"attn_k", "self_attn.k_proj", c.Hidden, kv},
		{"attn_v", "self_attn.v_proj", c.Hidden, kv},
		{"attn_output", "self_attn.o_proj", c.Hidden, c.Hidden},
		{"ffn_gate", "mlp.gate_proj", c.Hidden, c.FeedForward},
		{"ffn_up", "mlp.up_proj", c.Hidden, c.FeedForward},
		{"ffn_down", "mlp.down_proj", c.FeedForward, c.Hidden},
	}
}

const (
	// deviation of the base's weights, as training begins with and leaves about so.
	deviation = 0.02
	// outputDeviation gives logits a spread of about 3: a distribution as peaked as
	// that of a trained model, so that to cut it is as much work.
	outputDeviation = 0.1
)

// Base writes the base to dir, unless it is there, and returns its path. No token
// that is not text is ever the most likely one: an answer ends at its length.
func Base(dir string, c Config) (string, error) {
	path := filepath.Join(dir, "base-"+c.key()+".gguf")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, "base-*.partial")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it is renamed by then, unless something failed
	defer f.Close()
	if err := writeGGUF(f, c.metadata(), c.tensors()); err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return path, os.Rename(f.Name(), path)
}

func (c Config) metadata() []entry {
	v := c.vocabulary()
	return []entry{
		{"general.architecture", "llama"},
		{"general.name", "bench"},
		{"general.file_type", map[Type]uint32{F16: 1, Q8_0: 7, Q4_0: 2}[c.Type]}, // mostly
		{"llama.block_count", uint32(c.Layers)},
		{"llama.context_length", uint32(c.Context)},
		{"llama.embedding_length", uint32(c.Hidden)},
		{"llama.feed_forward_length", uint32(c.FeedForward)},
		{"llama.attention.head_count", uint32(c.Heads)},
		{"llama.attention.head_count_kv", uint32(c.KVHeads)},
		{"llama.attention.layer_norm_rms_epsilon", float32(1e-5)},
		{"llama.rope.dimension_count", uint32(c.Hidden / c.Heads)},
		{"llama.rope.freq_base", float32(10000)},
		{"llama.vocab_size", uint32(c.Vocabulary)},
		{"tokenizer.ggml.model", "llama"},
		{"tokenizer.ggml.tokens", v.pieces},
		{"tokenizer.ggml.scores", v.scores},
		{"tokenizer.ggml.token_type", v.types},
		{"tokenizer.ggml.unknown_token_id", uint32(0)},
		{"tokenizer.ggml.bos_token_id", uint32(1)},
		{"tokenizer.ggml.eos_token_id", uint32(2)},
		{"tokenizer.ggml.add_bos_token", true},
		{"tokenizer.ggml.add_eos_token", false},
	}
}

func (c Config) tensors() []tensor {
	var ts []tensor
	random := func(name string, in, out, zeroRows int, std float64) {
		ts = append(ts, tensor{name, ggmlF16, []int{in, out},
			&weights{n: in * out, zeros: in * zeroRows, table: normals(std), seed: seedOf(c.Seed, name)}})
	}
	norm := func(name string) {
		ts = append(ts, tensor{name, ggmlF32, []int{c.Hidden}, ones(c.Hidden)})
	}
	random("token_embd.weight", c.Hidden, c.Vocabulary, 0, deviation)
	norm("output_norm.weight")
	random("output.weight", c.Hidden, c.Vocabulary, FirstText, outputDeviation)
	for i := range c.Layers {
		prefix := fmt.Sprintf("blk.%d.", i)
		norm(prefix + "attn_norm.weight")
		norm(prefix + "ffn_norm.weight")
		for _, m := range c.layer() {
			name := prefix + m.gguf + ".weight"
			if c.Type == F16 {
				random(name, m.in, m.out, 0, deviation)
				continue
			}
			ts = append(ts, tensor{name, quantization[c.Type].ggml, []int{m.in, m.out},
				&blocks{n: m.in * m.out, typ: c.Type, std: deviation, seed: seedOf(c.Seed, name)}})
		}
	}
	return ts
}
