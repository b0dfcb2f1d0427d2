// Package safetensors reads the safetensors format from untrusted bytes: a length,
// a JSON header, and tensors without gaps or overlaps.
//
// Every size is checked against the bytes before it is used. Tensors are views of
// the bytes. See https://github.com/huggingface/safetensors for the format.
package safetensors

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Limits of a header.
const (
	MaxHeader  = 16 << 20 // bytes
	MaxTensors = 100_000
)

// Tensor is one entry of the file.
type Tensor struct {
	Name  string
	Type  string // as the file spells it, such as "F32", "BF16"
	Shape []int
	Data  []byte
}

var elementSize = map[string]int{
	"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
	"F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}

// HeaderSize is how many bytes at the start of a file hold its header, as far as the
// start that is given tells: 8 until the first 8 are there.
func HeaderSize(start []byte) (int64, error) {
	if len(start) < lengthSize {
		return lengthSize, nil
	}
	n := binary.LittleEndian.Uint64(start)
	if n > MaxHeader {
		return 0, fmt.Errorf("header of %d bytes is over the limit of %d", n, MaxHeader)
	}
	return lengthSize + int64(n), nil
}

const lengthSize = 8

// FileSize is the size of the file whose header is given.
func FileSize(header []byte) (uint64, error) {
	entries, err := parseHeader(header[lengthSize:])
	if err != nil {
		return 0, err
	}
	end := uint64(0)
	for _, e := range entries {
		end = max(end, e.Offsets[1])
	}
	return uint64(len(header)) + min(end, math.MaxInt64), nil
}

// Parse returns the tensors in the order of their data.
func Parse(file []byte) ([]Tensor, error) {
	if len(file) < lengthSize {
		return nil, fmt.Errorf("%d bytes are too short for a safetensors header", len(file))
	}
	n, err := HeaderSize(file)
	if err != nil {
		return nil, err
	}
	if n > int64(len(file)) {
		return nil, fmt.Errorf("%d bytes, of which the header takes %d", len(file), n)
	}
	header, data := file[lengthSize:n], file[n:]
	entries, err := parseHeader(header)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	slices.SortStableFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.Offsets[0], b.Offsets[0]), cmp.Compare(a.Offsets[1], b.Offsets[1]))
	})
	at := uint64(0)
	tensors := make([]Tensor, len(entries))
	for i, e := range entries {
		size, err := e.size()
		if err != nil {
			return nil, fmt.Errorf("tensor %.100q: %w", e.name, err)
		}
		begin, end := e.Offsets[0], e.Offsets[1]
		if begin != at || end < begin || end > uint64(len(data)) || end-begin != size {
			return nil, fmt.Errorf("tensor %.100q: bytes %d to %d, expected %d to %d of %d", e.name, begin, end, at, at+size, len(data))
		}
		tensors[i] = Tensor{Name: e.name, Type: e.Type, Shape: e.Shape, Data: data[begin:end]}
		at = end
	}
	if at != uint64(len(data)) {
		return nil, fmt.Errorf("%d bytes follow the last tensor", uint64(len(data))-at)
	}
	return tensors, nil
}
