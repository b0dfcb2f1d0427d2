package files

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"lorikeet/adapters/guard"
	"lorikeet/adapters/lora"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// folder is a directory of the test as Root presents it.
func folder(t *testing.T) (dir string, fsys fs.FS) {
	t.Helper()
	dir = t.TempDir()
	r, err := os.OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return dir, Root(r)
}

const maxSize = 4 << 30

// outcome of Open and Head, which must be the same.
func outcome(t *testing.T, fsys fs.FS, name string) (content string, err error) {
	t.Helper()
	f, err := Open(fsys, name, maxSize)
	if err == nil {
		content = string(f.Data)
		defer f.Close()
	}
	head, size, headErr := Head(fsys, name, 1<<20)
	if string(head) != content || err == nil && size != int64(len(content)) {
		t.Errorf("Head tells %q of %d bytes, Open %q", head, size, content)
	}
	if (err == nil) != (headErr == nil) || err != nil && err.Error() != headErr.Error() {
		t.Errorf("Head fails with %v, Open with %v", headErr, err)
	}
	return content, err
}

func TestWhatIsOpened(t *testing.T) {
	outside := t.TempDir()
	dir, fsys := folder(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	must(t, os.WriteFile(in("file"), []byte("content"), 0o600))
	must(t, os.WriteFile(in("empty"), nil, 0o600))
	must(t, os.Symlink("file", in("link")))
	must(t, os.Symlink(filepath.Join(outside, "secret"), in("absolute")))
	must(t, os.Symlink(filepath.Join("..", filepath.Base(outside), "secret"), in("relative")))
	must(t, os.Symlink(outside, in("out")))
	must(t, os.Symlink("/dev/zero", in("zero")))
	must(t, os.Symlink("loop", in("loop")))
	must(t, os.Symlink("nowhere", in("dangling")))
	must(t, os.Symlink("fifo", in("to-fifo")))
	must(t, os.Mkdir(in("folder"), 0o700))
	must(t, syscall.Mkfifo(in("fifo"), 0o600))

	const notOpened, notRegular = "can't be read", "is not a regular file"
	tests := []struct{ name, content, reason string }{
		{"file", "content", ""},
		{"empty", "", ""},
		{"link", "content", ""},
		{"absolute", "", notOpened},
		{"relative", "", notOpened},
		{"out/secret", "", notOpened},
		{"zero", "", notOpened},
		{"loop", "", notOpened},
		{"../" + filepath.Base(outside) + "/secret", "", notOpened},
		{outside + "/secret", "", notOpened},
		{"file\x00", "", notOpened},
		{"", "", notOpened},
		{".", "", notRegular},
		{"folder", "", notRegular},
		{"fifo", "", notRegular}, // has no writer, whom an open could wait for
		{"to-fifo", "", notRegular},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.name, "\x00", "NUL"), func(t *testing.T) {
			got, err := outcome(t, fsys, tt.name)
			if tt.reason == "" {
				if err != nil || got != tt.content {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			var e *lora.Error
			if !errors.As(err, &e) || e.File != tt.name || e.Reason != tt.reason {
				t.Errorf("%q, %v, want %s", got, err, tt.reason)
			}
			if err != nil && strings.Contains(err.Error(), dir) {
				t.Errorf("%v names a path of the server", err)
			}
		})
	}
	for _, name := range []string{"missing", "missing/file", "dangling"} {
		if _, err := outcome(t, fsys, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDevice(t *testing.T) {
	r, err := os.OpenRoot("/dev")
	must(t, err)
	defer r.Close()
	if _, err := outcome(t, Root(r), "zero"); err == nil || err.Error() != "zero: is not a regular file" {
		t.Error(err)
	}
}

func TestUnreadable(t *testing.T) {
	dir, fsys := folder(t)
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0))
	if f, err := os.Open(filepath.Join(dir, "file")); err == nil {
		f.Close()
		t.Skip("this user may read everything")
	}
	if _, err := outcome(t, fsys, "file"); err == nil || err.Error() != "file: can't be read" {
		t.Error(err)
	}
}

func TestLimit(t *testing.T) {
	dir, fsys := folder(t)
	path := filepath.Join(dir, "file")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, maxSize+1)) // a hole
	_, err := Open(fsys, "file", maxSize)
	if err == nil || err.Error() != "file: 4294967297 bytes are over the limit of 4294967296" {
		t.Error(err)
	}
	head, size, err := Head(fsys, "file", 3)
	if err != nil || size != maxSize+1 || !bytes.Equal(head, make([]byte, 3)) {
		t.Errorf("%v of %d bytes, %v", head, size, err)
	}
}

// swapped puts something else under the name after someone looked at it.
type swapped struct {
	fs.FS
	swap func()
}

func (s swapped) Stat(name string) (fs.FileInfo, error) {
	defer s.swap()
	return fs.Stat(s.FS, name)
}

func TestSwapAfterStat(t *testing.T) {
	dir, fsys := folder(t)
	path := filepath.Join(dir, "file")
	for what, put := range map[string]func() error{
		"is not a regular file": func() error { return syscall.Mkfifo(path, 0o600) },
		"can't be read":         func() error { return os.Symlink("/dev/zero", path) },
	} {
		must(t, os.WriteFile(path, []byte("x"), 0o600))
		s := swapped{fsys, func() { must(t, os.Remove(path)); must(t, put()) }}
		if _, err := StampOf(s, "file"); err != nil {
			t.Fatal(err)
		}
		if _, err := outcome(t, s, "file"); err == nil || err.Error() != "file: "+what {
			t.Errorf("%v, want %s", err, what)
		}
		must(t, os.Remove(path))
	}
}

func TestHead(t *testing.T) {
	fsys := fstest.MapFS{"file": {Data: []byte("content")}, "folder/x": {}}
	for n, want := range map[int64]string{0: "", 3: "con", 7: "content", maxSize: "content"} {
		if got, size, err := Head(fsys, "file", n); err != nil || string(got) != want || size != 7 {
			t.Errorf("%d: %q of %d, %v", n, got, size, err)
		}
	}
	if _, _, err := Head(fsys, "folder", 1); err == nil || err.Error() != "folder: is not a regular file" {
		t.Error(err)
	}
}

// shrinking holds files that have fewer bytes than their Stat tells, which is that of
// the file "before".
type shrinking struct{ files fstest.MapFS }

type shrunk struct {
	fs.File
	before fs.FileInfo
}

func (s shrinking) Open(name string) (fs.File, error) {
	f, err := s.files.Open(name)
	if err != nil {
		return nil, err
	}
	before, err := s.files.Stat("before")
	return shrunk{f, before}, err
}

func (s shrunk) Stat() (fs.FileInfo, error) { return s.before, nil }

func TestReadFileThatShrinks(t *testing.T) {
	s := shrinking{fstest.MapFS{"before": {Data: []byte("long")}, "file": {Data: []byte("s")}}}
	if _, err := outcome(t, s, "file"); err == nil || err.Error() != "file: became shorter while it was read" {
		t.Error(err)
	}
}

// mapped is a file of n bytes on the disk, mapped.
func mapped(t *testing.T, n int) (path string, f *File) {
	t.Helper()
	dir, fsys := folder(t)
	path = filepath.Join(dir, "file")
	must(t, os.WriteFile(path, bytes.Repeat([]byte{1}, n), 0o600))
	f, err := Open(fsys, "file", maxSize)
	must(t, err)
	t.Cleanup(f.Close)
	return path, f
}

func TestMappedFileThatShrinks(t *testing.T) {
	path, f := mapped(t, 3*chunkSize)
	must(t, os.Truncate(path, chunkSize))
	if _, err := Digest(f)(); err == nil || err.Error() != "file: became shorter while it was read" {
		t.Errorf("digest: %v", err)
	}
	sum := 0
	err := guard.Run(func() error {
		for _, b := range f.Data {
			sum += int(b)
		}
		return nil
	})
	if !errors.Is(err, guard.ErrGone) || sum != chunkSize {
		t.Errorf("%v after %d bytes", err, sum)
	}
}

func TestClose(t *testing.T) {
	path, f := mapped(t, 10)
	must(t, os.Remove(path)) // what is mapped stays
	if string(f.Data) != strings.Repeat("\x01", 10) {
		t.Errorf("%q", f.Data)
	}
	f.Close()
	f.Close()
	if f.Data != nil {
		t.Error("the bytes are still there")
	}
}

func TestMissing(t *testing.T) {
	for _, tt := range []struct {
		size  int64
		whole uint64
		want  string
	}{
		{1000, 5120, "x has 1000 of 5120 bytes"}, {0, 1, "x has 0 of 1 bytes"}, {5120, 5120, ""}, {5121, 5120, ""},
		{1, 1 << 63, ""}, {1, 1<<64 - 1, ""},
	} {
		if got := Missing("x", tt.size, tt.whole); got != tt.want {
			t.Errorf("%d of %d: %q", tt.size, tt.whole, got)
		}
	}
}
