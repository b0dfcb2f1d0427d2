package adapters

import (
	"container/list"
	"sync"
)

// images keeps slot images in host memory, within a budget of bytes; those that were
// longest of no use go first, and pinned ones stay. An image is never changed, so it can
// be used while it is thrown out.
type images struct {
	budget int64

	mu    sync.Mutex
	used  int64
	byKey map[string]*list.Element
	order list.List // of *hostImage, the last used one in front
	pins  map[string]bool
}

type hostImage struct {
	key   string
	bytes []byte
}

func (c *images) init(budget int64) {
	c.budget, c.byKey, c.pins = budget, map[string]*list.Element{}, map[string]bool{}
}

// get returns the image of a key, or nil.
func (c *images) get(key string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*hostImage).bytes
}

// put keeps an image, if it fits beside the pinned ones.
func (c *images) put(key string, image []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	room := c.budget
	for pinned := range c.pins {
		if e := c.byKey[pinned]; e != nil {
			room -= int64(len(e.Value.(*hostImage).bytes))
		}
	}
	if c.byKey[key] != nil || int64(len(image)) > room {
		return
	}
	c.byKey[key] = c.order.PushFront(&hostImage{key, image})
	c.used += int64(len(image))
	c.shrink()
}

// pin keeps an image for good, if it is there or comes and fits, or lets it go again.
func (c *images) pin(key string, pinned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
	defer c.mu.Unlock()
	for key, e := range c.byKey {
		if match(key) {
			c.remove(e)
		}
	}
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
		if !c.pins[e.Value.(*hostImage).key] {
			c.remove(e)
		}
		e = previous
	}
}

func (c *images) remove(e *list.Element) {
	old := c.order.Remove(e).(*hostImage)
	delete(c.byKey, old.key)
	c.used -= int64(len(old.bytes))
}
