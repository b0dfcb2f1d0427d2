package adapters

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What was opened stays the same directory, whatever is put in its place and taken away
// again: no load reads files of two.
func TestViewStays(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", 1)
	put(t, dir, "b", 2)
	move := func(from, to string) {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	content := func(v *view) string {
		f, err := v.Open("adapter_model.safetensors")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		data := make([]byte, 1<<10)
		n, _ := f.Read(data)
		return string(data[:n])
	}
	p := placeIn(open(t, dir), "a")
	v, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	stamp, err := v.stamp()
	if err != nil || stamp.Key() == "" {
		t.Fatal(stamp, err)
	}
	move("a", "away")
	move("b", "a")
	now, err := v.stamp()
	if err != nil || !now.Equal(stamp) || content(v) != string(weights(8, 1)) {
		t.Errorf("another directory is seen; %v", err)
	}
	if other, err := p.stamp(); err != nil || other.Equal(stamp) {
		t.Errorf("the other directory is not seen where it is opened anew; %v", err)
	}
}

func TestValidName(t *testing.T) {
	for _, name := range []string{"a", "a/b", "a.b", "A-1_b", strings.Repeat("a", 128)} {
		if !ValidName(name) {
			t.Errorf("%q is refused", name)
		}
	}
	for _, name := range []string{"", "a/", "/a", ".a", "-a", "a..b", "a b", "a:b", "ä", "a\x00", strings.Repeat("a", 129)} {
		if ValidName(name) {
			t.Errorf("%q is taken", name)
		}
	}
}
