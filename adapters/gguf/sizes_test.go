package gguf

import (
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"lorikeet/adapters/lora"
	"lorikeet/backend"
	"lorikeet/backend/memory"
)

// sizedBase is validBase with data, of sizes that depend on no type: an alignment's
// padding counts to the tensor before it.
func sizedBase() *file {
	f := validBase()
	f.kvs = append(f.kvs,
		kv("llama.embedding_length", 4, u32(8)),
		kv("llama.feed_forward_length", 9, array(5, 2, u32(32), u32(48))),
		kv("llama.attention.key_length", 4, u32(6)),
	)
	for i := range f.tensors {
		f.tensors[i].data = make([]byte, 32*(i+1)-5) // the last one is not padded
	}
	return f
}

func readSizes(f *file) (*memory.Model, error) {
	data, _ := f.bytes()
	return Sizes(fstest.MapFS{"base.gguf": {Data: data}}, "base.gguf", baseTargets)
}

func TestSizes(t *testing.T) {
	got, err := readSizes(sizedBase())
	if err != nil {
		t.Fatal(err)
	}
	want := &memory.Model{
		Context: 512, Hidden: 8, FeedForward: 48, Heads: 4, Vocabulary: 3, Quantized: true,
		Input: 32, Output: 64,
		Layers: []memory.Layer{
			// Heads of keys and values: 2, then 1; of 6 and of 8/4 elements.
			{Bytes: 32 * (3 + 4), Key: 12, Value: 4, Targets: []backend.Weight{{Name: "blk.0.attn_q.weight", In: 8, Out: 16}}},
			{Bytes: 32*(5+6+7+8) - 5, Key: 6, Value: 2, Targets: []backend.Weight{{Name: "blk.1.ffn_up.weight", In: 8, Out: 32}}},
		},
		Targets: []backend.Weight{{Name: "output.weight", In: 8, Out: 3}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestSizesOfOthers(t *testing.T) {
	t.Run("tied, nothing quantized", func(t *testing.T) {
		f := sizedBase()
		f.tensors[1].name = "output_norm.weight"
		f.tensors[0].typ, f.tensors[1].typ = 1, 30
		m, err := readSizes(f)
		if err != nil || !m.Tied || m.Quantized || m.Output != 64 || m.F32 {
			t.Errorf("%+v, %v", m, err)
		}
	})
	t.Run("defaults", func(t *testing.T) {
		f := validBase()
		f.kvs = append(f.kvs[:4:4], kv("llama.embedding_length", 4, u32(8)))
		m, err := readSizes(f)
		if err != nil || m.FeedForward != 32 || m.Layers[1].Key != 8 || m.Layers[1].Value != 8 {
			t.Errorf("%+v, %v", m, err)
		}
	})
}

func TestSizesRefusals(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		change     func(*file)
	}{
		{"no width", "embedding_length", func(f *file) { f.kvs = append(f.kvs[:7:7], f.kvs[8:]...) }},
		{"layers without end", "layers", func(f *file) { f.kvs[1] = kv("llama.block_count", 4, u32(1<<20)) }},
		{"a tensor behind the end", "behind the end", func(f *file) { f.tensors[3].offset = 1 << 40 }},
		{"an offset that wraps", "behind the end", func(f *file) { f.tensors[3].offset = 1<<64 - 32 }},
		{"key length of nothing", "key_length", func(f *file) { f.kvs[9] = kv("llama.attention.key_length", 4, u32(0)) }},
		{"not a base", "general.type", func(f *file) { f.kvs = append(f.kvs, kv("general.type", 8, str("adapter"))) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := sizedBase()
			tt.change(f)
			m, err := readSizes(f)
			var e *lora.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
	if _, err := Sizes(fstest.MapFS{}, "base.gguf", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// Whatever a header says, nothing is negative, and the parts are no more than the file.
func FuzzSizes(f *testing.F) {
	data, header := sizedBase().bytes()
	f.Add(data)
	f.Add(data[:header])
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Sizes(fstest.MapFS{"base.gguf": {Data: data}}, "base.gguf", baseTargets)
		if err != nil {
			return
		}
		sum := m.Input + m.Output
		for _, l := range m.Layers {
			sum += l.Bytes
			if l.Bytes < 0 || l.Key < 0 || l.Value < 0 {
				t.Errorf("%+v", l)
			}
		}
		if m.Input < 0 || m.Output < 0 || sum > int64(len(data)) || m.Hidden < 1 || m.FeedForward < 0 {
			t.Errorf("%+v of %d bytes", m, len(data))
		}
	})
}
