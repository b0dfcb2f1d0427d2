package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"lorikeet/adapters/files"
	"lorikeet/adapters/lora"
	"lorikeet/backend"
)

// baseHeads are how much of a base's file Base reads, one after the other, until it has
// the header. That of a large vocabulary, with its merges, takes some 15 MB.
var baseHeads = []int64{1 << 20, maxHeader}

// Base tells what an adapter must fit, from the header of the base's file name in fsys:
// the tensors are not read. targets are the matrices that adapters may change, as the
// engine has them. Context is what the base was trained for; Fingerprint is empty, and
// the pool has neither slots nor a rank. Errors are *lora.Error, or fs.ErrNotExist.
func Base(fsys fs.FS, name string, targets []string) (*backend.ModelInfo, error) {
	h, _, err := baseHeader(fsys, name)
	if err != nil {
		return nil, err
	}
	info, err := h.base(targets)
	if err != nil {
		return nil, &lora.Error{File: name, Reason: err.Error()}
	}
	return info, nil
}

// baseHeader reads the header of a base, and tells the size of its file.
func baseHeader(fsys fs.FS, name string) (h *header, size int64, err error) {
	for _, n := range baseHeads {
		var data []byte
		if data, size, err = files.Head(fsys, name, n); err != nil {
			return nil, 0, err
		}
		if h, err = parseHeader(data); err == nil {
			break
		}
		if n == maxHeader && size > maxHeader && errors.Is(err, errEnds) {
			err = fmt.Errorf("a header of more than %d bytes", maxHeader)
		}
		if n == maxHeader || size <= n || !errors.Is(err, errEnds) {
			return nil, 0, &lora.Error{File: name, Reason: err.Error()}
		}
	}
	return h, size, nil
}

func (h *header) base(targets []string) (*backend.ModelInfo, error) {
	m := &backend.ModelInfo{}
	if t, ok := h.meta["general.type"].(string); ok && t != "model" {
		return nil, fmt.Errorf("general.type is %.20q, not \"model\"", t)
	}
	if n, _ := h.meta["split.count"].(uint64); n > 1 {
		return nil, fmt.Errorf("one of %d files of a split base: merge them into one", n)
	}
	m.Architecture, _ = h.meta["general.architecture"].(string)
	if m.Architecture == "" {
		return nil, errors.New("general.architecture is missing")
	}
	m.ChatTemplate, _ = h.meta["tokenizer.chat_template"].(string)
	var err error
	for _, n := range []struct {
		key string
		to  *int
	}{
		{"block_count", &m.Layers},
		{"context_length", &m.Context},
		{"attention.head_count", &m.Heads},
	} {
		if *n.to, err = h.number(m.Architecture + "." + n.key); err != nil {
			return nil, err
		}
	}
	m.KVHeads = m.Heads
	if key := m.Architecture + ".attention.head_count_kv"; h.meta[key] != nil {
		if m.KVHeads, err = h.number(key); err != nil {
			return nil, err
		}
	}
	return m, h.matrices(m, targets)
}

// number reads a positive number; of an array, which has one per layer, the first.
func (h *header) number(key string) (int, error) {
	const most = 1 << 31
	n := uint64(0)
	switch v := h.meta[key].(type) {
	case nil:
		return 0, fmt.Errorf("%s is missing", key)
	case uint64:
		n = v
	case numbers:
		if first := v.int32s(1); len(first) == 1 && first[0] > 0 {
			n = uint64(first[0])
		}
	}
	if n == 0 || n > most {
		return 0, fmt.Errorf("%s is not a positive number", key)
	}
	return int(n), nil
}

// matrices looks at what the header tells of the tensors.
func (h *header) matrices(m *backend.ModelInfo, targets []string) error {
	m.Pool.Type = backend.F32
	seen := map[string]bool{}
	for _, t := range h.infos {
		if seen[t.name] {
			return fmt.Errorf("tensor %.200q occurs twice", t.name)
		}
		seen[t.name] = true
		elements := uint64(1)
		for _, d := range t.dims {
			if d == 0 || d > 1<<40 || elements > (1<<50)/d {
				return fmt.Errorf("tensor %.200q: shape %v", t.name, t.dims)
			}
			elements *= d
		}
		if m.Parameters += elements; m.Parameters > 1<<60 {
			return fmt.Errorf("more than %d parameters", uint64(1)<<60)
		}
		dims := significant(t.dims)
		if len(dims) > 1 && t.typ != typeF32 {
			m.Pool.Type = backend.F16
		}
		switch {
		case t.name == embeddings && len(dims) == 2:
			m.Vocabulary = int(dims[1])
		case len(dims) == 2 && isTarget(t.name, targets):
			m.Pool.Weights = append(m.Pool.Weights, backend.Weight{Name: t.name, In: int(dims[0]), Out: int(dims[1])})
		}
	}
	if m.Vocabulary == 0 {
		return fmt.Errorf("%s is missing", embeddings)
	}
	return nil
}

const (
	embeddings = "token_embd.weight"
	typeF32    = 0 // of ggml
)

// significant leaves out the dimensions of 1 behind, as ggml does not count them.
func significant(dims []uint64) []uint64 {
	for len(dims) > 1 && dims[len(dims)-1] == 1 {
		dims = dims[:len(dims)-1]
	}
	return dims
}

// isTarget tells whether the weight, within a layer or not, is called like a target.
func isTarget(weight string, targets []string) bool {
	name, ok := strings.CutSuffix(weight, ".weight")
	if !ok {
		return false
	}
	if rest, ok := strings.CutPrefix(name, "blk."); ok {
		if _, within, ok := strings.Cut(rest, "."); ok {
			return slices.Contains(targets, within) || slices.Contains(targets, name)
		}
	}
	return slices.Contains(targets, name)
}
