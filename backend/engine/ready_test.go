package engine

import (
	"errors"
	"testing"
	"time"

	"lorikeet/backend"
)

// An engine is ready until it is closed, or has had something to do for long without
// going on.
func TestReady(t *testing.T) {
	e := &Engine{}
	ago := func(d time.Duration) { e.stats.progress.Store(time.Now().Add(-d).UnixNano()) }
	ago(2 * patience)
	if err := e.Ready(); err != nil {
		t.Errorf("at rest: %v", err)
	}
	e.queued.Store(1)
	if err := e.Ready(); !errors.Is(err, backend.ErrStalled) {
		t.Errorf("with a request that waits: %v", err)
	}
	e.queued.Store(0)
	e.stats.running.Store(1)
	if err := e.Ready(); !errors.Is(err, backend.ErrStalled) {
		t.Errorf("with one that runs: %v", err)
	}
	ago(patience / 2)
	if err := e.Ready(); err != nil {
		t.Errorf("in a long step: %v", err)
	}
	e.closed = true
	if err := e.Ready(); !errors.Is(err, backend.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	e.lost = backend.ErrLost
	if err := e.Ready(); !errors.Is(err, backend.ErrLost) {
		t.Errorf("lost: %v", err)
	}
}
