// Package peft reads an adapter directory as the peft library saves it:
// adapter_config.json and adapter_model.safetensors, in one file or in shards.
//
// [Read] reads an adapter for a base, [Describe] what it tells without one. naming.go
// says how each architecture's modules are called in GGUF. What can't be served is
// refused by name; nothing is skipped.
package peft

import (
	"errors"
	"fmt"
	"io/fs"

	"lorikeet/adapters/files"
	"lorikeet/adapters/guard"
	"lorikeet/adapters/lora"
	"lorikeet/adapters/safetensors"
	"lorikeet/backend"
)

// The files of an adapter.
const (
	ConfigFile  = "adapter_config.json"
	WeightsFile = "adapter_model.safetensors"
)

const maxConfigSize = 1 << 20

// Read reads the adapter in fsys, to be used with the base. It must be closed. digest is
// that of the files, if it is known, else "". Errors are *lora.Error.
func Read(fsys fs.FS, base *backend.ModelInfo, digest string) (*lora.Adapter, error) {
	a := &lora.Adapter{File: WeightsFile, Digest: digest}
	if err := readInto(a, fsys, base); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// readInto reads the adapter. What it opens is a's, also if it fails.
func readInto(a *lora.Adapter, fsys fs.FS, base *backend.ModelInfo) error {
	settings, err := readFile(a, fsys, ConfigFile, maxConfigSize)
	if err != nil {
		return err
	}
	w, err := openWeights(a, fsys, lora.MaxFileSize(base))
	if err != nil {
		return err
	}
	if w.index != nil {
		a.File = indexFile
	}
	if a.Digest != "" {
		return parseInto(a, settings, w, base)
	}
	digest := files.Digest(append([]*files.File{settings}, w.files()...)...)
	if err := parseInto(a, settings, w, base); err != nil {
		_, _ = digest() // of no use, but it reads the files
		return err
	}
	a.Digest, err = digest()
	return err
}

func parseInto(a *lora.Adapter, settings *files.File, w *weights, base *backend.ModelInfo) error {
	var c *config
	err := parse(settings, func(data []byte) (err error) { c, err = parseConfig(data); return err })
	if err != nil {
		return err
	}
	names, ok := architectures[base.Architecture]
	if !ok {
		return &lora.Error{File: ConfigFile, Reason: fmt.Sprintf("PEFT adapters for bases of architecture %q are not served; use a GGUF adapter", base.Architecture)}
	}
	tensors, err := w.parse()
	if err != nil {
		return err
	}
	if c.Invocation != nil {
		if a.Invocation, err = lora.Invocation(c.Invocation); err != nil {
			return &lora.Error{File: ConfigFile, Reason: "alora_invocation_tokens: " + err.Error()}
		}
	}
	return collect(a, tensors, c, names, base)
}

// Rank is the largest rank that the config of the adapter in fsys names. Nothing else
// is read or checked.
func Rank(fsys fs.FS) (float64, error) {
	data, size, err := files.Head(fsys, ConfigFile, maxConfigSize)
	if err == nil && size > maxConfigSize {
		err = fmt.Errorf("%d bytes are over the limit of %d", size, maxConfigSize)
	}
	if err != nil {
		return 0, err
	}
	c, err := parseConfig(data)
	if err != nil {
		return 0, &lora.Error{File: ConfigFile, Reason: err.Error()}
	}
	return c.largestRank(), nil
}

// readFile opens a file that a will close.
func readFile(a *lora.Adapter, fsys fs.FS, name string, limit int64) (*files.File, error) {
	f, err := files.Open(fsys, name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		reason := "is missing"
		if there(fsys, pickleFile) && name == WeightsFile {
			reason = "is missing; adapter_model.bin is a pickle, which is not read: save with safe_serialization=True"
		}
		return nil, &lora.Error{File: name, Reason: reason}
	}
	if err != nil {
		return nil, err
	}
	a.Own(f.Close)
	return f, nil
}

// parse runs a parser of a file.
func parse(f *files.File, parser func(data []byte) error) error {
	if err := guard.Run(func() error { return parser(f.Data) }); err != nil {
		return &lora.Error{File: f.Name, Reason: err.Error()}
	}
	return nil
}

// collect pairs up the tensors.
func collect(a *lora.Adapter, tensors []fileTensor, c *config, names naming, base *backend.ModelInfo) error {
	type half struct{ a, b *fileTensor }
	halves := make([]half, 0, len(tensors)/2)
	index := map[string]int{} // of halves, by weight
	modules := []string{}
	for i := range tensors {
		t := &tensors[i]
		module, which, ok := tensorName(t.Name)
		if !ok {
			return t.refuse("%s", whyNot(t.Name))
		}
		weight, err := names.weight(module)
		if err != nil {
			return t.refuse("%v", err)
		}
		matrix, err := matrixOf(t.Tensor)
		if err != nil {
			return t.refuse("%v", err)
		}
		i, ok := index[weight]
		if !ok {
			i = len(a.Pairs)
			index[weight] = i
			a.Pairs = append(a.Pairs, lora.Pair{Weight: weight})
			modules = append(modules, module)
			halves = append(halves, half{})
		}
		slot, own := &a.Pairs[i].A, &halves[i].a
		if which == 'B' {
			slot, own = &a.Pairs[i].B, &halves[i].b
			matrix.Heads = names.heads(weight, base)
		}
		if *own != nil {
			return t.refuse("a second tensor for %s", weight)
		}
		*slot, *own = matrix, t
	}
	for i, h := range halves {
		p := &a.Pairs[i]
		switch {
		case h.a == nil:
			return h.b.refuse("its lora_A is missing")
		case h.b == nil:
			return h.a.refuse("its lora_B is missing")
		}
		rank, scale := c.scale(modules[i])
		if rank != p.Rank() {
			return h.a.refuse("rank %d, but %s says %d", p.Rank(), ConfigFile, rank)
		}
		p.Scale = float32(scale)
	}
	a.Tensors = len(tensors)
	return nil
}

func matrixOf(t safetensors.Tensor) (lora.Matrix, error) {
	types := map[string]lora.DataType{"F32": lora.F32, "F16": lora.F16, "BF16": lora.BF16}
	typ, ok := types[t.Type]
	if !ok {
		return lora.Matrix{}, fmt.Errorf("type %s is not served (F32, F16 and BF16 are)", t.Type)
	}
	if len(t.Shape) != 2 || t.Shape[0] == 0 || t.Shape[1] == 0 {
		return lora.Matrix{}, fmt.Errorf("shape %v is not that of a matrix", t.Shape)
	}
	return lora.Matrix{Name: t.Name, Rows: t.Shape[0], Cols: t.Shape[1], Type: typ, Data: t.Data}, nil
}
