package convert

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// create writes a file beside path and gives it its name when it is whole and on the disk.
func create(path string, force bool, content func(io.Writer) error) (size int64, err error) {
	if _, err := os.Lstat(path); err == nil && !force {
		return 0, fmt.Errorf("%s exists (write over it with --force)", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.partial")
	if err != nil {
		return 0, err
	}
	defer func() {
		f.Close()
		if err != nil {
			_ = os.Remove(f.Name()) // what failed says more
		}
	}()
	buffered := bufio.NewWriterSize(f, 1<<20)
	if err = content(buffered); err != nil {
		return 0, err
	}
	if err = buffered.Flush(); err != nil {
		return 0, err
	}
	if err = f.Chmod(0o644); err != nil { // a temporary file is its owner's only
		return 0, err
	}
	if err = f.Sync(); err != nil {
		return 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), os.Rename(f.Name(), path)
}

// watched ends writing when ctx does, and tells how far it is.
type watched struct {
	w        io.Writer
	ctx      context.Context
	written  int64
	told     int64
	total    int64
	progress func(written, total int64)
}

const progressStep = 64 << 20

func (w *watched) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.w.Write(p)
	w.written += int64(n)
	if w.progress != nil && w.written >= w.told+progressStep {
		w.told = w.written
		w.progress(min(w.written, w.total), w.total)
	}
	return n, err
}
