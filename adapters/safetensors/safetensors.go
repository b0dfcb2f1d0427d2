// Package safetensors reads the safetensors format from untrusted bytes: a length,
// a JSON header, and tensors without gaps or overlaps.
//
// Every size is checked against the bytes before it is used. Tensors are views of
// the bytes. See https://github.com/huggingface/safetensors for the format.
package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
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

// Parse returns the tensors in the order of their data.
func Parse(file []byte) ([]Tensor, error) {
	if len(file) < 8 {
		return nil, fmt.Errorf("%d bytes are too short for a safetensors header", len(file))
	}
	n := binary.LittleEndian.Uint64(file)
	data := file[8:]
	if n > MaxHeader || n > uint64(len(data)) {
		return nil, fmt.Errorf("header of %d bytes in a file of %d (limit %d)", n, len(file), MaxHeader)
	}
	header, data := data[:n], data[n:]
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

type entry struct {
	name    string
	Type    string    `json:"dtype"`
	Shape   []int     `json:"shape"`
	Offsets [2]uint64 `json:"data_offsets"`
}

// size is the bytes that type and shape call for.
func (e *entry) size() (uint64, error) {
	size := uint64(elementSize[e.Type])
	if size == 0 {
		return 0, fmt.Errorf("unknown type %.20q", e.Type)
	}
	if len(e.Shape) > 8 {
		return 0, fmt.Errorf("%d dimensions", len(e.Shape))
	}
	for _, d := range e.Shape {
		if d < 0 || d > 1<<32 || d != 0 && size > (1<<62)/uint64(d) {
			return 0, fmt.Errorf("shape %v", e.Shape)
		}
		size *= uint64(d)
	}
	return size, nil
}

func parseHeader(header []byte) ([]entry, error) {
	dec := json.NewDecoder(bytes.NewReader(header))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("not a JSON object")
	}
	var entries []entry
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		if seen[name] {
			return nil, fmt.Errorf("%.100q occurs twice", name)
		}
		seen[name] = true
		if name == "__metadata__" {
			var ignored map[string]string
			if err := dec.Decode(&ignored); err != nil {
				return nil, fmt.Errorf("__metadata__: %w", err)
			}
			continue
		}
		if len(entries) == MaxTensors {
			return nil, fmt.Errorf("more than %d tensors", MaxTensors)
		}
		e := entry{name: name}
		if err := dec.Decode(&e); err != nil {
			return nil, fmt.Errorf("tensor %.100q: %w", name, err)
		}
		entries = append(entries, e)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("data after the JSON object")
	}
	return entries, nil
}
