package gguf

import (
	"encoding/binary"
	"fmt"
	"io"

	"lorikeet/adapters/lora"
)

// Entry is a key of a file's metadata. Value is an uint32, float32, bool, string, []string,
// []float32, []int32 or []uint32.
type Entry struct {
	Key   string
	Value any
}

// Tensor is a tensor of a file that is written.
type Tensor struct {
	Name    string
	Type    lora.DataType
	Shape   []int // the length of a row first
	Content func(w io.Writer) error
}

// Size is the bytes that Content writes.
func (t *Tensor) Size() int64 {
	n := int64(t.Type.Size())
	for _, d := range t.Shape {
		n *= int64(d)
	}
	return n
}

const alignment = 32 // of tensors, unless metadata says otherwise

// WriteFile writes a GGUF file: its header, then the tensors one after the other.
func WriteFile(w io.Writer, metadata []Entry, tensors []Tensor) error {
	head := append([]byte("GGUF"), 3, 0, 0, 0)
	head = appendValues(head, uint64(len(tensors)), uint64(len(metadata)))
	for _, e := range metadata {
		head = appendMetadata(appendText(head, e.Key), e.Value)
	}
	offset := int64(0)
	for i := range tensors {
		t := &tensors[i]
		head = appendValues(appendText(head, t.Name), uint32(len(t.Shape)))
		for _, d := range t.Shape {
			head = appendValues(head, uint64(d))
		}
		head = appendValues(head, ggmlTypes[t.Type], uint64(offset))
		offset += t.Size() + padding(t.Size())
	}
	head = append(head, make([]byte, padding(int64(len(head))))...)
	if _, err := w.Write(head); err != nil {
		return err
	}
	for i := range tensors {
		t := &tensors[i]
		counted := &counter{w: w}
		if err := t.Content(counted); err != nil {
			return err
		}
		if counted.n != t.Size() {
			return fmt.Errorf("tensor %s: %d bytes were written instead of %d", t.Name, counted.n, t.Size())
		}
		if _, err := w.Write(make([]byte, padding(t.Size()))); err != nil {
			return err
		}
	}
	return nil
}

var ggmlTypes = func() map[lora.DataType]uint32 {
	numbers := map[lora.DataType]uint32{}
	for number, t := range types {
		numbers[t] = number
	}
	return numbers
}()

func padding(n int64) int64 { return -n & (alignment - 1) }

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// appendValues appends numbers or slices of them.
func appendValues(b []byte, values ...any) []byte {
	for _, v := range values {
		var err error
		if b, err = binary.Append(b, binary.LittleEndian, v); err != nil {
			panic(err) // not a number
		}
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(appendValues(b, uint64(len(s))), s...)
}

func appendMetadata(b []byte, value any) []byte {
	array := func(of uint32, n int) []byte { return appendValues(b, uint32(typeArray), of, uint64(n)) }
	switch v := value.(type) {
	case uint32:
		return appendValues(b, uint32(typeUint32), v)
	case float32:
		return appendValues(b, uint32(typeFloat32), v)
	case bool:
		return appendValues(b, uint32(typeBool), v)
	case string:
		return appendText(appendValues(b, uint32(typeString)), v)
	case []uint32:
		return appendValues(array(typeUint32, len(v)), v)
	case []int32:
		return appendValues(array(typeInt32, len(v)), v)
	case []float32:
		return appendValues(array(typeFloat32, len(v)), v)
	case []string:
		b = array(typeString, len(v))
		for _, s := range v {
			b = appendText(b, s)
		}
		return b
	}
	panic(fmt.Sprintf("gguf: %T in metadata", value))
}

const typeBool = 7
