package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"lorikeet/backend"
	"lorikeet/backend/engine"
)

var stall = Scenario{
	Name:  "stall",
	Shows: "gaps between the tokens of 8 streams while prompts of 2000 tokens arrive one after the other, against none",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		const longest = 4096
		rig, err := e.Open(ctx, engine.Params{Context: longest, CacheTokens: 4 * longest}, e.Folder)
		if err != nil {
			return nil, err
		}
		defer rig.Close()
		leases, err := rig.leaseAll(ctx)
		if err != nil {
			return nil, err
		}
		random := e.random("stall")
		var requests []*backend.Request
		for i := range 8 {
			requests = append(requests, use(e.request(random, 16, longest-16), leases[i]))
		}
		streams, err := rig.stream(ctx, requests)
		if err != nil {
			return nil, err
		}
		defer streams.stop()
		quiet, busy := &series{name: "quiet p99", unit: "ms"}, &series{name: "busy p99", unit: "ms"}
		quietHalf, busyHalf := &series{name: "quiet median", unit: "ms"}, &series{name: "busy median", unit: "ms"}
		waits := &series{name: "first token of a prompt", unit: "ms"}
		promptTokens := e.pick(2000, 500)
		err = inTurns(e.pick(4, 2), func(int) error {
			from := time.Now()
			if err := streams.await(ctx, e.pick(80, 24)); err != nil {
				return err
			}
			gaps := streams.gaps(from, time.Now())
			quiet.add(percentile(gaps, 0.99))
			quietHalf.add(median(gaps))
			return nil
		}, func(int) error {
			from := time.Now()
			for range e.pick(2, 1) {
				a, err := rig.ask(ctx, use(e.request(random, promptTokens, 1), leases[sequences-1]))
				if err != nil {
					return err
				}
				waits.add(milliseconds(a.wait()))
			}
			gaps := streams.gaps(from, time.Now())
			busy.add(percentile(gaps, 0.99))
			busyHalf.add(median(gaps))
			return nil
		})
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("p99 gap with prompts of %d tokens ÷ quiet", promptTokens)
		return []Figure{ratio(name, busy, quiet, busyHalf.part(), quietHalf.part(), waits.part()).atMost(2.5)}, nil
	},
}

// streams are requests that generate in the background.
type streams struct {
	cancel  context.CancelFunc
	reading sync.WaitGroup
	steps   atomic.Int64 // events of the first one
	ended   atomic.Bool  // one of them has

	mu    sync.Mutex
	times [][]time.Time // of each one's events
}

// stream starts requests and waits until all of them generate.
func (r *Rig) stream(ctx context.Context, requests []*backend.Request) (*streams, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &streams{cancel: cancel, times: make([][]time.Time, len(requests))}
	for i, req := range requests {
		events, err := r.Engine.Submit(ctx, req)
		if err != nil {
			s.stop()
			return nil, err
		}
		s.reading.Go(func() {
			for range events {
				now := time.Now()
				s.mu.Lock()
				s.times[i] = append(s.times[i], now)
				s.mu.Unlock()
				if i == len(requests)-1 { // the last to begin
					s.steps.Add(1)
				}
			}
			s.ended.Store(true)
		})
	}
	if err := s.await(ctx, 8); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

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
		if s.ended.Load() {
			return errors.New("a stream ended before the measurement did")
		}
	}
	return nil
}

// gaps are the milliseconds between two tokens of a stream, of all gaps that end in an
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
