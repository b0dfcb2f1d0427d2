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
	const size = 4096
	var c images
	c.init(3*size-1, size, fake.New(64, 1)) // room for two
	defer c.close()
	keep := func(key string, content byte) *image {
		i, err := c.blank()
		if err != nil {
			t.Fatal(err)
		}
		i.bytes[0] = content
		c.put(key, i)
		return i
	}
	read := func(key string) int {
		i := c.get(key)
		if i == nil {
			return -1
		}
		defer c.release(i)
		return int(i.bytes[0])
	}
	holds := func(want map[string]int) {
		t.Helper()
		for key, content := range want {
			if got := read(key); got != content {
				t.Errorf("%s holds %d, want %d", key, got, content)
			}
		}
	}
	c.release(keep("a", 1))
	c.release(keep("b", 2))
	reader := c.get("b")
	c.release(c.get("a"))
	c.release(keep("c", 3)) // b was longest of no use
	c.release(keep("a", 9)) // it is there already
	holds(map[string]int{"a": 1, "b": -1, "c": 3})
	for range 2 * spareImages { // none of these is given the memory that is still read
		c.release(keep("d", 4))
		c.drop(func(key string) bool { return key == "d" })
	}
	if reader.bytes[0] != 2 {
		t.Error("an image that is read was changed")
	}
	c.release(reader)
	c.release(keep("a", 1))
	c.pin("a", true)
	c.release(keep("e", 5))
	c.release(keep("f", 6))
	holds(map[string]int{"a": 1, "e": -1, "f": 6})
	c.release(keep("g", 7))
	c.pin("g", true)
	c.release(keep("h", 8)) // there is no room beside the pinned ones
	holds(map[string]int{"a": 1, "g": 7, "h": -1})
	if c.size() != 2*size || c.order.Len() != 2 {
		t.Errorf("%d bytes in %d images", c.size(), c.order.Len())
	}
}
