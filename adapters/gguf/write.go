package gguf

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/x448/float16"

	"lorikeet/adapters/lora"
)

// Write writes an adapter that passed Check for a base of an architecture, with more
// metadata. What is read back fills slots with the same numbers: if no alpha of
// llama.cpp's, one for all pairs, stands for their scales, these are multiplied into B, in
// F32, and the alpha is 0.
func Write(w io.Writer, a *lora.Adapter, architecture string, more ...Entry) error {
	alpha, together := alphaOf(a)
	metadata := append([]Entry{
		{"general.architecture", architecture},
		{"general.type", "adapter"},
		{"adapter.type", "lora"},
		{"adapter.lora.alpha", alpha},
	}, more...)
	if a.Invocation != nil {
		tokens := make([]uint32, len(a.Invocation))
		for i, t := range a.Invocation {
			tokens[i] = uint32(t)
		}
		metadata = append(metadata, Entry{invocationKey, tokens})
	}
	tensors := make([]Tensor, 0, 2*len(a.Pairs))
	for i := range a.Pairs {
		p := &a.Pairs[i]
		scale := p.Scale
		if together {
			scale = 1
		}
		tensors = append(tensors, matrixTensor(p.Weight+".lora_a", &p.A, 1), matrixTensor(p.Weight+".lora_b", &p.B, scale))
	}
	return WriteFile(w, metadata, tensors)
}

// alphaOf finds the alpha from which Parse derives the scales of all pairs.
func alphaOf(a *lora.Adapter) (alpha float32, ok bool) {
	if len(a.Pairs) == 0 {
		return 0, true
	}
	first := &a.Pairs[0]
	alpha = float32(float64(first.Scale) * float64(first.Rank()))
	for i := range a.Pairs {
		p := &a.Pairs[i]
		if alpha == 0 || float32(float64(alpha)/float64(p.Rank())) != p.Scale {
			return 0, false
		}
	}
	return alpha, true
}

// matrixTensor is a matrix, its rows in llama.cpp's order, times a scale.
func matrixTensor(name string, m *lora.Matrix, scale float32) Tensor {
	t := Tensor{Name: name, Type: m.Type, Shape: []int{m.Cols, m.Rows}}
	if scale != 1 {
		t.Type = lora.F32
	}
	t.Content = func(w io.Writer) error {
		if m.Heads == 0 && scale == 1 {
			_, err := w.Write(m.Data)
			return err
		}
		line := m.Cols * m.Type.Size()
		for i := range m.Rows {
			row := m.Data[m.StoredRow(i)*line:][:line]
			if scale != 1 {
				row = scaled(row, m.Type, scale)
			}
			if _, err := w.Write(row); err != nil {
				return err
			}
		}
		return nil
	}
	return t
}

// scaled returns elements times a scale as F32.
func scaled(data []byte, from lora.DataType, scale float32) []byte {
	out := make([]byte, 0, len(data)/from.Size()*4)
	for ; len(data) > 0; data = data[from.Size():] {
		var v float32
		switch from {
		case lora.F16:
			v = float16.Frombits(binary.LittleEndian.Uint16(data)).Float32()
		case lora.BF16:
			v = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data)) << 16)
		default:
			v = math.Float32frombits(binary.LittleEndian.Uint32(data))
		}
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(scale*v))
	}
	return out
}
