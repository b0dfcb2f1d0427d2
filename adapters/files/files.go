// Package files opens the files of adapters, which anyone may have put there: regular
// files only, within a limit of bytes, without ever waiting for a FIFO's writer and
// without leaving the folder.
//
// [Open] maps a file into memory. What reads the bytes runs in a guard (adapters/guard),
// because a file that is cut meanwhile takes its pages away. [Digest] identifies
// contents, and a [Stamp] tells whether files were replaced or written. The package does
// not know what is in the files.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"lorikeet/adapters/lora"
)

// Root returns the folder of r as a file system that no link leads out of. Its Open
// does not wait for anything.
func Root(r *os.Root) fs.FS { return root{r, r.FS()} }

type root struct {
	r    *os.Root
	fsys fs.FS
}

func (r root) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := r.r.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err // not f, which would be a File that is not nil
	}
	return f, nil
}

func (r root) Stat(name string) (fs.FileInfo, error)      { return fs.Stat(r.fsys, name) }
func (r root) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(r.fsys, name) }

// File is an open file of an adapter. Data is valid until Close.
type File struct {
	Name   string // without a folder
	Data   []byte
	mapped bool
}

// Open maps the regular file name, of at most limit bytes. Files that are not on a
// disk, as embedded ones, are read. Errors are *lora.Error, or fs.ErrNotExist.
func Open(fsys fs.FS, name string, limit int64) (*File, error) {
	f, size, err := open(fsys, name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // what is mapped stays
	if size > limit {
		return nil, &lora.Error{File: name, Reason: fmt.Sprintf("%d bytes are over the limit of %d", size, limit)}
	}
	if onDisk, ok := f.(*os.File); ok && size > 0 {
		data, err := syscall.Mmap(int(onDisk.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_PRIVATE|syscall.MAP_POPULATE)
		if err != nil {
			return nil, &lora.Error{File: name, Reason: "can't be mapped: " + err.Error()}
		}
		return &File{name, data, true}, nil
	}
	data, err := readAll(f, name, size)
	if err != nil {
		return nil, err
	}
	return &File{name, data, false}, nil
}

// Close takes the bytes back. It is idempotent.
func (f *File) Close() {
	if f.mapped {
		_ = syscall.Munmap(f.Data) // it was mapped, so it can be unmapped
	}
	f.Data, f.mapped = nil, false
}

// Head reads the first n bytes of a regular file, or all if it has fewer. size is that
// of the whole file. Errors are those of Open.
func Head(fsys fs.FS, name string, n int64) (data []byte, size int64, err error) {
	f, size, err := open(fsys, name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	data, err = readAll(f, name, min(n, size))
	return data, size, err
}

// open opens a regular file and tells its size.
func open(fsys fs.FS, name string) (fs.File, int64, error) {
	f, err := fsys.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, fs.ErrNotExist
	case err != nil:
		return nil, 0, &lora.Error{File: name, Reason: "can't be read"}
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, 0, &lora.Error{File: name, Reason: "is not a regular file"}
	}
	return f, st.Size(), nil
}

func readAll(f io.Reader, name string, n int64) ([]byte, error) {
	data := make([]byte, n)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, &lora.Error{File: name, Reason: "became shorter while it was read"}
	}
	return data, nil
}

// Missing says, in words for a person, what a file of size bytes lacks of the whole that
// its header speaks of, or "". Of a whole that no file can have nothing is missing: the
// header is wrong.
func Missing(name string, size int64, whole uint64) string {
	const largest = 1 << 40
	if uint64(size) >= whole || whole > largest {
		return ""
	}
	return fmt.Sprintf("%s has %d of %d bytes", name, size, whole)
}
