package lora

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"lorikeet/backend"
)

// MaxFileSize is the largest file of weights that can fit a base, in bytes: what
// fills a slot, in F32, and a header.
func MaxFileSize(m *backend.ModelInfo) int64 {
	const header = 32 << 20
	return header + 4*int64(m.Pool.ImageSize()/m.Pool.Type.Size())
}

// ReadFile reads a regular file of an adapter whole, of at most limit bytes. Errors
// are *Error, or fs.ErrNotExist.
func ReadFile(fsys fs.FS, name string, limit int64) ([]byte, error) {
	return read(fsys, name, func(size int64) (int64, error) {
		if size > limit {
			return 0, &Error{File: name, Reason: fmt.Sprintf("%d bytes are over the limit of %d", size, limit)}
		}
		return size, nil
	})
}

// ReadHead reads the first n bytes of a regular file, or all if it has fewer. Errors
// are those of ReadFile.
func ReadHead(fsys fs.FS, name string, n int64) ([]byte, error) {
	return read(fsys, name, func(size int64) (int64, error) { return min(n, size), nil })
}

// read reads as many bytes of a file as want says of its size.
func read(fsys fs.FS, name string, want func(size int64) (int64, error)) ([]byte, error) {
	// Looked at before it is opened: to open a FIFO would wait for its writer.
	st, err := fs.Stat(fsys, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fs.ErrNotExist
	case err != nil:
		return nil, &Error{File: name, Reason: "can't be read"}
	case !st.Mode().IsRegular():
		return nil, &Error{File: name, Reason: "is not a regular file"}
	}
	n, err := want(st.Size())
	if err != nil {
		return nil, err
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, &Error{File: name, Reason: "can't be opened"}
	}
	defer f.Close()
	data := make([]byte, n)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, &Error{File: name, Reason: "became shorter while it was read"}
	}
	return data, nil
}
