package synth

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
)

// Types of values and of tensors in GGUF, version 3.
const (
	ggufU32, ggufI32, ggufF32, ggufBool, ggufString, ggufArray = 4, 5, 6, 7, 8, 9

	ggmlF32, ggmlF16 = 0, 1
)

// entry is an entry of a GGUF file's metadata: uint32, float32, bool, string,
// []string, []float32 or []int32.
type entry struct {
	key   string
	value any
}

// tensor is one of a GGUF file.
type tensor struct {
	name    string
	typ     uint32
	shape   []int // the length of a row first
	content io.WriterTo
}

func (t *tensor) size() int {
	n := 1
	for _, d := range t.shape {
		n *= d
	}
	switch t.typ {
	case ggmlF32:
		return 4 * n
	case ggmlF16:
		return 2 * n
	}
	for _, q := range quantization {
		if q.ggml == t.typ {
			return n / blockWeights * q.bytes
		}
	}
	panic("synth: a tensor of unknown type")
}

// writeGGUF writes a file, its tensors in parallel.
func writeGGUF(f *os.File, metadata []entry, tensors []tensor) error {
	const alignment = 32
	align := func(n int) int { return (n + alignment - 1) / alignment * alignment }
	head := header{}
	head.WriteString("GGUF")
	head.put(uint32(3), uint64(len(tensors)), uint64(len(metadata)))
	for _, kv := range metadata {
		head.text(kv.key)
		head.value(kv.value)
	}
	offsets, at := make([]int, len(tensors)), 0
	for i, t := range tensors {
		offsets[i], at = at, at+align(t.size())
		head.text(t.name)
		head.put(uint32(len(t.shape)))
		for _, d := range t.shape {
			head.put(uint64(d))
		}
		head.put(t.typ, uint64(offsets[i]))
	}
	begin := align(head.Len())
	if _, err := f.Write(head.Bytes()); err != nil {
		return err
	}
	if err := f.Truncate(int64(begin + at)); err != nil {
		return err
	}
	return inParallel(len(tensors), func(i int) error {
		_, err := tensors[i].content.WriteTo(io.NewOffsetWriter(f, int64(begin+offsets[i])))
		return err
	})
}

// inParallel calls f(0) to f(n-1), as many at once as there are CPUs, and returns one
// of the errors.
func inParallel(n int, f func(int) error) error {
	errs := make(chan error, n)
	places := make(chan struct{}, runtime.GOMAXPROCS(0))
	var working sync.WaitGroup
	for i := range n {
		places <- struct{}{}
		working.Go(func() {
			if err := f(i); err != nil {
				errs <- err
			}
			<-places
		})
	}
	working.Wait()
	close(errs)
	return <-errs
}

type header struct{ bytes.Buffer }

func (h *header) put(values ...any) {
	for _, v := range values {
		_ = binary.Write(h, binary.LittleEndian, v) // a buffer takes everything
	}
}

func (h *header) text(s string) {
	h.put(uint64(len(s)))
	h.WriteString(s)
}

func (h *header) value(v any) {
	switch v := v.(type) {
	case uint32:
		h.put(uint32(ggufU32), v)
	case float32:
		h.put(uint32(ggufF32), v)
	case bool:
		h.put(uint32(ggufBool), v)
	case string:
		h.put(uint32(ggufString))
		h.text(v)
	case []string:
		h.put(uint32(ggufArray), uint32(ggufString), uint64(len(v)))
		for _, s := range v {
			h.text(s)
		}
	case []float32:
		h.put(uint32(ggufArray), uint32(ggufF32), uint64(len(v)), v)
	case []int32:
		h.put(uint32(ggufArray), uint32(ggufI32), uint64(len(v)), v)
	default:
		panic(fmt.Sprintf("synth: %T in metadata", v))
	}
}
