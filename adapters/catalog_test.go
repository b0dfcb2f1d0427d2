package adapters

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// settle is how long the watched catalogs of these tests wait for files to settle.
const settle = 30 * time.Millisecond

// adapterFiles are the files of an adapter whose matrices hold a value.
func adapterFiles(value float32) map[string][]byte {
	return map[string][]byte{"adapter_config.json": []byte(peftConfig), "adapter_model.safetensors": weights(8, value)}
}

// put writes an adapter into a folder, a file after the other.
func put(t *testing.T, folder, name string, value float32) {
	t.Helper()
	for file, data := range adapterFiles(value) {
		path := filepath.Join(folder, name, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func open(t *testing.T, dir string) *Folder {
	t.Helper()
	f, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func newCatalog(t *testing.T, s Sources) *Catalog {
	t.Helper()
	if s.Settle == 0 {
		s.Settle = settle
	}
	c, err := NewCatalog(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// await waits, change by change of the catalog, until ok holds.
func await(t *testing.T, c *Catalog, what string, ok func() bool) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		changes := c.changes()
		if ok() {
			return
		}
		select {
		case <-changes:
		case <-timeout:
			t.Fatalf("%s does not happen; names %v", what, c.Names())
		}
	}
}

func TestWatchedFolder(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "first", 1)
	c := newCatalog(t, Sources{Folder: open(t, dir)})
	if c.AwaitSettled(); len(c.Names()) != 1 {
		t.Errorf("after files have settled: %v", c.Names())
	}
	serves := func(names ...string) func() bool {
		return func() bool { return slices.Equal(c.Names(), names) }
	}
	await(t, c, "the first adapter", serves("first"))

	// A copy that stands still half-way is not taken, and the operator can see why.
	files := adapterFiles(2)
	whole := files["adapter_model.safetensors"]
	path := filepath.Join(dir, "second", "adapter_model.safetensors")
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(path, whole[:len(whole)-4], 0o644)); err != nil {
		t.Fatal(err)
	}
	reason := func(part string) func() bool {
		return func() bool {
			s, ok := c.status("second")
			return ok && strings.Contains(s.Incomplete, part)
		}
	}
	await(t, c, "a missing config", reason("adapter_config.json is missing"))
	if err := os.WriteFile(filepath.Join(dir, "second", "adapter_config.json"), files["adapter_config.json"], 0o644); err != nil {
		t.Fatal(err)
	}
	await(t, c, "a short file", reason(fmt.Sprintf("%d of %d bytes", len(whole)-4, len(whole))))
	if !serves("first")() || !c.has("second") {
		t.Errorf("names %v, has second: %v", c.Names(), c.has("second"))
	}
	if err := os.WriteFile(path, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	await(t, c, "the second adapter", serves("first", "second"))

	// A file, and a directory that is moved in.
	elsewhere := t.TempDir()
	put(t, elsewhere, "third", 3)
	if err := errors.Join(os.Rename(filepath.Join(elsewhere, "third"), filepath.Join(dir, "third")),
		os.WriteFile(filepath.Join(dir, "fourth.gguf"), []byte("no GGUF, which is for its reader to say"), 0o644)); err != nil {
		t.Fatal(err)
	}
	await(t, c, "two more", serves("first", "fourth", "second", "third"))

	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "second")), os.Remove(filepath.Join(dir, "fourth.gguf"))); err != nil {
		t.Fatal(err)
	}
	await(t, c, "two less", serves("first", "third"))
	if id, ok := c.nameOf(0); !ok || id != "first" {
		t.Errorf("id 0 is %q", id)
	}
	if name, ok := c.nameOf(1); ok {
		t.Errorf("id 1, which was the second's, is %q", name)
	}
}

// Replaced files are served when they have come to rest; until then, and while they
// are gone for a moment, it is the version before.
func TestReplacedInPlace(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", 1)
	c := newCatalog(t, Sources{Folder: open(t, dir)})
	await(t, c, "the adapter", func() bool { return len(c.Names()) == 1 })
	told := make(chan string, 9)
	c.notify(func(name string) { told <- name })
	before, err := c.find("a")
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, "a", 2)
	after := before
	await(t, c, "the new version", func() bool {
		after, err = c.find("a")
		if err != nil {
			t.Fatal(err)
		}
		return !after.stamp.Equal(before.stamp)
	})
	if name := <-told; name != "a" {
		t.Errorf("told of %q", name)
	}
	if now, err := after.place.stamp(); err != nil || !now.Equal(after.stamp) {
		t.Errorf("what is served is not what is there: %v", err)
	}
}

func TestGoneForAMoment(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", 1)
	c := newCatalog(t, Sources{Folder: open(t, dir), Settle: time.Hour})
	if c.has("a") && len(c.Names()) != 0 {
		t.Fatal("files that have just been written are served")
	}
	c.mu.Lock()
	it := c.items[FromFolder]["a"]
	it.ready, it.stamp = true, it.seen
	c.update()
	c.mu.Unlock()
	if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if err := c.scan(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.find("a"); err != nil {
		t.Errorf("gone at once: %v", err)
	}
}

func TestLinksOutOfTheFolder(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	put(t, outside, "secret", 1)
	put(t, dir, "real", 1)
	for name, target := range map[string]string{
		"out": filepath.Join(outside, "secret"), "up": "../" + filepath.Base(outside) + "/secret", "in": "real", "out.gguf": "/etc/passwd", "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	half := filepath.Join(dir, "half")
	if err := errors.Join(os.Mkdir(half, 0o755), os.WriteFile(filepath.Join(half, "adapter_config.json"), []byte(peftConfig), 0o644),
		os.Symlink(filepath.Join(outside, "secret", "adapter_model.safetensors"), filepath.Join(half, "adapter_model.safetensors"))); err != nil {
		t.Fatal(err)
	}
	c := newCatalog(t, Sources{Folder: open(t, dir)})
	await(t, c, "what is inside", func() bool { return slices.Equal(c.Names(), []string{"in", "real"}) })
	if err := c.scan(); err != nil || !slices.Equal(c.Names(), []string{"in", "real"}) {
		t.Errorf("%v, %v", c.Names(), err)
	}
}
