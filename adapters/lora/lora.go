// Package lora is an adapter as its files tell it, before it is laid out for a
// pool: pairs of low-rank matrices, by the names of the base's weights.
//
// Readers (adapters/peft, adapters/gguf) produce an [Adapter]; [Adapter.Image]
// turns it into the slot image that backend.Pool describes. The matrices are
// views of the reader's bytes: nothing is copied before the image.
package lora

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/x448/float16"

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
	Digest       string // SHA-256 over the files' content, hex
	Pairs        []Pair
}

// Rank is the largest rank of the adapter's pairs.
func (a *Adapter) Rank() int {
	r := 0
	for i := range a.Pairs {
		r = max(r, a.Pairs[i].Rank())
	}
	return r
}

// Error is an adapter that can't be served. Its text names the file, the tensor
// if one is to blame, and the reason.
type Error struct {
	File   string // within the adapter, never a path of the server
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

// Image lays the adapter out for a slot of the pool, its strength multiplied by
// scale. The adapter must have passed Check. Errors are *Error.
func (a *Adapter) Image(m *backend.ModelInfo, scale float32) ([]byte, error) {
	byWeight := make(map[string]*Pair, len(a.Pairs))
	for i := range a.Pairs {
		byWeight[a.Pairs[i].Weight] = &a.Pairs[i]
	}
	image := make([]byte, m.Pool.ImageSize())
	rest := image
	for _, w := range m.Pool.Weights {
		n := m.Pool.ImageBytes(w)
		if p := byWeight[w.Name]; p != nil {
			if bad := p.lay(rest[:n], &m.Pool, scale); bad != nil {
				return nil, &Error{a.File, bad.Name, "holds a value that is not finite in the pool's " + m.Pool.Type.String()}
			}
		}
		rest = rest[n:]
	}
	return image, nil
}

// Check tells whether the adapter fits the base and its pool. Errors are *Error.
func (a *Adapter) Check(m *backend.ModelInfo) error {
	if a.Architecture != "" && a.Architecture != m.Architecture {
		return &Error{File: a.File, Reason: fmt.Sprintf("made for a base of architecture %q; this base is %q", a.Architecture, m.Architecture)}
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

// lay writes A, padded with rows of zeros, and Scale·scale·B, its rows padded with
// zeros, to dst, which holds zeros. It returns the matrix that holds a value which
// the pool can't, or nil.
func (p *Pair) lay(dst []byte, pool *backend.Pool, scale float32) *Matrix {
	size := pool.Type.Size()
	put := putter(pool.Type)
	get := p.A.Type.getter()
	for i := range p.A.Rows * p.A.Cols {
		if !put(dst[i*size:], get(p.A.Data[i*p.A.Type.Size():])) {
			return &p.A
		}
	}
	b := dst[pool.Rank*p.A.Cols*size:]
	get = p.B.Type.getter()
	scale *= p.Scale
	for row := range p.B.Rows {
		from := p.B.storedRow(row)
		for col := range p.B.Cols {
			if !put(b[(row*pool.Rank+col)*size:], scale*get(p.B.Data[(from*p.B.Cols+col)*p.B.Type.Size():])) {
				return &p.B
			}
		}
	}
	return nil
}

// storedRow is where the file holds the row that llama.cpp wants at row: within a
// head of 2h rows, its rows 2i and 2i+1 are transformers' rows i and h+i.
func (m *Matrix) storedRow(row int) int {
	if m.Heads == 0 {
		return row
	}
	perHead := m.Rows / m.Heads
	head, i := row/perHead, row%perHead
	return head*perHead + i%2*(perHead/2) + i/2
}

func (d DataType) getter() func([]byte) float32 {
	le := binary.LittleEndian
	switch d {
	case F16:
		return func(b []byte) float32 { return float16.Frombits(le.Uint16(b)).Float32() }
	case BF16:
		return func(b []byte) float32 { return math.Float32frombits(uint32(le.Uint16(b)) << 16) }
	}
	return func(b []byte) float32 { return math.Float32frombits(le.Uint32(b)) }
}

// putter returns a function that stores a value and tells whether it is finite.
func putter(t backend.DataType) func([]byte, float32) bool {
	le := binary.LittleEndian
	if t == backend.F16 {
		return func(b []byte, f float32) bool {
			h := float16.Fromfloat32(f)
			le.PutUint16(b, h.Bits())
			return h.IsFinite()
		}
	}
	return func(b []byte, f float32) bool {
		le.PutUint32(b, math.Float32bits(f))
		return f-f == 0
	}
}
