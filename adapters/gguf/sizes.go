package gguf

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"lorikeet/adapters/lora"
	"lorikeet/backend"
	"lorikeet/backend/memory"
)

// Sizes tells how large the parts of a base are, from the header of the base's file name
// in fsys. targets are the matrices that adapters may change, as the engine has them.
// Errors are those of Base.
func Sizes(fsys fs.FS, name string, targets []string) (*memory.Model, error) {
	h, size, err := baseHeader(fsys, name)
	if err != nil {
		return nil, err
	}
	m, err := h.sizes(targets, size)
	if err != nil {
		return nil, &lora.Error{File: name, Reason: err.Error()}
	}
	return m, nil
}

func (h *header) sizes(targets []string, fileSize int64) (*memory.Model, error) {
	info, err := h.base(targets)
	if err != nil {
		return nil, err
	}
	const maxLayers = 1 << 16
	if info.Layers > maxLayers {
		return nil, fmt.Errorf("%d layers (limit %d)", info.Layers, maxLayers)
	}
	m := &memory.Model{
		Context: info.Context, Heads: info.Heads, Vocabulary: info.Vocabulary, F32: info.Pool.Type == backend.F32,
		Layers: make([]memory.Layer, info.Layers), Tied: true,
	}
	key := info.Architecture + "."
	if m.Hidden, err = h.number(key + "embedding_length"); err != nil {
		return nil, err
	}
	if m.FeedForward, err = h.largest(key+"feed_forward_length", 4*m.Hidden); err != nil {
		return nil, err
	}
	if err := h.cacheWidths(m, info, key); err != nil {
		return nil, err
	}
	bytes, err := h.tensorBytes(fileSize)
	if err != nil {
		return nil, err
	}
	for i, t := range h.infos {
		if len(significant(t.dims)) > 1 && !slices.Contains(plainTypes, t.typ) {
			m.Quantized = true
		}
		layer, inLayer := layerOf(t.name)
		switch {
		case inLayer && layer < info.Layers:
			m.Layers[layer].Bytes += bytes[i]
		case strings.HasPrefix(t.name, "token_") || strings.HasPrefix(t.name, "position_"):
			m.Input += bytes[i]
		default:
			m.Output += bytes[i]
		}
		if t.name == "output.weight" {
			m.Tied = false
		}
	}
	for _, w := range info.Pool.Weights {
		if layer, ok := layerOf(w.Name); ok && layer < info.Layers {
			m.Layers[layer].Targets = append(m.Layers[layer].Targets, w)
		} else if w.Name != embeddings {
			m.Targets = append(m.Targets, w)
		}
	}
	return m, nil
}

// plainTypes of ggml are computed with as they stand in the file: F32, F16 and BF16.
var plainTypes = []uint32{typeF32, 1, 30}

// cacheWidths fills in what a token takes of the cache in each layer.
func (h *header) cacheWidths(m *memory.Model, info *backend.ModelInfo, key string) error {
	head := m.Hidden / info.Heads
	var widths [2]int // of a head's key and value
	for i, k := range []string{"attention.key_length", "attention.value_length"} {
		widths[i] = head
		if h.meta[key+k] != nil {
			var err error
			if widths[i], err = h.number(key + k); err != nil {
				return err
			}
		}
	}
	heads, ok := h.meta[key+"attention.head_count_kv"].(numbers)
	each := heads.int32s(len(m.Layers))
	for i := range m.Layers {
		n := info.KVHeads
		if ok && i < len(each) {
			n = max(0, int(each[i]))
		}
		m.Layers[i].Key, m.Layers[i].Value = n*widths[0], n*widths[1]
	}
	return nil
}

// largest reads a positive number, the largest of an array, or what to take if there is none.
func (h *header) largest(key string, otherwise int) (int, error) {
	const most = 1 << 20
	if list, ok := h.meta[key].(numbers); ok {
		n := 0
		for _, v := range list.int32s(most) {
			n = max(n, int(v))
		}
		return n, nil
	}
	if h.meta[key] == nil {
		return otherwise, nil
	}
	return h.number(key)
}

// tensorBytes are the bytes from each tensor to the next in the file, which tells the
// size of any type.
func (h *header) tensorBytes(fileSize int64) ([]int64, error) {
	order := make([]int, len(h.infos))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(h.infos[a].offset, h.infos[b].offset) })
	bytes := make([]int64, len(h.infos))
	end := uint64(max(0, fileSize-int64(h.start))) // from where the tensors begin
	for _, i := range slices.Backward(order) {
		t := h.infos[i]
		if t.offset > end {
			return nil, fmt.Errorf("tensor %.200q begins at %d, behind the end of the file", t.name, t.offset)
		}
		bytes[i] = int64(end - t.offset)
		end = t.offset
	}
	return bytes, nil
}

// layerOf is the layer that a tensor belongs to.
func layerOf(tensor string) (int, bool) {
	rest, ok := strings.CutPrefix(tensor, "blk.")
	if !ok {
		return 0, false
	}
	number, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(number)
	return n, err == nil && n >= 0
}
