package convert

import (
	"context"
	"io"
	"io/fs"

	"lorikeet/adapters/gguf"
	"lorikeet/adapters/peft"
	"lorikeet/backend"
)

// Adapter converts the PEFT adapter in dir, made for the base, into llama.cpp's adapter
// GGUF at path. The base's pool needs no rank. Errors name the file and the reason.
func Adapter(ctx context.Context, dir fs.FS, base *backend.ModelInfo, path string, o Options) (*Summary, error) {
	rank, err := peft.Rank(dir)
	if err != nil {
		return nil, missing(peft.ConfigFile, err)
	}
	info := *base
	info.Pool.Rank = int(min(rank, maxRank)) // what is read is bounded by it
	a, err := peft.Read(dir, &info, "")
	if err != nil {
		return nil, err
	}
	defer a.Close()
	if err := a.Check(&info); err != nil {
		return nil, err
	}
	more := []gguf.Entry{{Key: "general.name", Value: o.name(path)}}
	if name := peft.Describe(dir).Base; name != "" {
		more = append(more, gguf.Entry{Key: "general.base_model.count", Value: uint32(1)}, gguf.Entry{Key: "general.base_model.0.name", Value: name})
	}
	total := int64(0)
	for i := range a.Pairs {
		total += int64(len(a.Pairs[i].A.Data) + len(a.Pairs[i].B.Data))
	}
	size, err := write(ctx, path, total, o, func(w io.Writer) error { return gguf.Write(w, a, info.Architecture, more...) })
	if err != nil {
		return nil, err
	}
	return &Summary{Architecture: info.Architecture, Tensors: a.Tensors, Rank: a.Rank(), Bytes: size}, nil
}

const maxRank = 1 << 14
