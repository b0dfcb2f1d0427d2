package gguf

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"lorikeet/adapters/lora"
	"lorikeet/backend"
)

// What is written is read back: the same numbers, with llama.cpp's alpha where one
// stands for all scales.
func TestWrite(t *testing.T) {
	rsLoRA := float32(8 / math.Sqrt(2))
	for _, c := range []struct {
		name        string
		scaleQ, sUp float32 // of ranks 2 and 1
		together    bool
	}{
		{"one alpha", 8, 16, true},
		{"one scale", 2, 2, false},
		{"a fraction", 1.0 / 3, 2.0 / 3, true},
		{"rsLoRA", rsLoRA, 8, false},
		{"negative", -1, -2, true},
		{"nothing", 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &lora.Adapter{Pairs: pairs(c.scaleQ, c.sUp), Invocation: []backend.Token{3, 1, 4}}
			var out bytes.Buffer
			if err := Write(&out, a, "llama", Entry{"general.name", "n"}); err != nil {
				t.Fatal(err)
			}
			got, err := Parse(out.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if got.Architecture != "llama" || !slices.Equal(got.Invocation, a.Invocation) || len(got.Pairs) != 2 {
				t.Fatalf("%+v", got)
			}
			for i := range got.Pairs {
				p, was := &got.Pairs[i], &a.Pairs[i]
				if p.Weight != was.Weight || !bytes.Equal(p.A.Data, was.A.Data) || p.A.Type != was.A.Type {
					t.Errorf("pair %d: %+v", i, p)
				}
				if c.together {
					if p.Scale != was.Scale || p.B.Type != was.B.Type || !bytes.Equal(p.B.Data, was.B.Data) {
						t.Errorf("pair %d: scale %v, B %v %v", i, p.Scale, p.B.Type, p.B.Data)
					}
					continue
				}
				if p.Scale != 1 {
					t.Errorf("pair %d: scale %v", i, p.Scale)
				}
			}
			if !bytes.Equal(imageOf(t, got), imageOf(t, a)) {
				t.Error("the images differ")
			}
		})
	}
}

func imageOf(t *testing.T, a *lora.Adapter) []byte {
	t.Helper()
	info := &backend.ModelInfo{Architecture: "llama", Vocabulary: 8, Pool: backend.Pool{Rank: 4, Type: backend.F32, Weights: []backend.Weight{
		{Name: "blk.0.attn_q.weight", In: 4, Out: 3}, {Name: "blk.1.ffn_up.weight", In: 3, Out: 5},
	}}}
	if err := a.Check(info); err != nil {
		t.Fatal(err)
	}
	out := make([]byte, info.Pool.ImageSize())
	if err := lora.Image(out, info, []lora.Scaled{{Adapter: a, Scale: 1}}); err != nil {
		t.Fatal(err)
	}
	return out
}

// The rows of a rotary projection come out as llama.cpp wants them.
func TestWriteInterleavesHeads(t *testing.T) {
	a := &lora.Adapter{Pairs: []lora.Pair{{
		Weight: "blk.0.attn_q.weight", Scale: 1,
		A: lora.Matrix{Name: "a", Rows: 1, Cols: 1, Type: lora.F16, Data: []byte{0, 0}},
		B: lora.Matrix{Name: "b", Rows: 8, Cols: 1, Type: lora.F16, Data: counting(16), Heads: 2},
	}}}
	var out bytes.Buffer
	if err := Write(&out, a, "llama"); err != nil {
		t.Fatal(err)
	}
	got, err := Parse(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15}
	if b := &got.Pairs[0].B; !bytes.Equal(b.Data, want) || b.Heads != 0 {
		t.Errorf("rows %v", b.Data)
	}
}
