package engine

import (
	"sync"
	"sync/atomic"
)

// crew spreads the work that follows a step over the CPUs. Its goroutines end with
// dismiss.
type crew struct {
	size int // beside the owner
	work chan func()
	done sync.WaitGroup
}

func newCrew(threads int) *crew {
	c := &crew{size: threads - 1, work: make(chan func())}
	for range c.size {
		c.done.Go(func() {
			for f := range c.work {
				f()
			}
		})
	}
	return c
}

// each calls f for 0 to n-1, side by side, and returns when all calls have.
func (c *crew) each(n int, f func(i int)) {
	var next atomic.Int64
	some := func() {
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			f(int(i))
		}
	}
	var helpers sync.WaitGroup
	for range min(c.size, n-1) {
		helpers.Add(1)
		c.work <- func() {
			defer helpers.Done()
			some()
		}
	}
	some()
	helpers.Wait()
}

func (c *crew) dismiss() {
	close(c.work)
	c.done.Wait()
}
