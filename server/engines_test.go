package server

import (
	"context"
	"sync"
	"testing"
	"time"

	"lorikeet/backend"
	"lorikeet/backend/fake"
)

// The engines of the tests are the fake with something in front of its events.

// relay forwards events. before is called for each; closing when all have come, just
// before the reader is told.
func relay(from <-chan backend.Event, before func(backend.Event), closing func()) <-chan backend.Event {
	to := make(chan backend.Event, 1024)
	go func() { // ends with from
		defer close(to)
		defer closing()
		for ev := range from {
			before(ev)
			to <- ev
		}
	}()
	return to
}

// guarded fails the test when a slot is filled while a request uses it. No request
// goes on until some run at once.
type guarded struct {
	*fake.Engine
	t      *testing.T
	enough chan struct{} // closed when gather requests run at once

	mu    sync.Mutex
	inUse map[int]int // requests by slot
	most  int         // that ran at once
}

const gather = 5

func newGuarded(t *testing.T, slots int) *guarded {
	g := &guarded{Engine: fake.New(256, slots), t: t, enough: make(chan struct{}), inUse: map[int]int{}}
	g.StepTime = 50 * time.Microsecond // so that they go on overlapping
	return g
}

func (g *guarded) Submit(ctx context.Context, r *backend.Request) (<-chan backend.Event, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	events, err := g.Engine.Submit(ctx, r)
	if err != nil {
		return nil, err
	}
	g.inUse[r.Slot]++
	running := 0
	for _, n := range g.inUse {
		running += n
	}
	if running > g.most {
		if g.most = running; running == gather {
			close(g.enough)
		}
	}
	return relay(events, func(backend.Event) { <-g.enough }, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.inUse[r.Slot]--
	}), nil
}

func (g *guarded) FillSlot(ctx context.Context, slot int, image []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := g.inUse[slot]; n > 0 {
		g.t.Errorf("slot %d is filled while %d requests use it", slot, n)
	}
	return g.Engine.FillSlot(ctx, slot, image)
}

// gated stops each request with an adapter after its first event, until the gate is
// opened or its client leaves.
type gated struct {
	*fake.Engine
	gate chan struct{}
	open func() // idempotent
}

// startGated serves a gated engine; the gate is open at the end of the test.
func startGated(t *testing.T, slots int, loadTimeout time.Duration) (*running, *gated) {
	g := &gated{Engine: fake.New(256, slots), gate: make(chan struct{})}
	g.StepTime = 100 * time.Microsecond
	g.open = sync.OnceFunc(func() { close(g.gate) })
	s := start(t, g, loadTimeout, Options{})
	t.Cleanup(g.open)
	return s, g
}

func (g *gated) Submit(ctx context.Context, r *backend.Request) (<-chan backend.Event, error) {
	events, err := g.Engine.Submit(ctx, r)
	if err != nil || r.Slot == 0 {
		return events, err
	}
	first := true
	return relay(events, func(backend.Event) {
		if first {
			first = false
			return
		}
		select {
		case <-g.gate:
		case <-ctx.Done():
		}
	}, func() {}), nil
}

// endless takes an hour for a token: only the end of its context ends a request. It
// may say something before, and tells of each request.
type endless struct {
	*fake.Engine
	first     []backend.Event
	submitted chan struct{}
}

func newEndless(slots int, first ...backend.Event) *endless {
	e := &endless{Engine: fake.New(256, slots), first: first, submitted: make(chan struct{}, 1024)}
	e.StepTime = time.Hour
	return e
}

func (e *endless) Submit(ctx context.Context, r *backend.Request) (<-chan backend.Event, error) {
	events, err := e.Engine.Submit(ctx, r)
	if err != nil {
		return nil, err
	}
	e.submitted <- struct{}{}
	all := make(chan backend.Event, 1024)
	for _, ev := range e.first {
		all <- ev
	}
	go func() { // ends with events
		defer close(all)
		for ev := range events {
			all <- ev
		}
	}()
	return all, nil
}

// scripted answers the first requests as the fake does, then with a script.
type scripted struct {
	*fake.Engine
	good   int   // requests before the script
	refuse error // of Submit, or
	events []backend.Event
}

func (s *scripted) Submit(ctx context.Context, r *backend.Request) (<-chan backend.Event, error) {
	if s.good > 0 {
		s.good--
		return s.Engine.Submit(ctx, r)
	}
	if s.refuse != nil {
		return nil, s.refuse
	}
	out := make(chan backend.Event, len(s.events))
	for _, ev := range s.events {
		out <- ev
	}
	close(out)
	return out, nil
}
