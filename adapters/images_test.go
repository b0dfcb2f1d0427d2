package adapters

import (
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"lorikeet/backend/fake"
)

// hostBytes is room for a few images of the fake engine's pool.
const hostBytes = 1 << 20

// opened counts the files of weights that are opened.
type opened struct {
	content fstest.MapFS // not embedded: its Sub would go past Open
	n       atomic.Int64
}

func (o *opened) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, ".safetensors") {
		o.n.Add(1)
	}
	return o.content.Open(name)
}

// An adapter that has left its slot comes back from memory, unless its files were
// replaced.
func TestComesBackFromMemory(t *testing.T) {
	files := &opened{content: folder(2)}
	e := &recorder{Engine: fake.New(64, 1)}
	m := manager(t, files, e, time.Minute)
	first := acquire(t, m, "a0")
	first.Release()
	acquire(t, m, "a1").Release()
	read := files.n.Load()
	if read < 2 {
		t.Fatalf("%d files were read", read)
	}
	back := acquire(t, m, "a0")
	back.Release()
	if back.Key != first.Key || files.n.Load() != read || e.fills.Load() != 3 {
		t.Errorf("%s, first %s; %d files read for it, %d fills", back.Key, first.Key, files.n.Load()-read, e.fills.Load())
	}
	acquire(t, m, "a1").Release()
	changed := *files.content["a1/adapter_model.safetensors"]
	changed.ModTime = time.Now()
	files.content["a0/adapter_model.safetensors"] = &changed
	rescan(t, m)
	if now := acquire(t, m, "a0"); now.Key == first.Key {
		t.Error("the replaced adapter comes back as it was")
	}
}

func TestImages(t *testing.T) {
	var c images
	c.init(10)
	c.put("a", make([]byte, 4))
	c.put("b", make([]byte, 4))
	c.get("a")
	c.put("c", make([]byte, 4)) // b was longest of no use
	c.put("large", make([]byte, 11))
	c.put("a", make([]byte, 1)) // it is there already
	for key, want := range map[string]int{"a": 4, "b": 0, "c": 4, "large": 0} {
		if got := len(c.get(key)); got != want {
			t.Errorf("%s: %d bytes, want %d", key, got, want)
		}
	}
	if c.used != 8 || c.order.Len() != 2 {
		t.Errorf("%d bytes in %d images", c.used, c.order.Len())
	}
}
