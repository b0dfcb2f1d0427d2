package adapters

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"lorikeet/adapters/files"
	"lorikeet/adapters/gguf"
	"lorikeet/adapters/lora"
	"lorikeet/adapters/peft"
	"lorikeet/backend"
)

// Folder is a directory that adapters may lie in. No link leads out of it.
type Folder struct {
	FS   fs.FS
	Path string // absolute; "" if it is not on a disk: then it is not watched

	real string // Path with its links followed
	root *os.Root
}

// OpenFolder opens a directory. It must be closed.
func OpenFolder(dir string) (*Folder, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(real)
	if err != nil {
		return nil, err
	}
	return &Folder{FS: files.Root(root), Path: abs, real: real, root: root}, nil
}

// openParent opens the directory that a path is in, and returns its name there.
func openParent(name string) (*Folder, string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, "", err
	}
	f, err := OpenFolder(filepath.Dir(abs))
	return f, filepath.Base(abs), err
}

// Close gives the directory back.
func (f *Folder) Close() {
	if f.root != nil {
		f.root.Close()
	}
}

// within returns the path, within the folder, of an absolute path.
func (f *Folder) within(abs string) (string, bool) {
	if f.Path == "" {
		return "", false
	}
	for _, top := range []string{f.Path, f.real} {
		if rel, err := filepath.Rel(top, abs); err == nil && filepath.IsLocal(rel) {
			return filepath.ToSlash(rel), true
		}
	}
	return "", false
}

// place is where an adapter's files are, or may come to be.
type place struct {
	folder *Folder
	path   string // within it
	gguf   bool   // a file, else a directory
}

func placeIn(f *Folder, name string) place {
	return place{folder: f, path: name, gguf: strings.HasSuffix(name, ".gguf")}
}

// resolve finds the place that a path names, in the folders where adapters may be. An
// error is ErrPath.
func resolve(folders []*Folder, name string) (place, error) {
	if filepath.IsAbs(name) {
		for _, f := range folders {
			if rel, ok := f.within(filepath.Clean(name)); ok && fs.ValidPath(rel) {
				return placeIn(f, rel), nil
			}
		}
		return place{}, ErrPath
	}
	rel := path.Clean(filepath.ToSlash(name))
	if name == "" || len(folders) == 0 || !filepath.IsLocal(rel) || !fs.ValidPath(rel) || strings.ContainsAny(rel, "\x00\\") {
		return place{}, ErrPath
	}
	for _, f := range folders {
		if _, err := fs.Stat(f.FS, rel); err == nil {
			return placeIn(f, rel), nil
		}
	}
	return placeIn(folders[0], rel), nil
}

// view is the directory of a place's files, opened: it stays the same one, whatever is
// renamed meanwhile. It must be closed. What is said of the files has no path.
type view struct {
	fs.FS
	of   place
	root *os.Root // nil if it is not on a disk
}

// open errors are fs.ErrNotExist and *lora.Error.
func (p place) open() (*view, error) {
	dir := p.path
	if p.gguf {
		dir = path.Dir(dir)
	}
	v := &view{of: p}
	var err error
	if p.folder.root == nil {
		v.FS, err = fs.Sub(p.folder.FS, dir)
	} else if v.root, err = p.folder.root.OpenRoot(dir); err == nil {
		v.FS = files.Root(v.root)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fs.ErrNotExist
	case err != nil:
		return nil, &lora.Error{File: path.Base(p.path), Reason: "can't be opened"}
	}
	return v, nil
}

// Close gives the directory back.
func (v *view) Close() {
	if v.root != nil {
		v.root.Close()
	}
}

// exists tells whether there is anything of an adapter. Errors are ErrNoPath, ErrPath
// (a link leads out of the folder) and *lora.Error.
func (p place) exists() error {
	st, err := fs.Stat(p.folder.FS, p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ErrNoPath
	case err != nil:
		return ErrPath
	case p.gguf || st.IsDir():
		return nil
	}
	return &lora.Error{File: path.Base(p.path), Reason: "neither a PEFT directory nor a .gguf file"}
}

// stamp describes the files as they are now. Its key is "" if there are none.
func (p place) stamp() (files.Stamp, error) {
	v, err := p.open()
	if errors.Is(err, fs.ErrNotExist) {
		return files.Stamp{}, nil
	}
	if err != nil {
		return files.Stamp{}, err
	}
	defer v.Close()
	return v.stamp()
}

// stamp is that of a place.
func (v *view) stamp() (files.Stamp, error) {
	names := []string{path.Base(v.of.path)}
	var err error
	if !v.of.gguf {
		if names, err = peft.Files(v.FS); errors.Is(err, fs.ErrNotExist) {
			return files.Stamp{}, nil
		}
	}
	if err == nil {
		var s files.Stamp
		if s, err = files.StampOf(v.FS, names...); err == nil {
			return s, nil
		}
	}
	return files.Stamp{}, &lora.Error{File: path.Base(v.of.path), Reason: "can't be read"}
}

// incomplete says what is missing of files that are being copied, or "".
func (v *view) incomplete() string {
	if v.of.gguf {
		return gguf.Incomplete(v.FS, path.Base(v.of.path))
	}
	return peft.Incomplete(v.FS)
}

// read reads the adapter, which must be closed. digest is that of the files, if it is
// known. Errors are *lora.Error.
func (v *view) read(base *backend.ModelInfo, digest string) (*lora.Adapter, error) {
	if !v.of.gguf {
		return peft.Read(v.FS, base, digest)
	}
	a, err := gguf.Read(v.FS, path.Base(v.of.path), lora.MaxFileSize(base), digest)
	if errors.Is(err, fs.ErrNotExist) {
		err = &lora.Error{File: path.Base(v.of.path), Reason: "is missing"}
	}
	return a, err
}

// rank is the rank of the adapter by its header, 0 if it can't be read.
func (p place) rank() float64 {
	v, err := p.open()
	if err != nil {
		return 0
	}
	defer v.Close()
	if !p.gguf {
		rank, err := peft.Rank(v.FS)
		if err != nil {
			return 0
		}
		return rank
	}
	rank, err := gguf.Rank(v.FS, path.Base(p.path))
	if err != nil {
		return 0
	}
	return float64(rank)
}
