// Package convert turns what Hugging Face's libraries save into GGUF: a base
// ([Base]) and a PEFT adapter ([Adapter]).
//
// How an architecture's tensors and figures are called in GGUF stands in
// architectures.go and metadata.go. What llama.cpp would compute otherwise than
// transformers is refused, or told as a note. Nothing is quantized here: llama.cpp's
// own tools do that.
package convert

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"lorikeet/adapters/gguf"
	"lorikeet/adapters/guard"
	"lorikeet/adapters/lora"
)

// Options say how to convert.
type Options struct {
	Name  string // general.name, as far as llama.cpp leaves the choice; "" takes that of the file
	Type  string // of a base's matrices: "f32", "f16", "bf16", or "" as they are stored
	Force bool   // write over a file that exists

	Progress func(written, total int64) // bytes of tensors, called now and then; may be nil
}

// Summary is what was written.
type Summary struct {
	Architecture string
	Tensors      int
	Rank         int // the largest, of an adapter
	Bytes        int64
	Types        []string // of a base's matrices, sorted
	Notes        []string // what a user should know
}

// Base converts the Hugging Face base in dir (config.json, tokenizer, *.safetensors)
// into GGUF at path. Errors name the file and the reason.
func Base(ctx context.Context, dir fs.FS, path string, o Options) (*Summary, error) {
	typ, err := elementType(o.Type)
	if err != nil {
		return nil, err
	}
	c, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	a := architectures[c.Architectures[0]]
	meta, notes, err := a.metadata(c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", configFile, err)
	}
	shards, err := openShards(dir)
	defer func() {
		for _, s := range shards {
			s.close()
		}
	}()
	if err != nil {
		return nil, err
	}
	sources, err := a.sources(c, shards, typ)
	if err != nil {
		return nil, err
	}
	v, err := readVocabulary(dir, c)
	if err != nil {
		return nil, err
	}
	meta["general.name"] = v.name(o.name(path))
	meta["general.file_type"] = sources.fileType()
	meta[a.name+".vocab_size"] = uint32(len(v.tokens))
	v.describe(meta)
	tensors := sources.tensors()
	total := int64(0)
	for i := range tensors {
		total += tensors[i].Size()
	}
	size, err := write(ctx, path, total, o, func(w io.Writer) error { return gguf.WriteFile(w, meta.entries(), tensors) })
	if err != nil {
		return nil, err
	}
	return &Summary{Architecture: a.name, Tensors: len(tensors), Types: matrixTypes(tensors), Bytes: size, Notes: append(notes, v.notes...)}, nil
}

func (o *Options) name(path string) string {
	if o.Name != "" {
		return o.Name
	}
	return strings.TrimSuffix(filepath.Base(path), ".gguf")
}

// write writes a file whose tensors have so many bytes.
func write(ctx context.Context, path string, total int64, o Options, content func(io.Writer) error) (size int64, err error) {
	return create(path, o.Force, func(w io.Writer) error {
		return guard.Run(func() error {
			return content(&watched{w: w, ctx: ctx, total: total, progress: o.Progress})
		})
	})
}

// elementType reads Options.Type; nil is as stored.
func elementType(name string) (*lora.DataType, error) {
	if name == "" {
		return nil, nil
	}
	t, ok := dataTypes[strings.ToUpper(name)]
	if !ok {
		return nil, fmt.Errorf("type %.20q is none of f32, f16 and bf16", name)
	}
	return &t, nil
}
