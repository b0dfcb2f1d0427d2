package peft

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"lorikeet/adapters/files"
	"lorikeet/adapters/lora"
	"lorikeet/backend"
)

// Description is what the files of an adapter tell by themselves, for people. What is
// to be served is read by Read.
type Description struct {
	Base       string // as the config names it
	Alpha      float64
	RSLoRA     bool
	Invocation []backend.Token
	Modules    []Module // sorted by name
	Tensors    int
	Types      []string // of elements, sorted
	Digest     string   // as Read gives it
	Refusals   []error  // *lora.Error: why no base can be served with it
}

// Module is a module of the base that an adapter changes.
type Module struct {
	Name  string // as the files call it
	Rank  int
	Scale float64 // by which B·A is multiplied; 0 if the config is refused

	file string
	a, b bool // its matrices are there
}

// Describe reads as much as it can of the adapter in fsys.
func Describe(fsys fs.FS) *Description {
	d := &Description{}
	var opened lora.Adapter // holds the files
	defer opened.Close()
	var c *config
	settings, err := readFile(&opened, fsys, ConfigFile, maxConfigSize)
	if err == nil {
		err = parse(settings, func(data []byte) (err error) { c, err = d.settings(data); return err })
	}
	d.refuse(err)
	w, err := openWeights(&opened, fsys, maxDescribed)
	if err == nil {
		err = d.weights(w, c)
	}
	d.refuse(err)
	if settings != nil && w != nil {
		d.Digest, err = files.Digest(append([]*files.File{settings}, w.files()...)...)()
		d.refuse(err)
	}
	return d
}

// maxDescribed bounds the files of tensors, which no base bounds here, in bytes.
const maxDescribed = 64 << 30

// weights reads the tensors. c is nil if the config is refused.
func (d *Description) weights(w *weights, c *config) error {
	tensors, err := w.parse()
	modules, types := map[string]*Module{}, map[string]bool{}
	for _, t := range tensors {
		types[t.Type] = true
		d.refuse(describe(modules, &t))
	}
	d.Tensors, d.Types = len(tensors), slices.Sorted(maps.Keys(types))
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		m := modules[name]
		d.refuse(m.check(c))
		d.Modules = append(d.Modules, *m)
	}
	return err
}

// describe adds a tensor to what is known of its module.
func describe(modules map[string]*Module, t *fileTensor) error {
	name, which, ok := tensorName(t.Name)
	if !ok {
		return t.refuse("%s", whyNot(t.Name))
	}
	matrix, err := matrixOf(t.Tensor)
	if err != nil {
		return t.refuse("%v", err)
	}
	m := modules[name]
	if m == nil {
		m = &Module{Name: name, file: t.file}
		modules[name] = m
	}
	if which == 'A' {
		m.a, m.Rank = true, matrix.Rows
	} else {
		m.b = true
	}
	return nil
}

// check looks for what is wrong with a module, whatever the base, and finds its scale.
func (m *Module) check(c *config) error {
	refused := func(format string, args ...any) error {
		return &lora.Error{File: m.file, Reason: fmt.Sprintf("module %q: ", m.Name) + fmt.Sprintf(format, args...)}
	}
	if !m.a || !m.b {
		return refused("one of lora_A and lora_B is missing")
	}
	if c == nil {
		return nil
	}
	rank, scale := c.scale(m.Name)
	if rank != m.Rank {
		return refused("rank %d, but %s says %d", m.Rank, ConfigFile, rank)
	}
	m.Scale = scale
	return nil
}

func (d *Description) refuse(err error) {
	if err != nil {
		d.Refusals = append(d.Refusals, err)
	}
}

// settings reads the config. What people want to know is read of a refused one too.
func (d *Description) settings(data []byte) (*config, error) {
	_ = json.Unmarshal(data, &struct { // parseConfig tells what is wrong
		Base   *string  `json:"base_model_name_or_path"`
		Alpha  *float64 `json:"lora_alpha"`
		RSLoRA *bool    `json:"use_rslora"`
	}{&d.Base, &d.Alpha, &d.RSLoRA})
	c, err := parseConfig(data)
	if err != nil {
		return nil, err
	}
	d.Alpha = c.Alpha
	if c.Invocation != nil {
		if d.Invocation, err = lora.Invocation(c.Invocation); err != nil {
			return nil, fmt.Errorf("alora_invocation_tokens: %w", err)
		}
	}
	return c, nil
}
