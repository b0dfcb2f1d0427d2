package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"lorikeet/adapters"
	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/bench/synth"
)

var storm = Scenario{
	Name:  "storm",
	Shows: "gaps between the tokens of 8 streams while 200 adapters a minute are loaded into the other 8 of 16 slots, against none",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		dir, err := synth.Adapters(filepath.Join(e.dir, "storm"), e.Config, stormAdapters, rank)
		if err != nil {
			return nil, fmt.Errorf("make the adapters: %w", err)
		}
		disk, err := e.openStorm(ctx, dir, 0)
		if err != nil {
			return nil, err
		}
		defer disk.rig.Close()
		host, err := e.openStorm(ctx, dir, hostBytes)
		if err != nil {
			return nil, err
		}
		defer host.rig.Close()

		quiet, fromDisk := newWindows("quiet"), newWindows("loads")
		hostQuiet, fromHost := newWindows("quiet"), newWindows("loads")
		requests, both := newWindows("requests alone"), newWindows("with loads")
		err = inTurns(e.pick(3, 1),
			disk.measure(ctx, quiet, arrival{}), disk.measure(ctx, fromDisk, arrival{load: true}),
			host.measure(ctx, hostQuiet, arrival{}), host.measure(ctx, fromHost, arrival{load: true}),
			disk.measure(ctx, requests, arrival{request: true}), disk.measure(ctx, both, arrival{load: true, request: true}),
		)
		if err != nil {
			return nil, err
		}
		return []Figure{
			ratio("p99 gap, 200 loads/min from disk ÷ quiet", fromDisk.p99, quiet.p99, fromDisk.parts(quiet)...).atMost(1.5),
			ratio("p99 gap, 200 loads/min from host memory ÷ quiet", fromHost.p99, hostQuiet.p99, fromHost.parts(hostQuiet)...).atMost(1.5),
			ratio("p99 gap, a request for each load from disk ÷ without loads", both.p99, requests.p99, both.parts(requests)...).atMost(1.5),
		}, nil
	},
}

const (
	stormStreams  = 8
	stormAdapters = 24 // one for each stream, and twice as many as slots are left
	stormInterval = time.Minute / 200
)

// tempest loads adapters, whether earlier loads have come to an end or not, while others
// stream.
type tempest struct {
	env    *Env
	rig    *Rig
	held   []*adapters.Lease // of the streams
	others []string          // loaded in a circle: none is resident when its turn comes
	next   int
}

// openStorm has loaded each adapter once.
func (e *Env) openStorm(ctx context.Context, dir string, hostBytes int64) (*tempest, error) {
	rig, err := e.OpenDir(ctx, engine.Params{Context: 1024, Sequences: sequences}, dir, hostBytes)
	if err != nil {
		return nil, err
	}
	names := rig.Manager.Names()
	t := &tempest{env: e, rig: rig, others: names[stormStreams:]}
	for _, name := range names[:stormStreams] {
		l, err := rig.lease(ctx, name)
		if err != nil {
			rig.Close()
			return nil, err
		}
		t.held = append(t.held, l)
	}
	for _, name := range t.others {
		l, err := rig.acquire(ctx, name)
		if err != nil {
			rig.Close()
			return nil, err
		}
		l.Release()
	}
	return t, nil
}

// arrival is what happens at each beat of a window.
type arrival struct {
	load    bool // of an adapter that is not resident
	request bool // for that adapter, or else for one that a stream uses
}

// windows are what streams and loads have got in windows of one kind.
type windows struct {
	p99, middle, loadMiddle, loadP99, perMinute *series
}

func newWindows(name string) *windows {
	return &windows{
		p99: &series{name: name + " p99", unit: "ms"}, middle: &series{name: name + " median", unit: "ms"},
		loadMiddle: &series{name: "a load p50", unit: "ms"}, loadP99: &series{name: "p99", unit: "ms"},
		perMinute: &series{name: "loads", unit: "/min"},
	}
}

// parts are the raw figures of windows with loads, beside those of others.
func (w *windows) parts(others *windows) []Part {
	return []Part{w.middle.part(), others.middle.part(), w.loadMiddle.part(), w.loadP99.part(), w.perMinute.part()}
}

// measure returns what measures a window: streams that begin anew, and after that an
// arrival at each beat.
func (t *tempest) measure(ctx context.Context, into *windows, a arrival) func(int) error {
	return func(int) error {
		const longest = 1000 // more than a window has steps
		random := t.env.random("storm")
		var requests []*backend.Request
		for _, l := range t.held {
			requests = append(requests, use(t.env.request(random, 16, longest), l))
		}
		streams, err := t.rig.stream(ctx, requests, true)
		if err != nil {
			return err
		}
		beats := t.env.pick(27, 8)
		start := time.Now()
		waits, loads, err := t.blow(ctx, a, start, beats)
		end := start.Add(time.Duration(beats) * stormInterval)
		gaps := streams.gaps(start, end)
		streams.stop()
		if err := errors.Join(err, streams.err()); err != nil {
			return err
		}
		into.p99.add(percentile(gaps, 0.99))
		into.middle.add(median(gaps))
		if a.load {
			if loads < beats/2 {
				return fmt.Errorf("only %d loads of %d in time: this is no storm", loads, beats)
			}
			into.loadMiddle.add(median(waits))
			into.loadP99.add(percentile(waits, 0.99))
			into.perMinute.add(float64(loads) / end.Sub(start).Minutes())
		}
		return nil
	}
}

// blow has something arrive at each beat, and returns after the last beat and arrival.
// The waits are the milliseconds from the beat until the adapter can be used; the loads
// are those within the window: fewer than beats if the machine can't keep up.
func (t *tempest) blow(ctx context.Context, a arrival, start time.Time, beats int) (waits []float64, loads int, err error) {
	random := t.env.random("storm arrivals")
	waits, errs := make([]float64, beats), make([]error, beats)
	before := t.rig.Loads.Load()
	var arrived sync.WaitGroup
	for i := range beats {
		due := start.Add(time.Duration(i) * stormInterval)
		sleepUntil(ctx, due)
		if !a.load && !a.request {
			continue
		}
		name := t.held[i%len(t.held)].Parts[0].Name
		if a.load {
			name = t.others[t.next]
			t.next = (t.next + 1) % len(t.others)
		}
		req := t.env.request(random, 16, 8)
		arrived.Go(func() {
			l, err := t.rig.acquire(ctx, name)
			if err != nil {
				errs[i] = err
				return
			}
			defer l.Release()
			waits[i] = milliseconds(time.Since(due))
			if a.request {
				_, errs[i] = t.rig.ask(ctx, use(req, l))
			}
		})
	}
	sleepUntil(ctx, start.Add(time.Duration(beats)*stormInterval))
	loads = int(t.rig.Loads.Load() - before)
	arrived.Wait()
	return waits, loads, errors.Join(append(errs, ctx.Err())...)
}

func sleepUntil(ctx context.Context, t time.Time) {
	select {
	case <-time.After(time.Until(t)):
	case <-ctx.Done():
	}
}
