// Package gguf reads LoRA adapters in GGUF, llama.cpp's format, from untrusted
// bytes, and writes them; of a base it reads the header only.
//
// Every count, length and offset is checked against the bytes before it is used.
// Tensors are views of the bytes. See
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md for the format.
package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"

	"lorikeet/adapters/files"
	"lorikeet/adapters/guard"
	"lorikeet/adapters/lora"
)

// Limits of a header.
const (
	MaxEntries = 100_000 // metadata keys, and tensors
	maxName    = 1 << 16
	maxHeader  = 32 << 20
)

// Read reads the adapter file name, of at most limit bytes, in fsys. The adapter must be
// closed. digest is the file's, if it is known, else "". Errors are *lora.Error, or
// fs.ErrNotExist.
func Read(fsys fs.FS, name string, limit int64, digest string) (*lora.Adapter, error) {
	f, err := files.Open(fsys, name, limit)
	if err != nil {
		return nil, err
	}
	a, err := read(f, digest)
	if err != nil {
		f.Close()
		return nil, err
	}
	a.Own(f.Close)
	return a, nil
}

func read(f *files.File, known string) (a *lora.Adapter, err error) {
	digest := func() (string, error) { return known, nil }
	if known == "" {
		digest = files.Digest(f)
	}
	err = guard.Run(func() error {
		a, err = Parse(f.Data)
		return err
	})
	sum, unread := digest()
	var e *lora.Error
	switch {
	case errors.As(err, &e):
		e.File = f.Name
		return nil, e
	case err != nil:
		return nil, &lora.Error{File: f.Name, Reason: err.Error()}
	case unread != nil:
		return nil, unread
	}
	a.File, a.Digest = f.Name, sum
	return a, nil
}

// headSizes are how much of a file Rank reads, one after the other, until it has the
// whole header. Those of nearly all adapters fit the first.
var headSizes = []int64{64 << 10, 4 << 20}

// Rank is the largest rank that the header of an adapter file tells. The rest of the
// file is neither read nor checked.
func Rank(fsys fs.FS, name string) (rank uint64, err error) {
	for _, n := range headSizes {
		var data []byte
		if data, _, err = files.Head(fsys, name, n); err != nil {
			return 0, err
		}
		var h *header
		if h, err = parseHeader(data); err != nil {
			continue
		}
		for _, t := range h.infos {
			if _, which, ok := cutSuffix(t.name); ok && which == 'a' && len(t.dims) == 2 {
				rank = max(rank, t.dims[1])
			}
		}
		return rank, nil
	}
	return 0, err
}

// Incomplete says what is missing of an adapter file that is being copied, in words for a
// person, or "". It goes by the header and does not judge: a file that is wrong
// otherwise is complete.
func Incomplete(fsys fs.FS, name string) string {
	for _, n := range headSizes {
		data, size, err := files.Head(fsys, name, n)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return name + " is missing"
		case err != nil:
			return ""
		}
		h, err := parseHeader(data)
		switch {
		case err == nil:
			return files.Missing(name, size, h.fileSize())
		case !errors.Is(err, errEnds):
			return ""
		case size <= n:
			return name + " ends within its header"
		}
	}
	return ""
}

// Parse reads an adapter. File and Digest are left empty.
func Parse(data []byte) (*lora.Adapter, error) {
	h, err := parseHeader(data)
	if err != nil {
		return nil, err
	}
	return h.adapter(data)
}

type header struct {
	meta  map[string]any
	infos []tensorInfo
	start uint64 // of the tensors' data
	align uint64 // of each tensor
}

func parseHeader(data []byte) (*header, error) {
	r := &reader{data: data[:min(len(data), maxHeader)]}
	if magic := r.bytes(4); r.err == nil && string(magic) != "GGUF" {
		return nil, fmt.Errorf("not a GGUF file")
	}
	if v := r.uint32(); r.err == nil && v != 2 && v != 3 {
		return nil, fmt.Errorf("GGUF version %d (2 and 3 are read)", v)
	}
	nTensors, nKV := r.uint64(), r.uint64()
	if nTensors > MaxEntries || nKV > MaxEntries {
		return nil, fmt.Errorf("%d tensors and %d metadata keys (limit %d)", nTensors, nKV, MaxEntries)
	}
	h := &header{meta: r.metadata(int(nKV)), infos: r.tensorInfos(int(nTensors))}
	if errors.Is(r.err, errEnds) && len(data) > maxHeader {
		return nil, fmt.Errorf("a header of more than %d bytes", maxHeader)
	}
	if r.err != nil {
		return nil, r.err
	}
	h.align = 32
	if v, ok := h.meta["general.alignment"]; ok {
		a, _ := v.(uint64)
		if a == 0 || a > 1<<20 || a&(a-1) != 0 {
			return nil, fmt.Errorf("general.alignment is %v, not a power of two", v)
		}
		h.align = a
	}
	h.start = h.pad(uint64(r.at))
	return h, nil
}

// pad is where the next thing may begin.
func (h *header) pad(at uint64) uint64 { return (at + h.align - 1) &^ (h.align - 1) }

// fileSize is the least size of a file with the header.
func (h *header) fileSize() uint64 {
	whole := uint64(0)
	for _, t := range h.infos {
		size, _ := t.size() // 0 if it can't be told
		whole = max(whole, h.start+min(t.offset, 1<<62)+size)
	}
	return whole
}

func (h *header) adapter(data []byte) (*lora.Adapter, error) {
	meta := h.meta
	a := &lora.Adapter{}
	a.Architecture, _ = meta["general.architecture"].(string)
	if t, _ := meta["general.type"].(string); t != "adapter" {
		return nil, fmt.Errorf("general.type is %.20q, not \"adapter\"", t)
	}
	if t, _ := meta["adapter.type"].(string); t != "lora" {
		return nil, fmt.Errorf("adapter.type %.20q is not served (lora is)", t)
	}
	if v, ok := meta[invocationKey]; ok {
		list, ok := v.(numbers)
		tokens := list.int32s(lora.MaxInvocation + 1) // one too many is enough to refuse
		if !ok || tokens == nil {
			return nil, fmt.Errorf("%s is not an array of 32-bit integers", invocationKey)
		}
		var err error
		if a.Invocation, err = lora.Invocation(tokens); err != nil {
			return nil, fmt.Errorf("%s: %w", invocationKey, err)
		}
	}
	alpha, ok := meta["adapter.lora.alpha"].(float64)
	if _, given := meta["adapter.lora.alpha"]; given && !ok {
		return nil, fmt.Errorf("adapter.lora.alpha is not a float")
	}
	index := map[string]int{}
	at := uint64(0) // tensors come one after the other, as llama.cpp wants them
	for _, t := range h.infos {
		weight, which, ok := cutSuffix(t.name)
		if !ok {
			return nil, &lora.Error{Tensor: t.name, Reason: "not a tensor of a LoRA"}
		}
		m, err := t.matrix(data[min(h.start, uint64(len(data))):], at)
		if err != nil {
			return nil, &lora.Error{Tensor: t.name, Reason: err.Error()}
		}
		at = h.pad(at + uint64(len(m.Data)))
		i, ok := index[weight]
		if !ok {
			i = len(a.Pairs)
			index[weight] = i
			a.Pairs = append(a.Pairs, lora.Pair{Weight: weight})
		}
		slot := &a.Pairs[i].A
		if which == 'b' {
			slot = &a.Pairs[i].B
		}
		if slot.Data != nil {
			return nil, &lora.Error{Tensor: t.name, Reason: "occurs twice"}
		}
		*slot = m
	}
	for i := range a.Pairs {
		p := &a.Pairs[i]
		switch {
		case p.A.Data == nil:
			return nil, &lora.Error{Tensor: p.B.Name, Reason: "its lora_a is missing"}
		case p.B.Data == nil:
			return nil, &lora.Error{Tensor: p.A.Name, Reason: "its lora_b is missing"}
		}
		p.Scale = 1 // as llama.cpp takes an alpha of 0
		if alpha != 0 {
			p.Scale = float32(alpha / float64(p.Rank()))
		}
	}
	a.Tensors = len(h.infos)
	return a, nil
}

const invocationKey = "adapter.alora.invocation_tokens"

func cutSuffix(name string) (weight string, which byte, ok bool) {
	for _, s := range []string{".lora_a", ".lora_b"} {
		if w, ok := strings.CutSuffix(name, s); ok {
			return w, s[len(s)-1], true
		}
	}
	return name, 0, false
}

type tensorInfo struct {
	name   string
	dims   []uint64 // the fastest first
	typ    uint32
	offset uint64
}

// Types of ggml that are served.
var types = map[uint32]lora.DataType{0: lora.F32, 1: lora.F16, 30: lora.BF16}

// size is the bytes of the matrix, at most 1<<62.
func (t *tensorInfo) size() (uint64, error) {
	typ, ok := types[t.typ]
	if !ok {
		return 0, fmt.Errorf("ggml type %d is not served (F32, F16 and BF16 are)", t.typ)
	}
	if len(t.dims) != 2 || t.dims[0] == 0 || t.dims[1] == 0 || t.dims[0] > 1<<30 || t.dims[1] > 1<<30 {
		return 0, fmt.Errorf("shape %v is not that of a matrix", t.dims)
	}
	return t.dims[0] * t.dims[1] * uint64(typ.Size()), nil
}

// matrix finds the tensor in the tensors' data, where it has to begin at a certain byte.
func (t *tensorInfo) matrix(data []byte, at uint64) (lora.Matrix, error) {
	size, err := t.size()
	if err != nil {
		return lora.Matrix{}, err
	}
	if t.offset != at {
		return lora.Matrix{}, fmt.Errorf("is at offset %d, expected at %d", t.offset, at)
	}
	if total := uint64(len(data)); at > total || size > total-at {
		return lora.Matrix{}, fmt.Errorf("%d bytes at offset %d are past the end of the file", size, at)
	}
	return lora.Matrix{Name: t.name, Rows: int(t.dims[1]), Cols: int(t.dims[0]), Type: types[t.typ], Data: data[at : at+size]}, nil
}

// errEnds is a header that is longer than the bytes.
var errEnds = errors.New("the file ends")

// reader takes little-endian values off the bytes; after the first error it
// answers zeros.
type reader struct {
	data []byte
	at   int
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format+" at byte %d", append(args, r.at)...)
	}
}

func (r *reader) bytes(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.data)-r.at) {
		r.fail("%w", errEnds)
		return nil
	}
	b := r.data[r.at : r.at+int(n)]
	r.at += int(n)
	return b
}

func (r *reader) uint(size uint64) uint64 {
	var buf [8]byte
	copy(buf[:], r.bytes(size))
	return binary.LittleEndian.Uint64(buf[:])
}

func (r *reader) uint32() uint32 { return uint32(r.uint(4)) }
func (r *reader) uint64() uint64 { return r.uint(8) }

func (r *reader) name() string {
	n := r.uint64()
	if n > maxName {
		r.fail("a name of %d bytes", n)
		return ""
	}
	return string(r.bytes(n))
}

func (r *reader) metadata(n int) map[string]any {
	meta := map[string]any{}
	for range n {
		key := r.name()
		v := r.value(r.uint32(), false)
		if r.err != nil {
			return nil
		}
		if _, twice := meta[key]; twice {
			r.fail("metadata key %.60q occurs twice", key)
		}
		meta[key] = v
	}
	return meta
}

// Metadata types by number: the bytes of an element.
var fixed = map[uint32]uint64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

const (
	typeUint32  = 4
	typeInt32   = 5
	typeFloat32 = 6
	typeString  = 8
	typeArray   = 9
	typeFloat64 = 12
)

// numbers is a metadata array of elements of fixed size.
type numbers struct {
	of   uint32
	data []byte
}

// int32s returns the first n elements if they are of 32 bits, else nil.
func (a numbers) int32s(n int) []int64 {
	if a.of != typeUint32 && a.of != typeInt32 {
		return nil
	}
	out := []int64{}
	for b := a.data; len(b) > 0 && len(out) < n; b = b[4:] {
		v := binary.LittleEndian.Uint32(b)
		if a.of == typeInt32 {
			out = append(out, int64(int32(v)))
		} else {
			out = append(out, int64(v))
		}
	}
	return out
}

// value reads one metadata value: float64, string, uint64 for all integers, or numbers;
// arrays of strings and very long strings are passed over.
func (r *reader) value(typ uint32, inArray bool) any {
	switch typ {
	case typeFloat32:
		return float64(math.Float32frombits(r.uint32()))
	case typeFloat64:
		return math.Float64frombits(r.uint64())
	case typeString:
		text := r.bytes(r.uint64())
		if inArray || len(text) > maxName {
			return nil
		}
		return string(text)
	case typeArray:
		if inArray {
			r.fail("an array of arrays")
			return nil
		}
		of, n := r.uint32(), r.uint64()
		if size, ok := fixed[of]; ok {
			if n > math.MaxUint64/size {
				r.fail("an array of %d elements", n)
				return nil
			}
			return numbers{of, r.bytes(n * size)}
		}
		for ; n > 0 && r.err == nil; n-- { // each takes at least 8 bytes, so the file's end ends it
			r.value(of, true)
		}
		return nil
	}
	if size, ok := fixed[typ]; ok {
		return r.uint(size)
	}
	r.fail("unknown metadata type %d", typ)
	return nil
}

func (r *reader) tensorInfos(n int) []tensorInfo {
	var infos []tensorInfo
	for range n {
		t := tensorInfo{name: r.name()}
		nDims := r.uint32()
		if nDims > 4 {
			r.fail("tensor %.60q has %d dimensions", t.name, nDims)
		}
		if r.err != nil {
			return nil
		}
		for range nDims {
			t.dims = append(t.dims, r.uint64())
		}
		t.typ, t.offset = r.uint32(), r.uint64()
		infos = append(infos, t)
	}
	return infos
}
