package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/bench/synth"
)

const (
	zipfExponent = 1.0
	registered   = 1000
	zipfClients  = 2 * sequences
)

var zipf = Scenario{
	Name:  "zipf",
	Shows: "1000 adapters over 16 slots under Zipf traffic (s = 1, 32 clients), against 16 adapters",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		var traffics []*traffic
		for _, n := range []int{registered, sequences} {
			folder, err := synth.Many(e.Folder, n)
			if err != nil {
				return nil, err
			}
			rig, err := e.Open(ctx, engine.Params{}, folder)
			if err != nil {
				return nil, err
			}
			defer rig.Close()
			t := &traffic{env: e, rig: rig, names: rig.Manager.Names()}
			if err := t.draw(ctx, e.pick(160, 96)); err != nil {
				return nil, err
			}
			traffics = append(traffics, t)
		}
		many, few := traffics[0], traffics[1]
		manyRate, fewRate := &series{name: "1000 adapters", unit: "tok/s"}, &series{name: "16 adapters", unit: "tok/s"}
		loads, hits := &series{name: "loads", unit: "/s"}, &series{name: "requests without a load", unit: "%"}
		manyRunning, fewRunning := &series{name: "sequences generating"}, &series{name: "with 16"}
		err := inTurns(e.pick(3, 1), func(int) error {
			r, err := many.run(ctx)
			manyRate.add(r.tokensPerSecond)
			loads.add(r.loadsPerSecond)
			hits.add(100 * r.hits)
			manyRunning.add(r.generating)
			return err
		}, func(int) error {
			r, err := few.run(ctx)
			fewRate.add(r.tokensPerSecond)
			fewRunning.add(r.generating)
			return err
		})
		if err != nil {
			return nil, err
		}
		return []Figure{
			ratio("1000 adapters ÷ 16 adapters", manyRate, fewRate, manyRunning.part(), fewRunning.part(), loads.part(), hits.part(),
				Part{"adapters asked for", float64(many.touched), ""}).atLeast(0.9),
		}, nil
	},
}

// traffic is a sequence of requests for adapters, taken by clients that each wait for
// an answer before they ask again.
type traffic struct {
	env     *Env
	rig     *Rig
	names   []string
	adapter []int // of each request
	touched int   // how many different ones
}

// draw decides which adapters are asked for, and loads each once: what is measured is
// how it goes on, not the first look at files.
func (t *traffic) draw(ctx context.Context, requests int) error {
	random := t.env.random("zipf adapters")
	choose := newZipf(len(t.names), zipfExponent)
	seen := map[int]bool{}
	for range requests {
		i := choose.draw(random)
		t.adapter = append(t.adapter, i)
		if seen[i] {
			continue
		}
		seen[i] = true
		l, err := t.rig.acquire(ctx, t.names[i])
		if err != nil {
			return err
		}
		l.Release()
	}
	t.touched = len(seen)
	t.env.say("zipf: %d requests ask for %d of %d adapters", requests, t.touched, len(t.names))
	return nil
}

type trafficResult struct {
	tokensPerSecond, loadsPerSecond float64
	hits                            float64 // part of the requests that caused no load
	generating                      float64 // sequences on average
}

// run measures from the start until the last request is taken, that is, while all
// clients are busy.
func (t *traffic) run(ctx context.Context) (trafficResult, error) {
	const promptTokens = 16
	random := t.env.random("zipf prompts")
	maxTokens := t.env.pick(48, 24)
	var (
		mu      sync.Mutex
		next    int
		failed  error
		answers []*answer
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
		name, req = t.names[t.adapter[next]], t.env.request(random, promptTokens, maxTokens)
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
			mu.Unlock()
		}
	}
	var clients sync.WaitGroup
	for range zipfClients {
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
		hits: 1 - float64(loads)/float64(len(t.adapter)), generating: generating.Seconds() / seconds,
	}, nil
}

// zipfChoice draws from n things, the k-th of which is asked for 1/k^s as often as the
// first.
type zipfChoice struct{ upTo []float64 } // cumulative

func newZipf(n int, s float64) *zipfChoice {
	z := &zipfChoice{make([]float64, n)}
	sum := 0.0
	for k := range z.upTo {
		sum += math.Pow(float64(k+1), -s)
		z.upTo[k] = sum
	}
	return z
}

func (z *zipfChoice) draw(random *rand.Rand) int {
	i, _ := slices.BinarySearch(z.upTo, random.Float64()*z.upTo[len(z.upTo)-1])
	return min(i, len(z.upTo)-1)
}
