package adapters

import (
	"errors"
	"io/fs"
	"math"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"lorikeet/adapters/gguf"
	"lorikeet/adapters/lora"
	"lorikeet/adapters/peft"
	"lorikeet/backend"
)

// Inspection is what an adapter's files tell a person. What they do not tell is zero.
type Inspection struct {
	Format       string // "PEFT" or "GGUF"
	Version      string
	Base         string // the name of the base that it was made for
	Architecture string // of the base
	MinRank      int
	MaxRank      int
	MinScale     float64 // by which what it learned is multiplied
	MaxScale     float64
	Alpha        float64
	RSLoRA       bool
	Targets      []string // without layers, sorted; as a PEFT adapter's files call them
	Layers       []int    // sorted
	Tensors      int
	Types        []string // of elements, sorted
	Bytes        int64
	Invocation   []backend.Token

	// Refusals are why it can't be served: with the base, if one was given, else with any.
	// Errors are *lora.Error.
	Refusals []error
}

// Inspect looks at a PEFT directory or a .gguf adapter, anywhere on the disk, without
// serving it. base may be nil: then what depends on it is not checked; of its pool the
// rank does not count. Errors are those of opening the path.
func Inspect(name string, base *backend.ModelInfo) (*Inspection, error) {
	folder, child, err := openParent(name)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	p := placeIn(folder, child)
	if err := p.exists(); err != nil {
		return nil, err
	}
	v, err := p.open()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	stamp, err := v.stamp()
	if err != nil {
		return nil, err
	}
	i := &Inspection{Bytes: stamp.Bytes}
	if p.gguf {
		i.gguf(v, path.Base(p.path))
	} else {
		i.peft(v)
	}
	slices.Sort(i.Layers)
	i.Layers = slices.Compact(i.Layers)
	if base != nil {
		i.fit(v, base)
	}
	return i, nil
}

func (i *Inspection) peft(dir fs.FS) {
	d := peft.Describe(dir)
	i.Format, i.Version, i.Base, i.Alpha, i.RSLoRA, i.Invocation = "PEFT", d.Digest, d.Base, d.Alpha, d.RSLoRA, d.Invocation
	i.Tensors, i.Types, i.Refusals = d.Tensors, d.Types, d.Refusals
	for _, m := range d.Modules {
		i.pair(m.Name, m.Rank, m.Scale)
		i.Targets = append(i.Targets, path.Ext("." + m.Name)[1:])
	}
	slices.Sort(i.Targets)
	i.Targets = slices.Compact(i.Targets)
}

func (i *Inspection) gguf(dir fs.FS, name string) {
	i.Format = "GGUF"
	d := gguf.Describe(dir, name)
	i.Base, i.Alpha = d.Base, d.Alpha
	a, err := gguf.Read(dir, name, math.MaxInt64, "")
	if err != nil {
		i.refuse(err)
		return
	}
	defer a.Close()
	i.Version, i.Architecture, i.Invocation, i.Targets, i.Tensors = a.Digest, a.Architecture, a.Invocation, a.Targets(), a.Tensors
	for k := range a.Pairs {
		p := &a.Pairs[k]
		i.pair(p.Weight, p.Rank(), float64(p.Scale))
		i.Types = append(i.Types, typeNames[p.A.Type], typeNames[p.B.Type])
	}
	slices.Sort(i.Types)
	i.Types = slices.Compact(i.Types)
}

var typeNames = map[lora.DataType]string{lora.F32: "F32", lora.F16: "F16", lora.BF16: "BF16"}

var layerOf = regexp.MustCompile(`\b(?:layers|blk)\.([0-9]{1,4})\.`)

// pair counts a module or weight that is changed.
func (i *Inspection) pair(name string, rank int, scale float64) {
	if i.MaxRank == 0 { // the first
		i.MinRank, i.MinScale, i.MaxScale = rank, scale, scale
	}
	i.MinRank, i.MaxRank = min(i.MinRank, rank), max(i.MaxRank, rank)
	i.MinScale, i.MaxScale = min(i.MinScale, scale), max(i.MaxScale, scale)
	if m := layerOf.FindStringSubmatch(name); m != nil {
		layer, _ := strconv.Atoi(m[1]) // digits
		i.Layers = append(i.Layers, layer)
	}
}

// refuse keeps an error, unless it says what another one said.
func (i *Inspection) refuse(err error) {
	if !slices.ContainsFunc(i.Refusals, func(e error) bool { return e.Error() == err.Error() }) {
		i.Refusals = append(i.Refusals, err)
	}
}

// fit checks the adapter against a base as a load does, but goes on after a refusal.
func (i *Inspection) fit(v *view, base *backend.ModelInfo) {
	info := *base
	info.Pool.Rank = MaxRank
	a, err := v.read(&info, "")
	if err != nil {
		i.refuse(err)
		return
	}
	defer a.Close()
	i.Version = a.Digest
	if i.Architecture == "" {
		i.Architecture = info.Architecture
	}
	if len(a.Pairs) == 0 {
		i.refuse(a.Check(&info))
		return
	}
	fits := true
	for k := range a.Pairs {
		one := lora.Adapter{File: a.File, Architecture: a.Architecture, Invocation: a.Invocation, Pairs: a.Pairs[k : k+1]}
		if err := one.Check(&info); err != nil {
			i.refuse(err)
			fits = false
		}
	}
	if !fits {
		return
	}
	info.Pool.Rank = a.Rank()
	image := make([]byte, info.Pool.ImageSize())
	if err := lora.Image(image, &info, []lora.Scaled{{Adapter: a, Scale: 1}}); err != nil { // only its values can be wrong now
		i.refuse(err)
	}
}

// ReadBase reads the header of a base in GGUF, to inspect adapters with. targets are
// the matrices that they may change, as the engine has them.
func ReadBase(name string, targets []string) (*backend.ModelInfo, error) {
	real, err := filepath.EvalSymlinks(name) // an operator's link may lead anywhere
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoPath
	}
	if err != nil {
		return nil, err
	}
	folder, child, err := openParent(real)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	return gguf.Base(folder.FS, child, targets)
}
