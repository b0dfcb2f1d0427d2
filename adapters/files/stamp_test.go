package files

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"
)

func TestStamp(t *testing.T) {
	dir, fsys := folder(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	stamp := func() Stamp {
		s, err := StampOf(fsys, "a", "b")
		must(t, err)
		return s
	}
	none := stamp()
	if none.Key() != "" || none.Bytes != 0 || !none.Changed.IsZero() {
		t.Errorf("of no files: %+v", none)
	}
	long := time.Now().Add(-time.Hour)
	write := func(name, content string) {
		must(t, os.WriteFile(in(name), []byte(content), 0o600))
		must(t, os.Chtimes(in(name), long, long)) // as a copy that keeps the time
	}
	steps := []struct {
		what string
		do   func()
	}{
		{"a comes", func() { write("a", "x") }},
		{"b comes", func() { write("b", "xy") }},
		{"a grows", func() { write("a", "xyz") }},
		{"b is replaced by a file of the same size and time", func() { write("c", "ab"); must(t, os.Rename(in("c"), in("b"))) }},
		{"a goes", func() { must(t, os.Remove(in("a"))) }},
	}
	before := none
	for _, step := range steps {
		step.do()
		now := stamp()
		if now.Equal(before) || now.Key() == before.Key() {
			t.Errorf("%s: not noticed", step.what)
		}
		if !now.Equal(stamp()) {
			t.Errorf("%s: differs without a change", step.what)
		}
		if time.Since(now.Changed) > time.Minute {
			t.Errorf("%s: changed at %v", step.what, now.Changed)
		}
		before = now
	}
	if before.Bytes != 2 {
		t.Errorf("%d bytes are left", before.Bytes)
	}
}

func TestStampOfEmbeddedFiles(t *testing.T) {
	fsys := fstest.MapFS{"a": {Data: []byte("x")}}
	s, err := StampOf(fsys, "a", "b")
	if err != nil || s.Key() == "" || !s.Changed.IsZero() || s.Bytes != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}
