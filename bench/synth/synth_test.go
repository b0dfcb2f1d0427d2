package synth

import (
	"bytes"
	"io/fs"
	"os"
	"testing"
	"testing/fstest"
)

var tiny = Config{Hidden: 64, Layers: 2, Heads: 4, KVHeads: 2, FeedForward: 96, Vocabulary: 1200, Context: 512, Seed: 1}

func TestSameFilesFromSameConfig(t *testing.T) {
	var bases, adapters [2][]byte
	for i := range 2 {
		path, err := Base(t.TempDir(), tiny)
		if err != nil {
			t.Fatal(err)
		}
		if bases[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		folder, err := Adapters(t.TempDir(), tiny, 2, 4)
		if err != nil {
			t.Fatal(err)
		}
		if adapters[i], err = os.ReadFile(folder + "/a01/" + weightsFile); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(bases[0], bases[1]) || !bytes.Equal(adapters[0], adapters[1]) {
		t.Error("two runs write different files")
	}
}

func TestFilesAreWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	write := func() fs.FileInfo {
		path, err := Base(dir, tiny)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Adapters(dir, tiny, 1, 4); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	if first, second := write(), write(); !os.SameFile(first, second) {
		t.Error("the base was written again")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestMany(t *testing.T) {
	folder, err := Adapters(t.TempDir(), tiny, 2, 4)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Many(os.DirFS(folder), 5)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(m, "m0000/"+configFile, "m0004/"+weightsFile); err != nil {
		t.Error(err)
	}
	read := func(fsys fs.FS, name string) []byte {
		b, err := fs.ReadFile(fsys, name+"/"+weightsFile)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	shared := read(os.DirFS(folder), "a00")
	first, third := read(m, "m0000"), read(m, "m0002")
	common := len(shared) - patchBytes
	if !bytes.Equal(first[:common], shared[:common]) || !bytes.Equal(third[:common], shared[:common]) || len(first) != len(shared) {
		t.Error("the shared bytes differ")
	}
	if bytes.Equal(first, third) {
		t.Error("two adapters are the same")
	}
}
