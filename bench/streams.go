package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"lorikeet/backend"
)

// streams are requests that generate in the background.
type streams struct {
	cancel  context.CancelFunc
	reading sync.WaitGroup
	steps   atomic.Int64 // events of the last one

	mu     sync.Mutex
	times  [][]time.Time // of each answer's events
	failed error         // one of them, or ended
}

// stream starts requests and waits until all of them generate. One that comes to its end
// begins again, or fails if it should not.
func (r *Rig) stream(ctx context.Context, requests []*backend.Request, again bool) (*streams, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &streams{cancel: cancel}
	for i, req := range requests {
		events, err := r.Engine.Submit(ctx, req)
		if err != nil {
			s.stop()
			return nil, err
		}
		s.reading.Go(func() {
			for err == nil {
				if err = s.read(events, i == len(requests)-1); err == nil && !again {
					err = errors.New("it ended before the measurement did")
				}
				if err == nil {
					events, err = r.Engine.Submit(ctx, req)
				}
			}
			if ctx.Err() == nil {
				s.fail(fmt.Errorf("stream %d: %w", i, err))
			}
		})
	}
	if err := s.await(ctx, 8); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// read takes the events of an answer. Those of the last request, which is the last to
// begin, count the steps.
func (s *streams) read(events <-chan backend.Event, last bool) error {
	s.mu.Lock()
	answer := len(s.times)
	s.times = append(s.times, nil)
	s.mu.Unlock()
	var err error
	for ev := range events {
		now := time.Now()
		s.mu.Lock()
		s.times[answer] = append(s.times[answer], now)
		s.mu.Unlock()
		if last {
			s.steps.Add(1)
		}
		err = ev.Err
	}
	return err
}

func (s *streams) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = errors.Join(s.failed, err)
}

// err is of the streams that failed.
func (s *streams) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// stop ends the streams, which is no failure.
func (s *streams) stop() {
	s.cancel()
	s.reading.Wait()
}

// await returns after so many more steps.
func (s *streams) await(ctx context.Context, steps int) error {
	until := s.steps.Load() + int64(steps)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.steps.Load() < until {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.err(); err != nil {
			return err
		}
	}
	return nil
}

// gaps are the milliseconds between two tokens of an answer, of all gaps that end in an
// interval. The first one, which began before, counts as well: in it a prompt arrived.
func (s *streams) gaps(from, to time.Time) []float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []float64
	for _, times := range s.times {
		for i := 1; i < len(times); i++ {
			if times[i].After(from) && !times[i].After(to) {
				all = append(all, milliseconds(times[i].Sub(times[i-1])))
			}
		}
	}
	return all
}
