package peft

import (
	"encoding/json"
	"fmt"
	"io/fs"

	"lorikeet/adapters/files"
	"lorikeet/adapters/lora"
	"lorikeet/adapters/safetensors"
)

// fileTensor is a tensor with the file that holds it.
type fileTensor struct {
	safetensors.Tensor
	file string
}

func (t *fileTensor) refuse(format string, args ...any) error {
	return &lora.Error{File: t.file, Tensor: t.Name, Reason: fmt.Sprintf(format, args...)}
}

// weights are the files of an adapter's tensors: one, or an index and the shards that it
// names.
type weights struct {
	index  *files.File // nil if there is one file
	shards []*files.File
}

// openWeights opens the files, of at most limit bytes in all. They are a's to close.
func openWeights(a *lora.Adapter, fsys fs.FS, limit int64) (*weights, error) {
	w := &weights{}
	names := []string{WeightsFile}
	if !there(fsys, WeightsFile) && there(fsys, indexFile) {
		var err error
		if w.index, err = readFile(a, fsys, indexFile, maxIndexSize); err != nil {
			return nil, err
		}
		if err := parse(w.index, func(data []byte) error { names = shardsOf(data); return nil }); err != nil {
			return nil, err
		}
		if len(names) == 0 {
			return nil, &lora.Error{File: indexFile, Reason: "names no files such as adapter_model-00001-of-00002.safetensors"}
		}
	}
	for _, name := range names {
		f, err := readFile(a, fsys, name, limit)
		if err != nil {
			return nil, err
		}
		limit -= int64(len(f.Data))
		w.shards = append(w.shards, f)
	}
	return w, nil
}

// files are all files, in the order in which the digest has them.
func (w *weights) files() []*files.File {
	if w.index == nil {
		return w.shards
	}
	return append([]*files.File{w.index}, w.shards...)
}

// parse returns the tensors of all files.
func (w *weights) parse() ([]fileTensor, error) {
	var all []fileTensor
	for _, f := range w.shards {
		err := parse(f, func(data []byte) error {
			tensors, err := safetensors.Parse(data)
			for _, t := range tensors {
				all = append(all, fileTensor{t, f.Name})
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if w.index == nil {
		return all, nil
	}
	return all, parse(w.index, func(data []byte) error { return checkIndex(data, all) })
}

// checkIndex holds what the index says of each tensor against where it was found.
func checkIndex(data []byte, found []fileTensor) error {
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("not the JSON expected: %w", err)
	}
	for _, t := range found {
		if named, ok := index.WeightMap[t.Name]; !ok || named != t.file {
			return fmt.Errorf("tensor %.200q is in %s, but not by the index", t.Name, t.file)
		}
		delete(index.WeightMap, t.Name)
	}
	for name, file := range index.WeightMap {
		return fmt.Errorf("tensor %.200q is not in %.100q", name, file)
	}
	return nil
}
