package gguf

import (
	"io/fs"

	"lorikeet/adapters/files"
)

// Description is what the header of an adapter file tells beside its tensors. What it
// does not tell is zero.
type Description struct {
	Base  string // its name
	Alpha float64
}

// Describe reads the header of an adapter file, for people.
func Describe(fsys fs.FS, name string) Description {
	var d Description
	for _, n := range headSizes {
		data, _, err := files.Head(fsys, name, n)
		if err != nil {
			return d
		}
		if h, err := parseHeader(data); err == nil {
			d.Base, _ = h.meta["general.base_model.0.name"].(string)
			d.Alpha, _ = h.meta["adapter.lora.alpha"].(float64)
			return d
		}
	}
	return d
}
