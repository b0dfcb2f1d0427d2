package bench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"lorikeet/adapters"
	"lorikeet/backend"
	"lorikeet/backend/engine"
)

const (
	cycleSlots     = 4
	cycleTokens    = 3
	cycleHostBytes = 16 << 20 // two images: the tier is in use, and full
)

var cycles = Scenario{
	Name:  "cycles",
	Shows: "memory over 1000 times loading an adapter, generating with it and giving its slot away",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		n, every := e.pick(1000, 120), e.pick(20, 6)
		rig, err := e.open(ctx, engine.Params{Slots: cycleSlots}, &adapters.Folder{FS: e.Folder}, cycleHostBytes)
		if err != nil {
			return nil, err
		}
		defer rig.Close()
		c := &cycle{rig: rig, names: rig.Manager.Names()}
		random := e.random("cycles")
		for range c.names { // the same in each round: what of the base is mapped does not change then
			c.requests = append(c.requests, e.request(random, 16, cycleTokens))
		}
		for range c.names { // the first use of everything
			if err := c.run(ctx); err != nil {
				return nil, err
			}
		}
		goroutines := settledGoroutines(0)
		var at, memory []float64
		for i := range n {
			if err := c.run(ctx); err != nil {
				return nil, err
			}
			if (i+1)%every == 0 {
				mb, err := residentMemory()
				if err != nil {
					return nil, err
				}
				at, memory = append(at, float64(i+1)), append(memory, mb)
			}
		}
		if loads := rig.Loads.Load(); loads < int64(n) {
			return nil, fmt.Errorf("%d loads in %d cycles: some adapters were resident", loads, n)
		}
		half := len(at) / 2
		slope, deviation := leastSquares(at[half:], memory[half:])
		after := settledGoroutines(goroutines)
		ratio := float64(after) / float64(goroutines)
		return []Figure{
			Figure{
				Name: "growth of resident memory in 1000 cycles", Unit: "MB",
				Value: 1000 * slope, Low: 1000 * (slope - 2*deviation), High: 1000 * (slope + 2*deviation),
				Parts: []Part{{"at the start", memory[0], "MB"}, {"half way", memory[half], "MB"}, {"at the end", memory[len(memory)-1], "MB"}, {"cycles", float64(n), ""}},
			}.atMost(2),
			Figure{Name: "goroutines at the end ÷ at the start", Value: ratio, Low: ratio, High: ratio, Parts: []Part{{"at the end", float64(after), ""}, {"at the start", float64(goroutines), ""}}}.atMost(1),
		}, nil
	},
}

// cycle uses adapters in a circle, more than there are slots.
type cycle struct {
	rig      *Rig
	names    []string
	requests []*backend.Request // one for each
	next     int
}

func (c *cycle) run(ctx context.Context) error {
	name, req := c.names[c.next], c.requests[c.next]
	c.next = (c.next + 1) % len(c.names)
	l, err := c.rig.acquire(ctx, name)
	if err != nil {
		return err
	}
	defer l.Release()
	_, err = c.rig.ask(ctx, use(req, l))
	return err
}

// residentMemory is that of this process, in MB, without what can be given back.
func residentMemory() (float64, error) {
	runtime.GC()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, resident int64 // pages
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0, fmt.Errorf("/proc/self/statm: %w", err)
	}
	return float64(resident*int64(os.Getpagesize())) / 1e6, nil
}

// settledGoroutines counts goroutines when those that are about to end have done so: the
// least number within a second, or the first that is not over enough.
func settledGoroutines(enough int) int {
	least := runtime.NumGoroutine()
	for range 100 {
		if least <= enough {
			break
		}
		time.Sleep(10 * time.Millisecond)
		least = min(least, runtime.NumGoroutine())
	}
	return least
}
