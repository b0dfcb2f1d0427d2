package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"lorikeet/backend"
)

// traffic is a sequence of requests for adapters, taken by clients that each wait for
// an answer before they ask again.
type traffic struct {
	env     *Env
	rig     *Rig
	name    string // of the scenario
	clients int
	adapter []string // of each request
	touched int      // how many different ones
}

// newTraffic decides which adapters are asked for, by a choice among the numbers of
// adapters, and loads each once: what is measured is how it goes on, not the first look
// at files.
func newTraffic(ctx context.Context, name string, rig *Rig, e *Env, clients, requests int, choose func(*rand.Rand) int) (*traffic, error) {
	t := &traffic{env: e, rig: rig, name: name, clients: clients}
	random := e.random(name + " adapters")
	names := rig.Manager.Names()
	seen := map[string]bool{}
	for range requests {
		adapter := names[choose(random)]
		t.adapter = append(t.adapter, adapter)
		if seen[adapter] {
			continue
		}
		seen[adapter] = true
		l, err := rig.acquire(ctx, adapter)
		if err != nil {
			return nil, err
		}
		l.Release()
	}
	t.touched = len(seen)
	e.say("%s: %d requests ask for %d of %d adapters", name, requests, t.touched, len(names))
	return t, nil
}

type trafficResult struct {
	tokensPerSecond, loadsPerSecond float64
	hits                            float64   // part of the requests that caused no load
	generating                      float64   // sequences on average
	waits                           []float64 // milliseconds from asking for an adapter to the first token, of each request
}

// run measures from the start until the last request is taken, that is, while all
// clients are busy.
func (t *traffic) run(ctx context.Context) (trafficResult, error) {
	const promptTokens = 16
	random := t.env.random(t.name + " prompts")
	maxTokens := t.env.pick(48, 24)
	var (
		mu      sync.Mutex
		next    int
		failed  error
		answers []*answer
		waits   []float64
		end     time.Time
		loads   int64
	)
	before, start := t.rig.Loads.Load(), time.Now()
	take := func() (name string, req *backend.Request, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(t.adapter) || failed != nil {
			return "", nil, false
		}
		name, req = t.adapter[next], t.env.request(random, promptTokens, maxTokens)
		if next++; next == len(t.adapter) {
			end, loads = time.Now(), t.rig.Loads.Load()-before
		}
		return name, req, true
	}
	client := func() error {
		for {
			name, req, ok := take()
			if !ok {
				return nil
			}
			asked := time.Now()
			l, err := t.rig.acquire(ctx, name)
			if err != nil {
				return fmt.Errorf("acquire %s: %w", name, err)
			}
			a, err := t.rig.ask(ctx, use(req, l))
			l.Release()
			if err != nil {
				return err
			}
			mu.Lock()
			answers = append(answers, a)
			waits = append(waits, milliseconds(a.first().Sub(asked)))
			mu.Unlock()
		}
	}
	var clients sync.WaitGroup
	for range t.clients {
		clients.Go(func() {
			if err := client(); err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	if failed != nil {
		return trafficResult{}, failed
	}
	tokens := 0
	var generating time.Duration
	for _, a := range answers {
		tokens += a.until(end)
		if to := slices.MinFunc([]time.Time{a.last(), end}, time.Time.Compare); to.After(a.first()) {
			generating += to.Sub(a.first())
		}
	}
	seconds := end.Sub(start).Seconds()
	return trafficResult{
		tokensPerSecond: float64(tokens) / seconds, loadsPerSecond: float64(loads) / seconds,
		hits: 1 - float64(loads)/float64(len(t.adapter)), generating: generating.Seconds() / seconds, waits: waits,
	}, nil
}
