package gguf

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"lorikeet/adapters/lora"
	"lorikeet/backend"
)

var baseTargets = []string{"attn_q", "ffn_up", "output"}

// validBase has tensors without data: only its header is read.
func validBase() *file {
	return &file{
		magic: "GGUF", version: 3, align: 32,
		kvs: [][]byte{
			kv("general.architecture", 8, str("llama")),
			kv("llama.block_count", 4, u32(2)),
			kv("llama.context_length", 4, u32(512)),
			kv("llama.attention.head_count", 4, u32(4)),
			kv("llama.attention.head_count_kv", 9, array(5, 2, u32(2), u32(1))),
			kv("tokenizer.chat_template", 8, str("{{ messages }}")),
			kv("tokenizer.ggml.tokens", 9, array(8, 3, str("a"), str("b"), str("c"))),
		},
		tensors: []tensor{
			{name: "token_embd.weight", dims: []uint64{8, 3}, typ: 12}, // quantized
			{name: "output.weight", dims: []uint64{8, 3, 1, 1}, typ: 12},
			{name: "blk.0.attn_q.weight", dims: []uint64{8, 16}, typ: 0},
			{name: "blk.0.attn_q.bias", dims: []uint64{16}, typ: 0},
			{name: "blk.1.attn_q_norm.weight", dims: []uint64{16}, typ: 0},
			{name: "blk.1.ffn_up_exps.weight", dims: []uint64{8, 4, 2}, typ: 1},
			{name: "blk.1.ffn_up.weight", dims: []uint64{8, 32}, typ: 1},
			{name: "blk.1.attn_v.weight", dims: []uint64{8, 32}, typ: 1},
		},
	}
}

func readBase(f *file) (*backend.ModelInfo, error) {
	data, header := f.bytes()
	return Base(fstest.MapFS{"base.gguf": {Data: data[:header]}}, "base.gguf", baseTargets)
}

func TestBase(t *testing.T) {
	got, err := readBase(validBase())
	if err != nil {
		t.Fatal(err)
	}
	want := &backend.ModelInfo{
		Architecture: "llama", Context: 512, Vocabulary: 3, Layers: 2, Heads: 4, KVHeads: 2, ChatTemplate: "{{ messages }}",
		Parameters: 24 + 24 + 128 + 16 + 16 + 64 + 256 + 256,
		Pool: backend.Pool{Type: backend.F16, Weights: []backend.Weight{
			{Name: "output.weight", In: 8, Out: 3}, {Name: "blk.0.attn_q.weight", In: 8, Out: 16}, {Name: "blk.1.ffn_up.weight", In: 8, Out: 32},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	only := validBase()
	only.tensors = []tensor{only.tensors[0], only.tensors[2]}
	only.tensors[0].typ = 0
	only.kvs = append(only.kvs[:4:4], only.kvs[5:]...)
	got, err = readBase(only)
	if err != nil {
		t.Fatal(err)
	}
	if got.Pool.Type != backend.F32 || got.KVHeads != 4 {
		t.Errorf("%+v", got)
	}
}

func TestBaseRefusals(t *testing.T) {
	replace := func(key string, entry []byte) func(*file) {
		return func(f *file) {
			for i := range f.kvs {
				if bytes.HasPrefix(f.kvs[i], str(key)) {
					f.kvs[i] = entry
				}
			}
		}
	}
	drop := func(key string) func(*file) { return replace(key, kv("other", 4, u32(1))) }
	first := func(change func(*tensor)) func(*file) { return func(f *file) { change(&f.tensors[0]) } }
	for _, c := range []struct {
		name   string
		change func(*file)
		want   string
	}{
		{"not GGUF", func(f *file) { f.magic = "GGML" }, "not a GGUF file"},
		{"an adapter", func(f *file) { f.kvs = append(f.kvs, kv("general.type", 8, str("adapter"))) }, `general.type is "adapter"`},
		{"split", func(f *file) { f.kvs = append(f.kvs, kv("split.count", 2, []byte{3, 0})) }, "one of 3 files"},
		{"no architecture", drop("general.architecture"), "general.architecture is missing"},
		{"architecture a number", replace("general.architecture", kv("general.architecture", 4, u32(1))), "general.architecture is missing"},
		{"no layers", drop("llama.block_count"), "llama.block_count is missing"},
		{"0 heads", replace("llama.attention.head_count", kv("llama.attention.head_count", 4, u32(0))), "not a positive number"},
		{"2^63 heads", replace("llama.attention.head_count", kv("llama.attention.head_count", 10, u64(1<<63))), "not a positive number"},
		{"heads in words", replace("llama.attention.head_count", kv("llama.attention.head_count", 8, str("four"))), "not a positive number"},
		{"heads of no layer", replace("llama.attention.head_count_kv", kv("llama.attention.head_count_kv", 9, array(5, 0))), "not a positive number"},
		{"negative heads", replace("llama.attention.head_count_kv", kv("llama.attention.head_count_kv", 9, array(5, 1, u32(1<<31)))), "not a positive number"},
		{"no embeddings", first(func(t *tensor) { t.name = "x" }), "token_embd.weight is missing"},
		{"a vector of embeddings", first(func(t *tensor) { t.dims = []uint64{24} }), "token_embd.weight is missing"},
		{"0 columns", first(func(t *tensor) { t.dims = []uint64{0, 3} }), "shape [0 3]"},
		{"2^63 columns", first(func(t *tensor) { t.dims = []uint64{1 << 63, 3} }), "shape"},
		{"a product that overflows", first(func(t *tensor) { t.dims = []uint64{1 << 32, 1 << 32} }), "shape"},
		{"one name twice", func(f *file) { f.tensors = append(f.tensors, f.tensors[0]) }, "twice"},
		{"2^63 tensors", func(f *file) { f.nTensors = 1 << 63 }, "limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := validBase()
			c.change(f)
			_, err := readBase(f)
			var e *lora.Error
			if !errors.As(err, &e) || e.File != "base.gguf" || !strings.Contains(e.Reason, c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := Base(fstest.MapFS{}, "base.gguf", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestBaseCutAnywhere(t *testing.T) {
	data, header := validBase().bytes()
	for n := range header {
		if _, err := Base(fstest.MapFS{"base.gguf": {Data: data[:n]}}, "base.gguf", baseTargets); err == nil {
			t.Fatalf("no error of a header cut to %d of %d bytes", n, header)
		}
	}
}

// A large vocabulary is passed over, and what a header of any size takes is bounded.
func TestBaseHeaders(t *testing.T) {
	texts := func(n int, text string) []byte {
		return kv("tokenizer.ggml.merges", 9, array(8, uint64(n), bytes.Repeat(str(text), n)))
	}
	for _, c := range []struct {
		n     int
		text  string
		want  string
		bytes uint64
	}{
		{300_000, "two words", "", 8 << 20},
		{3_000_000, "two words", "a header of more than", 40 << 20},
	} {
		t.Run(fmt.Sprint(c.n), func(t *testing.T) {
			f := validBase()
			f.kvs = append(f.kvs, texts(c.n, c.text))
			data, header := f.bytes()
			fsys := fstest.MapFS{"base.gguf": {Data: data[:header]}}
			var err error
			took := allocated(func() { _, err = Base(fsys, "base.gguf", baseTargets) })
			if err != nil && c.want == "" || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v", err)
			}
			if took > c.bytes {
				t.Errorf("%d bytes allocated for a header of %d", took, header)
			}
		})
	}
}

// Whatever a header says, it is a base that adapters can be checked against, or an error.
func FuzzBase(f *testing.F) {
	data, header := validBase().bytes()
	f.Add(data[:header])
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Base(fstest.MapFS{"base.gguf": {Data: data}}, "base.gguf", baseTargets)
		if err != nil {
			return
		}
		if m.Architecture == "" || m.Vocabulary < 1 || m.Layers < 1 || m.Heads < 1 || m.KVHeads < 1 || m.Context < 1 {
			t.Errorf("%+v", m)
		}
		for _, w := range m.Pool.Weights {
			if w.In < 1 || w.Out < 1 {
				t.Errorf("%+v", w)
			}
		}
	})
}
