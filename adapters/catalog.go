package adapters

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"lorikeet/adapters/gguf"
	"lorikeet/adapters/lora"
	"lorikeet/adapters/peft"
	"lorikeet/backend"
)

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)

// ValidName tells whether a base or an adapter may be called so.
func ValidName(name string) bool { return validName.MatchString(name) && !strings.Contains(name, "..") }

// Catalog knows which adapters exist in a folder: every child that is a PEFT
// directory or a .gguf file. It holds a name for each, not its content.
type Catalog struct {
	fsys fs.FS

	mu      sync.Mutex
	sources map[string]source
	names   []string // of sources, sorted
	scanned time.Time
	warned  map[string]bool // entries that were complained of
}

// rescan is how long what was seen of the folder, which may be large, is taken for
// what is there.
const rescan = time.Second

// source is where an adapter's files are.
type source struct {
	path string // within the catalog's fsys
	gguf bool
}

// NewCatalog reads a folder. fsys may be nil: then there are no adapters.
func NewCatalog(fsys fs.FS) (*Catalog, error) {
	c := &Catalog{fsys: fsys, sources: map[string]source{}, warned: map[string]bool{}}
	return c, c.scan()
}

// Names returns the adapters' names, sorted.
func (c *Catalog) Names() []string {
	c.refresh()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.names)
}

// nameOf returns the name at place id of Names.
func (c *Catalog) nameOf(id int) (string, bool) {
	c.refresh()
	c.mu.Lock()
	defer c.mu.Unlock()
	if id < 0 || id >= len(c.names) {
		return "", false
	}
	return c.names[id], true
}

// find looks a name up; a name that is not known may have come since the last scan.
func (c *Catalog) find(name string) (source, bool) {
	s, ok := c.source(name)
	if ok || !ValidName(name) {
		return s, ok
	}
	c.refresh()
	return c.source(name)
}

func (c *Catalog) source(name string) (source, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.sources[name]
	return s, ok
}

// refresh reads the folder anew, unless that was done just now.
func (c *Catalog) refresh() {
	c.mu.Lock()
	fresh := time.Since(c.scanned) < rescan
	c.mu.Unlock()
	if fresh {
		return
	}
	if err := c.scan(); err != nil {
		slog.Warn("adapters: can't read the folder", "err", err)
	}
}

// scan reads the folder anew. Entries that are no adapters are passed over. The
// mutex is not held while the folder is read, which may be slow.
func (c *Catalog) scan() error {
	if c.fsys == nil {
		return nil
	}
	children, err := fs.ReadDir(c.fsys, ".")
	if err != nil {
		return err
	}
	found := map[string]source{}
	complaints := map[string]string{} // by entry
	for _, child := range children {
		name := child.Name()
		s := source{path: name}
		if base, ok := strings.CutSuffix(name, ".gguf"); ok {
			name, s.gguf = base, true
		} else if _, err := fs.Stat(c.fsys, path.Join(name, peft.ConfigFile)); err != nil {
			continue
		}
		if !ValidName(name) {
			complaints[child.Name()] = "not a name that can be served"
			continue
		}
		if _, twice := found[name]; twice {
			complaints[child.Name()] = "another adapter has this name and is served"
			continue
		}
		found[name] = s
	}
	names := slices.Sorted(maps.Keys(found))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sources, c.names, c.scanned = found, names, time.Now()
	for entry, what := range complaints {
		if !c.warned[entry] {
			c.warned[entry] = true
			slog.Warn("adapters: "+what, "entry", entry)
		}
	}
	return nil
}

// stamp changes when the files of an adapter are replaced. It costs a look at the
// folder, not at the content. A missing file is for read to complain about.
func (c *Catalog) stamp(s source) (string, error) {
	files := []string{s.path}
	if !s.gguf {
		files = []string{path.Join(s.path, peft.ConfigFile), path.Join(s.path, peft.WeightsFile)}
	}
	var b strings.Builder
	for _, f := range files {
		st, err := fs.Stat(c.fsys, f)
		if errors.Is(err, fs.ErrNotExist) {
			b.WriteString("- ")
			continue
		}
		if err != nil {
			return "", &lora.Error{File: path.Base(f), Reason: "can't be read"}
		}
		fmt.Fprintf(&b, "%d/%d ", st.ModTime().UnixNano(), st.Size())
	}
	return b.String(), nil
}

// read reads an adapter's files. Errors are *lora.Error.
func (c *Catalog) read(s source, base *backend.ModelInfo) (*lora.Adapter, error) {
	if s.gguf {
		a, err := gguf.Read(c.fsys, s.path, lora.MaxFileSize(base))
		if errors.Is(err, fs.ErrNotExist) {
			err = &lora.Error{File: s.path, Reason: "is missing"}
		}
		return a, err
	}
	sub, err := fs.Sub(c.fsys, s.path)
	if err != nil {
		return nil, &lora.Error{File: s.path, Reason: "can't be read"}
	}
	return peft.Read(sub, base)
}
