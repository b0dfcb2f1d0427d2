package bench

import (
	"context"
	"errors"
	"sync"
	"time"

	"lorikeet/adapters"
	"lorikeet/backend/engine"
)

const (
	overload = 1.5 // requests arrive so many times as fast as they can be served
	backlog  = 2 * sequences
	share    = 10 // every tenth request is of the 15 others
)

var fairness = Scenario{
	Name:  "fairness",
	Shows: "wait of 15 adapters while one sends 90 % of an overload (1.5 × capacity, 32 waiting from the start), against even traffic",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		rig, err := e.Open(ctx, engine.Params{Queue: 4096}, e.Folder)
		if err != nil {
			return nil, err
		}
		defer rig.Close()
		leases, err := rig.leaseAll(ctx)
		if err != nil {
			return nil, err
		}
		l := &load{env: e, rig: rig, leases: leases}
		requests := e.pick(320, 120)
		var evenly, skewed []int // the adapter of each request
		for i := range requests {
			evenly = append(evenly, i%sequences)
			if i%share == share/2 {
				skewed = append(skewed, 1+i/share%(sequences-1))
			} else {
				skewed = append(skewed, 0)
			}
		}
		if l.interval, err = l.calibrate(ctx); err != nil {
			return nil, err
		}
		e.say("fairness: a request every %.0f ms", milliseconds(l.interval))
		others, even := &series{name: "others", unit: "ms"}, &series{name: "even", unit: "ms"}
		heavy := &series{name: "the one with 90 %", unit: "ms"}
		empty := &series{name: "arrivals that found nobody waiting", unit: "%"}
		err = inTurns(e.pick(3, 1), func(int) error {
			r, err := l.run(ctx, skewed)
			others.add(percentile(r.others, 0.95))
			heavy.add(percentile(r.first, 0.95))
			empty.add(100 * r.empty)
			return err
		}, func(int) error {
			r, err := l.run(ctx, evenly)
			even.add(percentile(r.others, 0.95))
			empty.add(100 * r.empty)
			return err
		})
		if err != nil {
			return nil, err
		}
		return []Figure{ratio("p95 wait of the others ÷ under even traffic", others, even, heavy.part(), empty.part()).atMost(2)}, nil
	},
}

// load is requests that arrive whether others were answered or not.
type load struct {
	env      *Env
	rig      *Rig
	leases   []*adapters.Lease
	interval time.Duration // between arrivals
}

const (
	loadPrompt = 16
	loadAnswer = 8
)

// calibrate finds out how fast requests can be served, and returns the interval at
// which they are too many.
func (l *load) calibrate(ctx context.Context) (time.Duration, error) {
	l.interval = 0
	adapter := make([]int, 4*sequences)
	for i := range adapter {
		adapter[i] = i % sequences
	}
	start := time.Now()
	_, err := l.run(ctx, adapter)
	return time.Duration(float64(time.Since(start)) / float64(len(adapter)) / overload), err
}

// loadResult has the waits, in milliseconds, of adapter 0 and of the others.
type loadResult struct {
	first, others []float64
	empty         float64 // part of the arrivals when nobody waited
}

// run submits a request for each element, an index of leases.
func (l *load) run(ctx context.Context, adapter []int) (loadResult, error) {
	random := l.env.random("fairness")
	answers, errs := make([]*answer, len(adapter)), make([]error, len(adapter))
	var result loadResult
	var asking sync.WaitGroup
	start := time.Now()
	for i, which := range adapter {
		if late := i - backlog; late >= 0 && l.interval > 0 {
			select {
			case <-time.After(time.Until(start.Add(time.Duration(late) * l.interval))):
			case <-ctx.Done():
			}
			if l.rig.Engine.Stats().Waiting == 0 {
				result.empty += 1 / float64(len(adapter)-backlog)
			}
		}
		req := use(l.env.request(random, loadPrompt, loadAnswer), l.leases[which])
		asking.Go(func() { answers[i], errs[i] = l.rig.ask(ctx, req) })
	}
	asking.Wait()
	if err := errors.Join(errs...); err != nil {
		return loadResult{}, err
	}
	for i, a := range answers {
		wait := milliseconds(a.wait())
		if adapter[i] == 0 {
			result.first = append(result.first, wait)
		} else {
			result.others = append(result.others, wait)
		}
	}
	return result, nil
}
