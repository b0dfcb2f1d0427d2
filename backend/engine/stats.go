package engine

import (
	"fmt"
	"sync/atomic"
	"time"

	"lorikeet/backend"
	"lorikeet/backend/sched"
)

// stats is written by the owner and read by anyone.
type stats struct {
	steps, tokens, nanoseconds [backend.NumModes]atomic.Uint64
	slots                      atomic.Uint64
	maxSlots                   atomic.Int64
	running, used, kept        atomic.Int64 // what has ended is taken off before its last event
	queries, hits, preemptions atomic.Uint64

	progress atomic.Int64 // when the owner last went on, or got something to do, in Unix nanoseconds
}

// patience is for how long the owner may be busy with one step: many times what any takes.
const patience = time.Minute

func (s *stats) beat() { s.progress.Store(time.Now().UnixNano()) }

// Ready implements backend.Engine.
func (e *Engine) Ready() error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return e.reason()
	}
	busy := e.stats.running.Load() > 0 || e.queued.Load() > 0
	if idle := time.Since(time.Unix(0, e.stats.progress.Load())); busy && idle > patience {
		return fmt.Errorf("%w: no step for %s", backend.ErrStalled, idle.Round(time.Second))
	}
	return nil
}

func (s *stats) step(step *sched.Step, took time.Duration) {
	s.steps[step.Mode].Add(1)
	s.tokens[step.Mode].Add(uint64(step.Tokens))
	s.nanoseconds[step.Mode].Add(uint64(took))
	s.slots.Add(uint64(step.Slots))
	if n := int64(step.Slots); n > s.maxSlots.Load() {
		s.maxSlots.Store(n)
	}
}

func (s *stats) snapshot() backend.Stats {
	out := backend.Stats{
		Slots: s.slots.Load(), MaxSlotsPerStep: int(s.maxSlots.Load()),
		Running: int(s.running.Load()), CacheUsed: int(s.used.Load()), CacheKept: int(s.kept.Load()),
		PrefixQueries: s.queries.Load(), PrefixHits: s.hits.Load(), Preemptions: s.preemptions.Load(),
	}
	for m := range out.Steps {
		out.Steps[m], out.Tokens[m], out.Time[m] = s.steps[m].Load(), s.tokens[m].Load(), time.Duration(s.nanoseconds[m].Load())
	}
	return out
}
