package adapters

import (
	"container/list"
	"sync"

	"lorikeet/adapters/buffers"
)

// images keeps slot images in host memory, within a budget of bytes; those that were
// longest of no use go first, and pinned ones stay. The memory of an image is used again
// when it is not kept and nobody reads it.
type images struct {
	budget int64
	pool   *buffers.Pool

	mu    sync.Mutex
	used  int64
	byKey map[string]*list.Element
	order list.List // of *image, the last used one in front
	pins  map[string]bool
	loose [][]byte // memory of images that are gone, until unlock
}

// image is a slot image. It is not changed once it is kept.
type image struct {
	key     string
	bytes   []byte
	readers int  // who were given it
	kept    bool // it is in images
}

// spareImages are kept for the loads to come.
const spareImages = 2

func (c *images) init(budget int64, size int, host buffers.Host) {
	c.budget, c.byKey, c.pins = budget, map[string]*list.Element{}, map[string]bool{}
	c.pool = buffers.New(size, spareImages, host)
}

// close gives all memory back. Nobody may read an image any more.
func (c *images) close() {
	c.drop(func(string) bool { return true })
	c.pool.Close()
}

// blank returns an image to be filled. The caller reads it until it releases it.
func (c *images) blank() (*image, error) {
	b, err := c.pool.Get()
	if err != nil {
		return nil, err
	}
	return &image{bytes: b, readers: 1}, nil
}

// get returns the image of a key, or nil. The caller reads it until it releases it.
func (c *images) get(key string) *image {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	i := e.Value.(*image)
	i.readers++
	return i
}

func (c *images) release(i *image) {
	c.mu.Lock()
	defer c.unlock()
	i.readers--
	c.recycle(i)
}

// put keeps an image, if it fits beside the pinned ones.
func (c *images) put(key string, i *image) {
	c.mu.Lock()
	defer c.unlock()
	room := c.budget
	for pinned := range c.pins {
		if e := c.byKey[pinned]; e != nil {
			room -= int64(len(e.Value.(*image).bytes))
		}
	}
	if c.byKey[key] != nil || int64(len(i.bytes)) > room {
		return
	}
	i.key, i.kept = key, true
	c.byKey[key] = c.order.PushFront(i)
	c.used += int64(len(i.bytes))
	c.shrink()
}

// pin keeps an image for good, if it is there or comes and fits, or lets it go again.
func (c *images) pin(key string, pinned bool) {
	c.mu.Lock()
	defer c.unlock()
	if pinned {
		c.pins[key] = true
	} else {
		delete(c.pins, key)
	}
	c.shrink()
}

// drop throws out the images whose keys match.
func (c *images) drop(match func(key string) bool) {
	c.mu.Lock()
	defer c.unlock()
	for key, e := range c.byKey {
		if match(key) {
			c.remove(e)
		}
	}
}

// any tells whether there is an image whose key matches.
func (c *images) any(match func(key string) bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.byKey {
		if match(key) {
			return true
		}
	}
	return false
}

// has tells whether there is an image of a key.
func (c *images) has(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byKey[key] != nil
}

// size is the bytes of all images.
func (c *images) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// The rest is called with mu held.

func (c *images) shrink() {
	for e := c.order.Back(); e != nil && c.used > c.budget; {
		previous := e.Prev()
		if !c.pins[e.Value.(*image).key] {
			c.remove(e)
		}
		e = previous
	}
}

func (c *images) remove(e *list.Element) {
	i := c.order.Remove(e).(*image)
	delete(c.byKey, i.key)
	c.used -= int64(len(i.bytes))
	i.kept = false
	c.recycle(i)
}

func (c *images) recycle(i *image) {
	if i.readers == 0 && !i.kept {
		c.loose = append(c.loose, i.bytes)
		i.bytes = nil
	}
}

// unlock gives loose memory back without the lock: that of large images takes a while.
func (c *images) unlock() {
	loose := c.loose
	c.loose = nil
	c.mu.Unlock()
	for _, b := range loose {
		c.pool.Put(b)
	}
}
