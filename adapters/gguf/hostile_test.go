package gguf

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"lorikeet/adapters/files"
	"lorikeet/adapters/guard"
	"lorikeet/adapters/lora"
	"lorikeet/backend"
)

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Headers that speak of much take no more memory than the files' own size allows.
func TestHostileHeadersTakeLittleMemory(t *testing.T) {
	header := func(nTensors, nKV uint64) *file {
		f := valid()
		f.nTensors, f.nKV = nTensors, nKV
		return f
	}
	many := func(kvs, tensors int) *file {
		f := valid()
		for i := range kvs - len(f.kvs) {
			f.kvs = append(f.kvs, kv(fmt.Sprint("k", i), 4, u32(1)))
		}
		f.tensors = nil
		for i := range tensors {
			f.tensors = append(f.tensors, tensor{name: fmt.Sprintf("blk.%d.lora_a", i), dims: []uint64{1, 1}, data: make([]byte, 4)})
		}
		return f
	}
	with := func(entry []byte) *file {
		f := valid()
		f.kvs = append(f.kvs, entry)
		return f
	}
	tests := []struct {
		name  string
		file  *file
		want  string
		bytes uint64 // that may be allocated
	}{
		{"2^63 of both", header(1<<63, 1<<63), "9223372036854775808 tensors and 9223372036854775808 metadata keys (limit 100000)", 1 << 16},
		{"2^64-1 of both", header(math.MaxUint64, math.MaxUint64), "limit 100000", 1 << 16},
		{"100k keys that are not there", header(4, MaxEntries), "at byte", 1 << 16},
		{"100k tensors that are not there", header(MaxEntries, 17), "at byte", 1 << 16},
		{"100k keys", many(MaxEntries, 0), "", 48 << 20},
		{"100k keys and one", many(MaxEntries+1, 0), "limit 100000", 1 << 16},
		{"100k tensors", many(17, MaxEntries), "its lora_b is missing", 192 << 20},
		{"100k tensors and one", many(17, MaxEntries+1), "limit 100000", 1 << 16},
		{"2^60 texts in an array", with(kv("x", 9, array(8, 1<<60))), "the file ends", 1 << 16},
		{"2^58 numbers in an array", with(kv("x", 9, array(4, 1<<58))), "the file ends", 1 << 16},
		{"a million texts in an array", with(kv("x", 9, array(8, 1<<20, make([]byte, 8<<20)))), "", 1 << 16},
		{"a text of 16 MB", with(kv("x", 8, str(strings.Repeat("x", 16<<20)))), "", 1 << 16},
		{"dimensions of 2^63", func() *file { f := valid(); f.tensors[0].dims = []uint64{1 << 63, 1 << 63, 1 << 63, 1 << 63}; return f }(), "is not that of a matrix", 1 << 16},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, _ := tt.file.bytes()
			var err error
			n := allocated(func() { _, err = Parse(b) })
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if n > tt.bytes {
				t.Errorf("%d bytes were allocated for a file of %d, want at most %d", n, len(b), tt.bytes)
			}
		})
	}
}

// While a file is copied byte by byte, it is incomplete up to its last one; and before,
// it is refused.
func TestIncompleteUntilTheLastByte(t *testing.T) {
	b, header := valid().bytes()
	for n := range b {
		fsys := fstest.MapFS{"x.gguf": {Data: b[:n]}}
		want := "x.gguf ends within its header"
		if n >= header {
			want = fmt.Sprintf("x.gguf has %d of %d bytes", n, len(b))
		}
		if got := Incomplete(fsys, "x.gguf"); got != want {
			t.Errorf("%d of %d bytes: %q, want %q", n, len(b), got, want)
		}
		if _, err := Read(fsys, "x.gguf", 1<<20, ""); err == nil || !strings.HasPrefix(err.Error(), "x.gguf: ") {
			t.Errorf("%d of %d bytes: %v", n, len(b), err)
		}
	}
	if got := Incomplete(fstest.MapFS{"x.gguf": {Data: b}}, "x.gguf"); got != "" {
		t.Errorf("whole: %s", got)
	}
}

func TestIncomplete(t *testing.T) {
	tests := []struct {
		name   string
		change func(*file)
		want   string
	}{
		{"larger header than is read at first", func(f *file) {
			f.kvs = append(f.kvs, kv("x", 8, str(strings.Repeat("x", 1<<20))))
			f.tensors[3].data = nil
		}, "x.gguf has 1049472 of 1049484 bytes"},
		// What is wrong in another way is complete.
		{"magic", func(f *file) { f.magic = "GGML" }, ""},
		{"version", func(f *file) { f.version = 1 }, ""},
		{"2^63 keys", func(f *file) { f.nKV = 1 << 63 }, ""},
		{"alignment", func(f *file) { f.kvs = append(f.kvs, kv("general.alignment", 4, u32(3))) }, ""},
		{"offset of 2^63", func(f *file) { f.tensors[0].offset = 1 << 63 }, ""},
		{"offset of 2^64-1", func(f *file) { f.tensors[0].offset = math.MaxUint64 }, ""},
		{"dimension of 2^63", func(f *file) { f.tensors[0].dims[0] = 1 << 63 }, ""},
		{"unknown type", func(f *file) { f.tensors[0].typ = 99 }, ""},
		{"a base", func(f *file) { f.kvs[1] = kv("general.type", 8, str("model")) }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := valid()
			tt.change(f)
			b, _ := f.bytes()
			if got := Incomplete(fstest.MapFS{"x.gguf": {Data: b}}, "x.gguf"); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	if got := Incomplete(fstest.MapFS{}, "x.gguf"); got != "x.gguf is missing" {
		t.Errorf("missing: %q", got)
	}
	if got := Incomplete(fstest.MapFS{"x.gguf/y": {}}, "x.gguf"); got != "" {
		t.Errorf("folder: %q", got)
	}
}

// A file that is cut after it was opened is an error, not the end of the process.
func TestFileIsCutAfterItWasOpened(t *testing.T) {
	dir := t.TempDir()
	b, _ := valid().bytes()
	if err := os.WriteFile(filepath.Join(dir, "x.gguf"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	open := func() *files.File {
		f, err := files.Open(files.Root(root), "x.gguf", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := open()
	defer f.Close()
	a, err := read(f, "")
	if err != nil {
		t.Fatal(err)
	}
	cut := open()
	defer cut.Close()
	if err := os.Truncate(filepath.Join(dir, "x.gguf"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := read(cut, ""); err == nil || err.Error() != "x.gguf: "+guard.ErrGone.Error() {
		t.Errorf("read: %v", err)
	}
	m := poolFor(a)
	dst := make([]byte, m.Pool.ImageSize())
	if err := lora.Image(dst, m, []lora.Scaled{{Adapter: a, Scale: 1}}); err == nil || err.Error() != "x.gguf: "+guard.ErrGone.Error() {
		t.Errorf("image: %v", err)
	}
	a.Close()
	a.Close()
}

// poolFor has a place for what the adapter changes.
func poolFor(a *lora.Adapter) *backend.ModelInfo {
	m := &backend.ModelInfo{Pool: backend.Pool{Rank: a.Rank()}}
	for _, p := range a.Pairs {
		m.Pool.Weights = append(m.Pool.Weights, backend.Weight{Name: p.Weight, In: p.A.Cols, Out: p.B.Rows})
	}
	return m
}
