package adapters

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lorikeet/adapters/lora"
	"lorikeet/backend/fake"
)

// In these tests time is synctest's: it passes when every goroutine waits, so that
// what they say of it is exact.

func draining(m *Manager) int {
	m.slots.mu.Lock()
	defer m.slots.mu.Unlock()
	return m.slots.draining()
}

func seekers(m *Manager) int {
	m.slots.mu.Lock()
	defer m.slots.mu.Unlock()
	return len(m.slots.seekers)
}

// result is what a request that runs beside the test got.
type result struct {
	name  string
	lease *Lease
	err   error
}

// request asks for an adapter beside the test and returns when it waits or has got it.
func request(ctx context.Context, m *Manager, name string, got chan<- result) {
	go func() {
		l, err := m.Acquire(ctx, ask(name))
		got <- result{name, l, err}
	}()
	synctest.Wait()
}

// The slots are used by hot adapters without a break: each by three requests that
// overlap and come again as soon as they end. Newcomers get a slot within what the
// running requests take and the time a slot stays what it is, and the hot ones go on.
func TestHotAdaptersStarveNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const work = 90 * time.Millisecond
		m := manager(t, folder(8), fake.New(64, 2), time.Minute)
		var stop atomic.Bool
		var answers [2]atomic.Int64
		var hot sync.WaitGroup
		for g := range 6 {
			hot.Go(func() {
				time.Sleep(time.Duration(g/2) * work / 3)
				for !stop.Load() {
					l, err := m.Acquire(t.Context(), ask(fmt.Sprintf("a%d", g%2)))
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(work)
					l.Release()
					answers[g%2].Add(1)
				}
			})
		}
		time.Sleep(time.Second)
		for i := 2; i < 8; i++ {
			before := [2]int64{answers[0].Load(), answers[1].Load()}
			start := time.Now()
			l := acquire(t, m, fmt.Sprintf("a%d", i))
			// It may queue behind both hot ones.
			if waited := time.Since(start); waited > 2*(minResidency+work) {
				t.Errorf("a%d waited %s", i, waited)
			}
			time.Sleep(work)
			l.Release()
			time.Sleep(2 * time.Second)
			for h := range answers {
				if answers[h].Load()-before[h] < 10 {
					t.Errorf("a%d was hardly served beside a%d", h, i)
				}
			}
		}
		stop.Store(true)
		hot.Wait()
	})
}

func TestSlotsAreGivenInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, folder(10), fake.New(64, 1), time.Minute)
		current := acquire(t, m, "a0")
		time.Sleep(minResidency)
		got := make(chan result, 10)
		// a0 is resident, but drained for those who came before.
		want := []string{"a1", "a2", "a3", "a4", "a5", "a6", "a0", "a7"}
		for _, name := range want {
			request(t.Context(), m, name, got)
		}
		if n := seekers(m); n != len(want) {
			t.Fatalf("%d seekers", n)
		}
		// Those who wait for a slot hold nothing that a broken adapter's load needs.
		var unusable *lora.Error
		if _, err := m.Acquire(t.Context(), ask("broken")); !errors.As(err, &unusable) {
			t.Errorf("broken: %v", err)
		}
		var order []string
		for range want {
			current.Release()
			synctest.Wait()
			r := <-got
			if r.err != nil || len(got) != 0 {
				t.Fatalf("%+v, and %d more", r, len(got))
			}
			order = append(order, r.name)
			current = r.lease
		}
		if !slices.Equal(order, want) {
			t.Errorf("%v, want %v", order, want)
		}
	})
}

// As many slots are drained as there are seekers: those with the fewest leases, then
// the least recently used.
func TestVictims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, folder(7), fake.New(64, 3), time.Minute)
		leases := map[string][]*Lease{}
		for _, name := range []string{"a0", "a0", "a1", "a2"} {
			leases[name] = append(leases[name], acquire(t, m, name))
		}
		time.Sleep(minResidency)
		got := make(chan result, 9)
		ctx, leave := context.WithCancel(t.Context())
		for i, victim := range []string{"a1", "a2", "a0"} {
			request(ctx, m, fmt.Sprintf("a%d", 3+i), got)
			if n := draining(m); n != i+1 {
				t.Fatalf("%d slots are drained for %d seekers", n, i+1)
			}
			if m.slots.lease(leases[victim][0].Key) != 0 {
				t.Errorf("%s is not drained", victim)
			}
		}
		request(ctx, m, "a6", got) // there are no more slots
		if n := draining(m); n != 3 {
			t.Errorf("%d slots are drained", n)
		}
		leave()
		synctest.Wait()
		if d, s := draining(m), seekers(m); d != 0 || s != 0 {
			t.Errorf("%d slots are drained for %d seekers", d, s)
		}
	})
}

// When a seeker leaves, the slot that was drained for it serves its own adapter again,
// also those who asked for it meanwhile.
func TestDrainingEndsWithItsSeeker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &recorder{Engine: fake.New(64, 1)}
		m := manager(t, folder(2), e, time.Minute)
		acquire(t, m, "a0")
		time.Sleep(minResidency)
		ctx, leave := context.WithCancel(t.Context())
		got := make(chan result, 1)
		request(ctx, m, "a1", got)
		again := make(chan result, 1)
		request(t.Context(), m, "a0", again)
		if draining(m) != 1 || len(again) != 0 {
			t.Fatalf("%d slots are drained, %d leases were given", draining(m), len(again))
		}
		leave()
		if r := <-got; !errors.Is(r.err, context.Canceled) {
			t.Errorf("%+v", r)
		}
		if r := <-again; r.err != nil || r.lease.Slot != 1 {
			t.Errorf("%+v", r)
		}
		acquire(t, m, "a0")
		if draining(m) != 0 || seekers(m) != 0 || e.fills.Load() != 1 {
			t.Errorf("%d slots are drained for %d seekers after %d fills", draining(m), seekers(m), e.fills.Load())
		}
	})
}

func TestSlotIsNotDrainedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, folder(2), fake.New(64, 1), time.Minute)
		acquire(t, m, "a0")
		got := make(chan result, 1)
		request(t.Context(), m, "a1", got)
		time.Sleep(minResidency - 1)
		acquire(t, m, "a0")
		if draining(m) != 0 {
			t.Error("drained early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if draining(m) != 1 {
			t.Error("not drained in time")
		}
	})
}

// A load goes on beyond the deadline of its request, for as long as the client may
// need to come back.
func TestDeadlineKeepsThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &recorder{Engine: fake.New(64, 1)}
		m := manager(t, folder(2), e, time.Second)
		a0 := acquire(t, m, "a0")
		timeout := func() {
			t.Helper()
			if _, err := m.Acquire(t.Context(), ask("a1")); !errors.Is(err, ErrLoadTimeout) {
				t.Fatal(err)
			}
		}
		timeout()
		time.Sleep(linger - 1)
		synctest.Wait()
		if draining(m) != 1 || seekers(m) != 1 {
			t.Error("the place is lost")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if draining(m) != 0 || seekers(m) != 0 {
			t.Error("the place is kept for ever")
		}
		timeout()
		time.Sleep(linger / 2)
		timeout() // the same load
		time.Sleep(linger - 1)
		a0.Release()
		synctest.Wait()
		if l := acquire(t, m, "a1"); l.Slot != 1 || e.fills.Load() != 2 {
			t.Errorf("slot %d, %d fills", l.Slot, e.fills.Load())
		}
	})
}

func TestCloseEndsTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, folder(3), fake.New(64, 1), time.Minute)
		acquire(t, m, "a0")
		got := make(chan result, 2)
		request(t.Context(), m, "a1", got)
		request(t.Context(), m, "a2", got)
		m.Close()
		for range 2 {
			if r := <-got; !errors.Is(r.err, ErrClosed) {
				t.Errorf("%+v", r)
			}
		}
	})
}

// watched is an engine that knows what it was given, and fails now and then if told to.
type watched struct {
	Engine
	fails   bool
	t       *testing.T
	leases  []atomic.Int64  // by slot, as the requests count them
	content []atomic.Uint64 // by slot, hash of the image
}

func (w *watched) FillSlot(ctx context.Context, slot int, image []byte) error {
	check := func(when string) {
		if n := w.leases[slot].Load(); n != 0 {
			w.t.Errorf("%s: slot %d is filled with %d leases on it", when, slot, n)
		}
	}
	check("before")
	defer check("after")
	w.content[slot].Store(0)
	if w.fails && rand.IntN(20) == 0 {
		return errors.New("no")
	}
	if err := w.Engine.FillSlot(ctx, slot, image); err != nil {
		return err
	}
	h := fnv.New64a()
	h.Write(image)
	w.content[slot].Store(h.Sum64())
	return nil
}

// Requests for one adapter or two, some of which leave early: no slot is filled while
// it is leased, and a lease's slot holds what its key says from first to last.
func TestRandomRequests(t *testing.T) {
	const slots = 3
	e := &watched{Engine: fake.New(64, slots), fails: true, t: t, leases: make([]atomic.Int64, slots+1), content: make([]atomic.Uint64, slots+1)}
	m := manager(t, folder(7), e, time.Minute)
	m.slots.residency = 0
	var contents sync.Map // key -> hash
	var served atomic.Int64
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			for range 150 {
				first, second := rand.IntN(7), rand.IntN(20)
				refs := ask(fmt.Sprintf("a%d", first))
				if second < 7 && second != first {
					refs = append(refs, Ref{fmt.Sprintf("a%d", second), 0.5})
				}
				ctx, leave := context.WithCancel(t.Context())
				if rand.IntN(4) == 0 {
					go leave()
				}
				l, err := m.Acquire(ctx, refs)
				if err != nil {
					leave()
					if !errors.Is(err, context.Canceled) && err.Error() != "no" {
						t.Error(err)
					}
					continue
				}
				e.leases[l.Slot].Add(1)
				hash := e.content[l.Slot].Load()
				if known, _ := contents.LoadOrStore(l.Key, hash); known != hash || hash == 0 {
					t.Errorf("%s: slot %d holds %x, it was %x", l, l.Slot, hash, known)
				}
				runtime.Gosched()
				if now := e.content[l.Slot].Load(); now != hash {
					t.Errorf("%s: slot %d changed from %x to %x", l, l.Slot, hash, now)
				}
				e.leases[l.Slot].Add(-1)
				l.Release()
				leave()
				served.Add(1)
			}
		})
	}
	wg.Wait()
	m.Close() // the loads that were abandoned
	m.slots.mu.Lock()
	defer m.slots.mu.Unlock()
	if served.Load() == 0 || len(m.slots.seekers) != 0 || m.slots.draining() != 0 || len(m.loading) != 0 {
		t.Errorf("%d served; left: %d seekers, %d drains, %d loads", served.Load(), len(m.slots.seekers), m.slots.draining(), len(m.loading))
	}
	for i, s := range m.slots.all {
		if s.leases != 0 || s.reserved != "" {
			t.Errorf("slot %d is left as %+v", i, s)
		}
	}
}
