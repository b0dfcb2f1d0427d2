package adapters

import (
	"container/list"
	"sync"
)

// images keeps slot images in host memory, within a budget of bytes; those that were
// longest of no use go first. An image is never changed, so it can be used while it is
// thrown out.
type images struct {
	budget int64

	mu    sync.Mutex
	used  int64
	byKey map[string]*list.Element
	order list.List // of *hostImage, the last used one in front
}

type hostImage struct {
	key   string
	bytes []byte
}

func (c *images) init(budget int64) {
	c.budget, c.byKey = budget, map[string]*list.Element{}
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

// put keeps an image, if it fits at all.
func (c *images) put(key string, image []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[key] != nil || int64(len(image)) > c.budget {
		return
	}
	c.byKey[key] = c.order.PushFront(&hostImage{key, image})
	for c.used += int64(len(image)); c.used > c.budget; {
		last := c.order.Back()
		old := c.order.Remove(last).(*hostImage)
		delete(c.byKey, old.key)
		c.used -= int64(len(old.bytes))
	}
}
