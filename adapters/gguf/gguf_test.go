package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lorikeet/adapters/lora"
	"lorikeet/backend"
)

var le = binary.LittleEndian

// file is a GGUF file to write; its fields can be made to lie.
type file struct {
	magic         string
	version       uint32
	nTensors, nKV uint64 // if not 0, in place of the true counts
	kvs           [][]byte
	tensors       []tensor
	align         int
}

type tensor struct {
	name   string
	dims   []uint64
	typ    uint32
	data   []byte
	offset uint64 // if not 0, in place of the true one
}

func str(s string) []byte { return append(le.AppendUint64(nil, uint64(len(s))), s...) }

func kv(key string, typ uint32, value []byte) []byte {
	return append(le.AppendUint32(str(key), typ), value...)
}

func u32(v uint32) []byte  { return le.AppendUint32(nil, v) }
func u64(v uint64) []byte  { return le.AppendUint64(nil, v) }
func f32(v float32) []byte { return u32(math.Float32bits(v)) }
func array(of uint32, n uint64, elements ...[]byte) []byte {
	return append(append(u32(of), u64(n)...), bytes.Join(elements, nil)...)
}

// bytes returns the file and the length of its header.
func (f *file) bytes() (b []byte, header int) {
	nTensors, nKV := uint64(len(f.tensors)), uint64(len(f.kvs))
	if f.nTensors != 0 {
		nTensors = f.nTensors
	}
	if f.nKV != 0 {
		nKV = f.nKV
	}
	b = append([]byte(f.magic), u32(f.version)...)
	b = append(append(b, u64(nTensors)...), u64(nKV)...)
	b = append(b, bytes.Join(f.kvs, nil)...)
	pad := func(b []byte) []byte { return append(b, make([]byte, (f.align-len(b)%f.align)%f.align)...) }
	var data []byte
	for _, t := range f.tensors {
		data = pad(data)
		offset := uint64(len(data))
		if t.offset != 0 {
			offset = t.offset
		}
		b = append(append(b, str(t.name)...), u32(uint32(len(t.dims)))...)
		for _, d := range t.dims {
			b = append(b, u64(d)...)
		}
		b = append(append(b, u32(t.typ)...), u64(offset)...)
		data = append(data, t.data...)
	}
	header = len(b)
	return append(pad(b), data...), header
}

func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// valid has two pairs, of rank 2 and 1, and metadata of every type.
func valid() *file {
	return &file{
		magic: "GGUF", version: 3, align: 32,
		kvs: [][]byte{
			kv("general.architecture", 8, str("llama")),
			kv("general.type", 8, str("adapter")),
			kv("adapter.type", 8, str("lora")),
			kv("adapter.lora.alpha", 6, f32(16)),
			kv("a.u8", 0, []byte{1}), kv("a.i8", 1, []byte{1}), kv("a.u16", 2, []byte{1, 0}), kv("a.i16", 3, []byte{1, 0}),
			kv("a.u32", 4, u32(1)), kv("a.i32", 5, u32(1)), kv("a.bool", 7, []byte{1}),
			kv("a.u64", 10, u64(1)), kv("a.i64", 11, u64(1)), kv("a.f64", 12, u64(1)),
			kv("a.numbers", 9, array(5, 2, u32(1), u32(2))), kv("a.strings", 9, array(8, 2, str("x"), str(""))), kv("a.empty", 9, array(8, 0)),
		},
		tensors: []tensor{
			{name: "blk.0.attn_q.weight.lora_a", dims: []uint64{4, 2}, typ: 0, data: counting(32)},
			{name: "blk.1.ffn_up.weight.lora_b", dims: []uint64{1, 5}, typ: 30, data: counting(10)},
			{name: "blk.1.ffn_up.weight.lora_a", dims: []uint64{3, 1}, typ: 1, data: counting(6)},
			{name: "blk.0.attn_q.weight.lora_b", dims: []uint64{2, 3}, typ: 1, data: counting(12)},
		},
	}
}

func pairs(scaleQ, scaleUp float32) []lora.Pair {
	return []lora.Pair{
		{
			Weight: "blk.0.attn_q.weight", Scale: scaleQ,
			A: lora.Matrix{Name: "blk.0.attn_q.weight.lora_a", Rows: 2, Cols: 4, Type: lora.F32, Data: counting(32)},
			B: lora.Matrix{Name: "blk.0.attn_q.weight.lora_b", Rows: 3, Cols: 2, Type: lora.F16, Data: counting(12)},
		},
		{
			Weight: "blk.1.ffn_up.weight", Scale: scaleUp,
			A: lora.Matrix{Name: "blk.1.ffn_up.weight.lora_a", Rows: 1, Cols: 3, Type: lora.F16, Data: counting(6)},
			B: lora.Matrix{Name: "blk.1.ffn_up.weight.lora_b", Rows: 5, Cols: 1, Type: lora.BF16, Data: counting(10)},
		},
	}
}

func TestParse(t *testing.T) {
	alpha := func(f *file, entry []byte) { f.kvs[3] = entry }
	tests := []struct {
		name   string
		change func(*file)
		want   []lora.Pair
	}{
		{"alpha over rank", func(f *file) {}, pairs(8, 16)},
		{"version 2", func(f *file) { f.version = 2 }, pairs(8, 16)},
		{"alpha of 0", func(f *file) { alpha(f, kv("adapter.lora.alpha", 6, f32(0))) }, pairs(1, 1)},
		{"no alpha", func(f *file) { alpha(f, kv("other", 6, f32(3))) }, pairs(1, 1)},
		{"negative alpha", func(f *file) { alpha(f, kv("adapter.lora.alpha", 6, f32(-1))) }, pairs(-0.5, -1)},
		{"alignment 64", func(f *file) { f.align = 64; f.kvs = append(f.kvs, kv("general.alignment", 4, u32(64))) }, pairs(8, 16)},
		{"alignment 8", func(f *file) { f.align = 8; f.kvs = append(f.kvs, kv("general.alignment", 4, u32(8))) }, pairs(8, 16)},
		{"no tensors", func(f *file) { f.tensors = nil }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := valid()
			tt.change(f)
			b, _ := f.bytes()
			got, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if want := (&lora.Adapter{Architecture: "llama", Pairs: tt.want, Tensors: 2 * len(tt.want)}); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestInvocation(t *testing.T) {
	for _, of := range []uint32{4, 5} {
		f := valid()
		f.kvs = append(f.kvs, kv("adapter.alora.invocation_tokens", 9, array(of, 3, u32(7), u32(0), u32(math.MaxInt32))))
		b, _ := f.bytes()
		a, err := Parse(b)
		if err != nil || !slices.Equal(a.Invocation, []backend.Token{7, 0, math.MaxInt32}) {
			t.Errorf("type %d: %+v, %v", of, a, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	meta := func(entries ...[]byte) func(*file) { return func(f *file) { f.kvs = append(f.kvs, entries...) } }
	first := func(change func(*tensor)) func(*file) { return func(f *file) { change(&f.tensors[0]) } }
	invocation := func(value []byte) func(*file) { return meta(kv("adapter.alora.invocation_tokens", 9, value)) }
	second := func(change func(*tensor)) func(*file) { return func(f *file) { change(&f.tensors[1]) } }
	const q, up = "blk.0.attn_q.weight.lora_a", "blk.1.ffn_up.weight.lora_b"
	tests := []struct {
		name   string
		change func(*file)
		tensor string
		want   string
	}{
		{"magic", func(f *file) { f.magic = "GGML" }, "", "not a GGUF file"},
		{"version 1", func(f *file) { f.version = 1 }, "", "GGUF version 1 "},
		{"version 99", func(f *file) { f.version = 99 }, "", "GGUF version 99 "},
		{"big-endian", func(f *file) { f.version = 3 << 24 }, "", "GGUF version 50331648 "},
		{"2^63 tensors", func(f *file) { f.nTensors = 1 << 63 }, "", "9223372036854775808 tensors"},
		{"2^63 keys", func(f *file) { f.nKV = 1 << 63 }, "", "9223372036854775808 metadata keys"},
		{"more tensors than there are", func(f *file) { f.nTensors = MaxEntries }, "", "at byte"},
		{"more keys than there are", func(f *file) { f.nKV = MaxEntries }, "", "at byte"},

		{"key of 2^63 bytes", meta(u64(1 << 63)), "", "a name of 9223372036854775808 bytes"},
		{"string of 2^63 bytes", meta(kv("x", 8, u64(1<<63))), "", "the file ends"},
		{"string of 2^64-1 bytes", meta(kv("x", 8, u64(1<<64-1))), "", "the file ends"},
		{"array of 2^63 numbers", meta(kv("x", 9, array(4, 1<<63))), "", "an array of 9223372036854775808 elements"},
		{"array of 2^61 numbers, whose size overflows", meta(kv("x", 9, array(10, 1<<61))), "", "an array of 2305843009213693952 elements"},
		{"array of 2^63 strings", meta(kv("x", 9, array(8, 1<<63))), "", "at byte"},
		{"array with a string of 2^63 bytes", meta(kv("x", 9, array(8, 1, u64(1<<63)))), "", "the file ends"},
		{"array past the end", func(f *file) { f.tensors = nil; f.kvs = append(f.kvs, kv("x", 9, array(4, 40))) }, "", "the file ends"},
		{"array of arrays", meta(kv("x", 9, array(9, 1, array(4, 1, u32(1))))), "", "an array of arrays"},
		{"array of 2^63 of an unknown type", meta(kv("x", 9, array(13, 1<<63))), "", "unknown metadata type 13"},
		{"unknown type", meta(kv("x", 13, u64(0))), "", "unknown metadata type 13"},
		{"duplicate key", meta(kv("general.type", 8, str("adapter"))), "", `metadata key "general.type" occurs twice`},

		{"alignment 0", meta(kv("general.alignment", 4, u32(0))), "", "general.alignment is 0"},
		{"alignment 3", meta(kv("general.alignment", 4, u32(3))), "", "general.alignment is 3"},
		{"alignment 2^63", meta(kv("general.alignment", 10, u64(1<<63))), "", "general.alignment is 9223372036854775808"},
		{"alignment is a string", meta(kv("general.alignment", 8, str("32"))), "", "general.alignment is 32"},
		{"alignment is an array", meta(kv("general.alignment", 9, array(4, 1, u32(32)))), "", "general.alignment is"},

		{"a base", func(f *file) { f.kvs[1] = kv("general.type", 8, str("model")) }, "", `general.type is "model", not "adapter"`},
		{"no general.type", func(f *file) { f.kvs[1] = kv("x", 8, str("")) }, "", `general.type is "", not "adapter"`},
		{"general.type is a number", func(f *file) { f.kvs[1] = kv("general.type", 4, u32(1)) }, "", `general.type is ""`},
		{"control vector", func(f *file) { f.kvs[2] = kv("adapter.type", 8, str("control")) }, "", `adapter.type "control" is not served`},
		{"alpha is an integer", func(f *file) { f.kvs[3] = kv("adapter.lora.alpha", 4, u32(16)) }, "", "adapter.lora.alpha is not a float"},
		{"alpha is an array", func(f *file) { f.kvs[3] = kv("adapter.lora.alpha", 9, array(6, 1, f32(16))) }, "", "adapter.lora.alpha is not a float"},
		{"no invocation tokens", invocation(array(4, 0)), "", "adapter.alora.invocation_tokens: not 1 to 64 tokens"},
		{"too many invocation tokens", invocation(array(4, 1000, make([]byte, 4000))), "", "adapter.alora.invocation_tokens: not 1 to 64 tokens"},
		{"negative invocation token", invocation(array(5, 1, u32(1<<31))), "", "adapter.alora.invocation_tokens: -2147483648 is no token"},
		{"too large an invocation token", invocation(array(4, 1, u32(1<<31))), "", "adapter.alora.invocation_tokens: 2147483648 is no token"},
		{"invocation tokens of 64 bits", invocation(array(10, 1, u64(1))), "", "adapter.alora.invocation_tokens is not an array of 32-bit integers"},
		{"invocation tokens in a text", meta(kv("adapter.alora.invocation_tokens", 8, str("x"))), "", "adapter.alora.invocation_tokens is not an array of 32-bit integers"},
		{"invocation texts", invocation(array(8, 1, str("x"))), "", "adapter.alora.invocation_tokens is not an array of 32-bit integers"},

		{"no lora_a", func(f *file) { f.tensors = f.tensors[1:] }, "blk.0.attn_q.weight.lora_b", "its lora_a is missing"},
		{"no lora_b", func(f *file) { f.tensors = f.tensors[:3] }, q, "its lora_b is missing"},
		{"duplicate tensor", func(f *file) { f.tensors = append(f.tensors, f.tensors[0]) }, q, "occurs twice"},
		{"norm", first(func(x *tensor) { x.name = "blk.0.attn_norm.weight" }), "blk.0.attn_norm.weight", "not a tensor of a LoRA"},
		{"name of 2^16+1 bytes", first(func(x *tensor) { x.name = strings.Repeat("x", maxName+1) }), "", "a name of 65537 bytes"},
		{"Q8_0", first(func(x *tensor) { x.typ = 8 }), q, "ggml type 8 is not served"},
		{"unknown ggml type", first(func(x *tensor) { x.typ = math.MaxUint32 }), q, "ggml type 4294967295 is not served"},
		{"no dimensions", first(func(x *tensor) { x.dims = nil }), q, "shape [] is not that of a matrix"},
		{"one dimension", first(func(x *tensor) { x.dims = x.dims[:1] }), q, "shape [4] is not that of a matrix"},
		{"three dimensions", first(func(x *tensor) { x.dims = []uint64{4, 2, 1} }), q, "shape [4 2 1] is not that of a matrix"},
		{"five dimensions", first(func(x *tensor) { x.dims = make([]uint64, 5) }), "", `"` + q + `" has 5 dimensions`},
		{"dimension 0", first(func(x *tensor) { x.dims = []uint64{4, 0} }), q, "shape [4 0]"},
		{"dimension 2^63", first(func(x *tensor) { x.dims = []uint64{1 << 63, 2} }), q, "shape [9223372036854775808 2]"},
		{"product overflows", first(func(x *tensor) { x.dims = []uint64{1 << 32, 1 << 32} }), q, "shape [4294967296 4294967296]"},
		{"larger than the file", first(func(x *tensor) { x.dims = []uint64{1 << 30, 1 << 30} }), q, "past the end of the file"},
		{"offset past the end", first(func(x *tensor) { x.offset = 1 << 20 }), q, "is at offset 1048576, expected at 0"},
		{"offset of 2^63", first(func(x *tensor) { x.offset = 1 << 63 }), q, "is at offset 9223372036854775808, expected at 0"},
		{"offset that overflows", first(func(x *tensor) { x.offset = 1<<64 - 32 }), q, "is at offset 18446744073709551584, expected at 0"},
		{"gap", second(func(x *tensor) { x.offset = 64 }), up, "is at offset 64, expected at 32"},
		{"overlap", second(func(x *tensor) { x.offset = 16 }), up, "is at offset 16, expected at 32"},
		{"not aligned", second(func(x *tensor) { x.offset = 33 }), up, "is at offset 33, expected at 32"},
		{"last past the end", func(f *file) { f.tensors[3].dims = []uint64{2, 4} }, "blk.0.attn_q.weight.lora_b", "16 bytes at offset 96 are past the end of the file"},
		{"header alone", func(f *file) { f.tensors[0].data, f.tensors = nil, f.tensors[:1] }, q, "32 bytes at offset 0 are past the end of the file"},
		{"header over the limit", meta(kv("x", 8, str(strings.Repeat("x", maxHeader)))), "", "a header of more than 33554432 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := valid()
			tt.change(f)
			b, _ := f.bytes()
			_, err := Read(fstest.MapFS{"x.gguf": {Data: b}}, "x.gguf", 1<<26, "")
			var e *lora.Error
			if !errors.As(err, &e) || e.File != "x.gguf" || e.Tensor != tt.tensor || !strings.Contains(e.Reason, tt.want) {
				t.Errorf("%v, want tensor %q: %s", err, tt.tensor, tt.want)
			}
		})
	}
}

// No padding follows the last tensor here, so no byte can be missing.
func TestTruncated(t *testing.T) {
	b, header := valid().bytes()
	if header >= len(b) {
		t.Fatal("no data")
	}
	for n := range b {
		if _, err := Parse(b[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are accepted", n, len(b))
		}
	}
	// Without tensors nothing after the header can give the truncation away.
	f := valid()
	f.tensors = nil
	b, header = f.bytes()
	for n := range header {
		if _, err := Parse(b[:n]); err == nil {
			t.Errorf("the first %d of %d bytes of the header are accepted", n, header)
		}
	}
}

func TestRead(t *testing.T) {
	b, _ := valid().bytes()
	changed := bytes.Clone(b)
	changed[len(changed)-1]++
	fsys := fstest.MapFS{"x.gguf": {Data: b}, "same.gguf": {Data: b}, "changed.gguf": {Data: changed}, "folder.gguf/x": {}}
	digest := func(name string) string {
		a, err := Read(fsys, name, 1<<20, "")
		if err != nil {
			t.Fatal(err)
		}
		if a.File != name || len(a.Digest) != 64 {
			t.Errorf("%s: file %q, digest %q", name, a.File, a.Digest)
		}
		return a.Digest
	}
	if x := digest("x.gguf"); x != digest("same.gguf") || x == digest("changed.gguf") {
		t.Error("the digest does not tell the content")
	}
	if _, err := Read(fsys, "missing.gguf", 1<<20, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := Read(fsys, "folder.gguf", 1<<20, ""); err == nil || err.Error() != "folder.gguf: is not a regular file" {
		t.Errorf("folder: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	v := valid()
	b, header := v.bytes()
	f.Add(b)
	f.Add(b[:header])
	v.align = 64
	v.kvs = append(v.kvs[:4], kv("general.alignment", 4, u32(64)), kv("x", 9, array(8, 1<<63)))
	b, _ = v.bytes()
	f.Add(b)
	v.kvs = v.kvs[:5]
	b, _ = v.bytes()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		missing := Incomplete(fstest.MapFS{"x": {Data: b}}, "x")
		a, err := Parse(b)
		if err != nil {
			return
		}
		if missing != "" {
			t.Errorf("is accepted, although %s", missing)
		}
		for _, p := range a.Pairs {
			for _, m := range []lora.Matrix{p.A, p.B} {
				if m.Rows < 1 || m.Cols < 1 || len(m.Data) != m.Rows*m.Cols*m.Type.Size() {
					t.Errorf("%q: %d bytes for %d×%d of type %d", m.Name, len(m.Data), m.Rows, m.Cols, m.Type)
				}
			}
		}
	})
}
