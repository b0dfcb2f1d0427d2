package lora

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const maxSize = 4 << 30

func TestReadFile(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
	must(t, os.Symlink("file", filepath.Join(dir, "link")))
	must(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "absolute")))
	must(t, os.Symlink(filepath.Join("..", filepath.Base(outside), "secret"), filepath.Join(dir, "relative")))
	must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	must(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	must(t, os.Symlink("fifo", filepath.Join(dir, "to-fifo")))
	must(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	must(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "large"), nil, 0o600))
	must(t, os.Truncate(filepath.Join(dir, "large"), maxSize+1))
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()

	tests := []struct{ name, content, reason string }{
		{"file", "content", ""},
		{"empty", "", ""},
		{"link", "content", ""},
		{"absolute", "", "can't be read"},
		{"relative", "", "can't be read"},
		{"loop", "", "can't be read"},
		{"../" + filepath.Base(outside) + "/secret", "", "can't be read"},
		{"folder", "", "is not a regular file"},
		{"fifo", "", "is not a regular file"},
		{"to-fifo", "", "is not a regular file"},
		{"large", "", "4294967297 bytes are over the limit of 4294967296"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ReadFile(root.FS(), tt.name, maxSize)
			if tt.reason == "" {
				if err != nil || string(got) != tt.content {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.File != tt.name || e.Reason != tt.reason || got != nil {
				t.Errorf("%q, %v, want %s", got, err, tt.reason)
			}
			if err != nil && strings.Contains(err.Error(), dir) {
				t.Errorf("%v names a path of the server", err)
			}
		})
	}
	for _, name := range []string{"missing", "missing/file", "dangling"} {
		if _, err := ReadFile(root.FS(), name, maxSize); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadHead(t *testing.T) {
	fsys := fstest.MapFS{"file": {Data: []byte("content")}, "folder/x": {}}
	for n, want := range map[int64]string{0: "", 3: "con", 7: "content", maxSize: "content"} {
		if got, err := ReadHead(fsys, "file", n); err != nil || string(got) != want {
			t.Errorf("%d: %q, %v", n, got, err)
		}
	}
	if _, err := ReadHead(fsys, "missing", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := ReadHead(fsys, "folder", 1); err == nil || err.Error() != "folder: is not a regular file" {
		t.Error(err)
	}
}

// shrinking is a file that loses bytes after it was looked at.
type shrinking struct{ fstest.MapFS }

func (s shrinking) Stat(string) (fs.FileInfo, error) { return s.MapFS.Stat("before") }

func TestReadFileThatShrinks(t *testing.T) {
	s := shrinking{fstest.MapFS{"before": {Data: []byte("long")}, "file": {Data: []byte("s")}}}
	if _, err := ReadFile(s, "file", maxSize); err == nil || err.Error() != "file: became shorter while it was read" {
		t.Error(err)
	}
}
