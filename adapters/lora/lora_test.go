package lora

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"lorikeet/backend"
)

// image lays adapters out where something else lay before.
func image(m *backend.ModelInfo, adapters []Scaled) ([]byte, error) {
	dst := bytes.Repeat([]byte{0xA5}, m.Pool.ImageSize())
	err := Image(dst, m, adapters)
	return dst, err
}

// Half precision of the values that these tests use.
var inHalf = map[float32]uint16{
	-2: 0xc000, -1: 0xbc00, -0.5: 0xb800, 0: 0, 0.25: 0x3400, 0.5: 0x3800, 1: 0x3c00,
	2: 0x4000, 3: 0x4200, 4: 0x4400, 5: 0x4500, 6: 0x4600, 8: 0x4800, 65504: 0x7bff,
	float32(math.Inf(1)): 0x7c00,
}

func encode(t *testing.T, typ DataType, values ...float32) []byte {
	t.Helper()
	var b []byte
	for _, v := range values {
		switch typ {
		case F32:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		case BF16:
			b = binary.LittleEndian.AppendUint16(b, uint16(math.Float32bits(v)>>16))
		case F16:
			h, ok := inHalf[v]
			if !ok {
				t.Fatalf("%v is not in the table", v)
			}
			b = binary.LittleEndian.AppendUint16(b, h)
		}
	}
	return b
}

func matrix(t *testing.T, name string, rows, cols int, typ DataType, values ...float32) Matrix {
	t.Helper()
	if len(values) != rows*cols {
		t.Fatalf("%d values for %d×%d", len(values), rows, cols)
	}
	return Matrix{Name: name, Rows: rows, Cols: cols, Type: typ, Data: encode(t, typ, values...)}
}

// info is a base whose pool has rank 3, over the rank of the adapter.
func info(typ backend.DataType) *backend.ModelInfo {
	return &backend.ModelInfo{Architecture: "llama", Vocabulary: 10, Pool: backend.Pool{
		Slots: 2, Rank: 3, Type: typ,
		Weights: []backend.Weight{{Name: "k", In: 1, Out: 2}, {Name: "q", In: 2, Out: 4}, {Name: "down", In: 1, Out: 1}},
	}}
}

func adapter(t *testing.T, typ DataType) *Adapter {
	return &Adapter{File: "x.gguf", Architecture: "llama", Pairs: []Pair{ // not in the pool's order
		{Weight: "down", A: matrix(t, "down.a", 1, 1, typ, 5), B: matrix(t, "down.b", 1, 1, typ, 3), Scale: 8},
		{Weight: "q", A: matrix(t, "q.a", 2, 2, typ, 1, 2, 3, 4), B: matrix(t, "q.b", 4, 2, typ, 1, -1, 2, -2, 0.5, 0, 0, 8), Scale: 2},
	}}
}

func TestImage(t *testing.T) {
	want := []float32{
		0, 0, 0, // k's A and B: the adapter has no pair for it
		0, 0, 0, 0, 0, 0,
		1, 2, 3, 4, 0, 0, // q's A, and a row of padding
		0.5, -0.5, 0, 1, -1, 0, 0.25, 0, 0, 0, 4, 0, // q's B by 2 · 0.25, each row padded
		5, 0, 0,
		6, 0, 0, // 3 · 8 · 0.25
	}
	for _, typ := range []DataType{F32, F16, BF16} {
		for pool, bytesOf := range map[backend.DataType]DataType{backend.F32: F32, backend.F16: F16} {
			got, err := image(info(pool), []Scaled{{adapter(t, typ), 0.25}})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, encode(t, bytesOf, want...)) {
				t.Errorf("type %d in a pool of %v: %x", typ, pool, got)
			}
		}
	}
}

func TestImageOfFullRank(t *testing.T) {
	m := info(backend.F32)
	m.Pool.Rank = 2
	m.Pool.Weights = m.Pool.Weights[1:2]
	a := adapter(t, F32)
	a.Architecture = "" // not told: taken as fitting
	a.Pairs = a.Pairs[1:]
	got, err := image(m, []Scaled{{a, 0.5}})
	if err != nil {
		t.Fatal(err)
	}
	if want := encode(t, F32, 1, 2, 3, 4, 1, -1, 2, -2, 0.5, 0, 0, 8); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// The pairs of several adapters lie side by side, each by its own scale.
func TestImageOfSeveral(t *testing.T) {
	other := &Adapter{Pairs: []Pair{
		{Weight: "q", A: matrix(t, "a", 1, 2, F16, 5, 6), B: matrix(t, "b", 4, 1, F32, 2, 4, 6, 8), Scale: 0.5},
		{Weight: "k", A: matrix(t, "a", 3, 1, F32, 1, 2, 3), B: matrix(t, "b", 2, 3, BF16, 1, 2, 3, 4, 5, 6), Scale: 1},
	}}
	both := []Scaled{{adapter(t, F32), 0.25}, {other, -1}}
	want := encode(t, F32,
		1, 2, 3, // k is the other's alone
		-1, -2, -3, -4, -5, -6,
		1, 2, 3, 4, 5, 6, // q's A: two rows, and one of the other's
		0.5, -0.5, -1, 1, -1, -2, 0.25, 0, -3, 0, 4, -4, // q's B: two columns by 2 · 0.25, and one by 0.5 · -1
		5, 0, 0, // down is the first's alone
		6, 0, 0)
	if err := CheckTogether(info(backend.F32), both); err != nil {
		t.Fatal(err)
	}
	if got, err := image(info(backend.F32), both); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: %x, want %x", err, got, want)
	}
}

func TestCheckTogether(t *testing.T) {
	m := info(backend.F32)                            // its rank is 3
	first, second := adapter(t, F32), adapter(t, F32) // down of rank 1, and q of rank 2
	first.Pairs, second.Pairs = first.Pairs[:1], second.Pairs[1:]
	if err := CheckTogether(m, []Scaled{{first, 1}, {second, 1}, {first, 1}, {first, 1}}); err != nil {
		t.Errorf("ranks 3 and 2: %v", err)
	}
	err := CheckTogether(m, []Scaled{{second, 1}, {first, 1}, {second, 1}})
	want := `x.gguf: tensor "q.a": rank 4 together with the request's other adapters is over the pool's 3 (raise max_rank of the base)`
	var e *Error
	if !errors.As(err, &e) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestInvocation(t *testing.T) {
	if got, err := Invocation([]int64{0, math.MaxInt32}); err != nil || !slices.Equal(got, []backend.Token{0, math.MaxInt32}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Invocation(make([]int64, MaxInvocation)); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
	for _, bad := range [][]int64{nil, {}, make([]int64, MaxInvocation+1), {-1}, {1, math.MaxInt32 + 1}, {math.MinInt64}} {
		if got, err := Invocation(bad); err == nil || got != nil {
			t.Errorf("%.3v: %v, %v", bad, got, err)
		}
	}
}

// llama.cpp has the two halves of a rotary head interleaved, transformers one
// after the other.
func TestRotaryRows(t *testing.T) {
	for _, shape := range []struct{ heads, perHead int }{{1, 2}, {1, 8}, {3, 4}, {4, 6}} {
		rows := shape.heads * shape.perHead
		stored := Matrix{Name: "b", Rows: rows, Cols: 1, Heads: shape.heads}
		want := make([]byte, 0, 4*rows)
		for row := range rows {
			stored.Data = append(stored.Data, encode(t, F32, float32(row))...)
		}
		for head := range shape.heads {
			for i := range shape.perHead / 2 {
				for half := range 2 {
					want = append(want, encode(t, F32, float32(head*shape.perHead+half*shape.perHead/2+i))...)
				}
			}
		}
		m := &backend.ModelInfo{Pool: backend.Pool{Rank: 1, Weights: []backend.Weight{{Name: "q", In: 1, Out: rows}}}}
		a := &Adapter{Pairs: []Pair{{Weight: "q", A: matrix(t, "a", 1, 1, F32, 0), B: stored, Scale: 1}}}
		got, err := image(m, []Scaled{{a, 1}})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[4:], want) {
			t.Errorf("%+v: got %x, want %x", shape, got[4:], want)
		}
	}
}

func TestMisfits(t *testing.T) {
	q := func(a *Adapter) *Pair { return &a.Pairs[1] }
	tests := []struct {
		name   string
		change func(a *Adapter)
		want   string
	}{
		{"architecture", func(a *Adapter) { a.Architecture = "qwen3" }, `x.gguf: made for a base of architecture "qwen3"; this base is "llama"`},
		{"unknown weight", func(a *Adapter) { q(a).Weight = "up" }, `x.gguf: tensor "q.a": the base has no weight up that adapters can change`},
		{"inputs", func(a *Adapter) { q(a).A.Cols = 3 }, `x.gguf: tensor "q.a": 3 columns, but q takes 2 inputs`},
		{"outputs", func(a *Adapter) { q(a).B.Rows = 5 }, `x.gguf: tensor "q.b": 5 rows, but q gives 4 outputs`},
		{"ranks differ", func(a *Adapter) { q(a).B.Cols = 1 }, `x.gguf: tensor "q.b": rank 1, but its lora_A has rank 2`},
		{"rank over the pool's", func(a *Adapter) { q(a).A.Rows, q(a).B.Cols = 4, 4 }, `x.gguf: tensor "q.a": rank 4 is over the pool's 3 (raise max_rank of the base)`},
		{"heads", func(a *Adapter) { q(a).B.Heads = 4 }, `x.gguf: tensor "q.b": 4 rows can't be the halves of 4 heads`},
		{"scale is infinite", func(a *Adapter) { q(a).Scale = float32(math.Inf(-1)) }, `x.gguf: tensor "q.b": its scale is not a number`},
		{"scale is not a number", func(a *Adapter) { q(a).Scale = float32(math.NaN()) }, `x.gguf: tensor "q.b": its scale is not a number`},
		{"invocation", func(a *Adapter) { a.Invocation = []backend.Token{0, 10} }, `x.gguf: invocation token 10 is outside the base's vocabulary of 10`},
		{"no pairs", func(a *Adapter) { a.Pairs = nil }, `x.gguf: no LoRA tensors`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := adapter(t, F32)
			tt.change(a)
			err := a.Check(info(backend.F32))
			var e *Error
			if !errors.As(err, &e) || err.Error() != tt.want {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

func TestValuesOutOfRange(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	tests := []struct {
		name  string
		pool  backend.DataType
		typ   DataType
		a, b  float32
		scale float32
		bad   string // empty if it fits
	}{
		{"infinite A", backend.F32, F32, inf, 1, 1, "down.a"},
		{"negative infinite A", backend.F32, F32, -inf, 1, 1, "down.a"},
		{"A is not a number", backend.F32, BF16, nan, 1, 1, "down.a"},
		{"A is not a number, in F16", backend.F16, F32, nan, 1, 1, "down.a"},
		{"infinite B", backend.F32, F16, 1, inf, 1, "down.b"},
		{"B is not a number", backend.F16, BF16, 1, nan, 1, "down.b"},
		{"infinite B by 0", backend.F32, F32, 1, inf, 0, "down.b"},
		{"scale is not a number", backend.F32, F32, 1, 1, nan, "down.b"},
		{"B overflows by its scale", backend.F32, F32, 1, 3e38, 2, "down.b"},
		{"large for F16", backend.F32, F32, 1e38, -1e38, 1, ""},
		{"largest of F16", backend.F16, F16, 65504, 65504, 1, ""},
		{"rounds to the largest of F16", backend.F16, F32, 65519, -65519, 1, ""},
		{"A rounds to infinity", backend.F16, F32, 65520, 1, 1, "down.a"},
		{"A overflows F16", backend.F16, BF16, -1e38, 1, 1, "down.a"},
		{"B overflows F16 by its scale", backend.F16, F32, 1, 40000, -2, "down.b"},
		{"B fits by its scale", backend.F16, F32, 1, 80000, 0.5, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := &Adapter{Pairs: []Pair{{Weight: "down", A: matrix(t, "down.a", 1, 1, tt.typ, tt.a), B: matrix(t, "down.b", 1, 1, tt.typ, tt.b), Scale: 1}}}
			_, err := image(info(tt.pool), []Scaled{{a, tt.scale}})
			if tt.bad == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Tensor != tt.bad || e.Reason != "holds a value that is not finite in the pool's "+tt.pool.String() {
				t.Errorf("%v, want tensor %q", err, tt.bad)
			}
		})
	}
}

func TestErrorIsBounded(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, e := range []*Error{{"f", "", long}, {"f", long, long}} {
		if n := len(e.Error()); n > 1000 {
			t.Errorf("%d bytes", n)
		}
	}
}
