package convert

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/x448/float16"

	"lorikeet/adapters/gguf"
	"lorikeet/adapters/lora"
)

const embeddings = "token_embd.weight"

// dataTypes are the types of elements that are converted, as safetensors spells them.
var dataTypes = map[string]lora.DataType{"F32": lora.F32, "F16": lora.F16, "BF16": lora.BF16}

// source is a tensor to be written: one of a file, or figures of config.json.
type source struct {
	name   string
	shape  []int // rows first
	typ    lora.DataType
	matrix lora.Matrix // rows are reordered by its Heads
	addOne bool        // gemma's norms are stored without the 1 that is added
}

type sources []*source

// figures is a vector that no file holds.
func figures(name string, values []float32) *source {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return &source{name: name, shape: []int{len(values)}, matrix: lora.Matrix{Name: name, Rows: 1, Cols: len(values), Data: data}}
}

// fileType is general.file_type, which tells the type of most matrices.
func (s sources) fileType() uint32 {
	numbers := map[lora.DataType]uint32{lora.F32: 0, lora.F16: 1, lora.BF16: 32}
	size, most := map[lora.DataType]int{}, lora.F32
	for _, t := range s {
		if len(t.shape) > 1 {
			size[t.typ] += t.shape[0] * t.shape[1]
		}
		if size[t.typ] > size[most] {
			most = t.typ
		}
	}
	return numbers[most]
}

func (s sources) tensors() []gguf.Tensor {
	var out []gguf.Tensor
	for _, t := range s {
		shape := slices.Clone(t.shape)
		slices.Reverse(shape)
		out = append(out, gguf.Tensor{Name: t.name, Type: t.typ, Shape: shape, Content: t.write})
	}
	return out
}

func matrixTypes(tensors []gguf.Tensor) []string {
	used := map[string]bool{}
	for name, typ := range dataTypes {
		used[name] = slices.ContainsFunc(tensors, func(t gguf.Tensor) bool { return t.Type == typ && len(t.Shape) > 1 })
	}
	maps.DeleteFunc(used, func(_ string, is bool) bool { return !is })
	return slices.Sorted(maps.Keys(used))
}

// write writes the elements, some rows at a time.
func (s *source) write(w io.Writer) error {
	const piece = 1 << 18 // elements
	m := &s.matrix
	line := m.Cols * m.Type.Size()
	out := make([]byte, 0, min(piece, m.Rows*m.Cols)*s.typ.Size())
	for row := range m.Rows {
		data := m.Data[m.StoredRow(row)*line:][:line]
		var finite bool
		if out, finite = s.convert(out, data); !finite {
			return fmt.Errorf("tensor %.200q holds a value that is not finite in %s", m.Name, typeName(s.typ))
		}
		if len(out) < cap(out) && row < m.Rows-1 {
			continue
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
		out = out[:0]
	}
	return nil
}

func typeName(t lora.DataType) string {
	for name, typ := range dataTypes {
		if typ == t {
			return name
		}
	}
	return ""
}

// convert appends elements to out in the type that is written.
func (s *source) convert(out, data []byte) (_ []byte, finite bool) {
	from, le := s.matrix.Type, binary.LittleEndian
	if from == s.typ && !s.addOne {
		return append(out, data...), true
	}
	finite = true
	for ; len(data) > 0; data = data[from.Size():] {
		var v float32
		switch from {
		case lora.F16:
			v = float16.Frombits(le.Uint16(data)).Float32()
		case lora.BF16:
			v = math.Float32frombits(uint32(le.Uint16(data)) << 16)
		default:
			v = math.Float32frombits(le.Uint32(data))
		}
		if s.addOne {
			v++
		}
		switch s.typ {
		case lora.F16:
			h := float16.Fromfloat32(v)
			finite = finite && h.IsFinite()
			out = le.AppendUint16(out, h.Bits())
		case lora.BF16:
			h := bfloat16(v)
			finite = finite && h&0x7F80 != 0x7F80
			out = le.AppendUint16(out, h)
		default:
			out = le.AppendUint32(out, math.Float32bits(v))
		}
	}
	return out, finite
}

// bfloat16 rounds to the nearest, to even if two are.
func bfloat16(f float32) uint16 {
	bits := math.Float32bits(f)
	if f != f {
		return uint16(bits>>16) | 1<<6
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// isNorm tells norms, which stay in F32 as all vectors do.
func isNorm(name string) bool { return strings.HasSuffix(name, "norm.weight") }
