package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"lorikeet/adapters"
	"lorikeet/backend/engine"
	"lorikeet/bench/synth"
)

var loads = Scenario{
	Name:  "loads",
	Shows: "time to load an adapter of rank 4 to 64, from disk and from host memory, against a copy of as many bytes",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		var disk, host []Figure
		for _, rank := range []int{4, 8, 16, 32, 64} {
			e.say("loads: rank %d", rank)
			d, h, err := e.loadsOfRank(ctx, rank)
			if err != nil {
				return nil, fmt.Errorf("rank %d: %w", rank, err)
			}
			disk, host = append(disk, d), append(host, h)
		}
		return []Figure{
			worst("from disk (page cache) ÷ copy, worst rank", disk).atMost(6),
			worst("from host memory ÷ copy, worst rank", host).atMost(2.5),
		}, nil
	},
}

// worst is the largest of figures, under a name of its own, with the parts of all.
func worst(name string, figures []Figure) Figure {
	w := figures[0]
	var parts []Part
	for _, f := range figures {
		if f.Value > w.Value {
			w = f
		}
		parts = append(parts, f.Parts...)
	}
	w.Name, w.Parts = name, parts
	return w
}

// With more adapters than slots, used in a circle, none is resident when its turn comes.
const (
	loadSlots    = 2
	loadAdapters = 4
)

// loadsOfRank measures one rank. The pool's is what a server would choose for it.
func (e *Env) loadsOfRank(ctx context.Context, rank int) (disk, host Figure, err error) {
	dir, err := synth.Adapters(filepath.Join(e.dir, "loads"), e.Config, loadAdapters, rank)
	if err != nil {
		return disk, host, fmt.Errorf("make the adapters: %w", err)
	}
	p := engine.Params{Sequences: 1, Slots: loadSlots, Rank: adapters.PoolRank(rank)}
	fromDisk, err := e.openLoader(ctx, p, dir, 0)
	if err != nil {
		return disk, host, err
	}
	defer fromDisk.rig.Close()
	fromHost, err := e.openLoader(ctx, p, dir, hostBytes)
	if err != nil {
		return disk, host, err
	}
	defer fromHost.rig.Close()
	cache, err := openPageCache(dir)
	if err != nil {
		return disk, host, err
	}
	defer cache.close()
	files := newCopier(cache.bytes / loadAdapters)
	image := newCopier(int64(fromHost.rig.Engine.Info().Pool.ImageSize()))

	perRound := e.pick(8, 4)
	diskTimes, fileCopies := &series{name: fmt.Sprintf("rank %d", rank), unit: "ms"}, &series{name: "copy", unit: "ms"}
	hostTimes, imageCopies := &series{name: fmt.Sprintf("rank %d", rank), unit: "ms"}, &series{name: "copy", unit: "ms"}
	switches := &series{name: "resident", unit: "µs"}
	for range e.pick(5, 2) {
		var d, f, h, i, s []float64
		err := inTurns(perRound,
			timed(&d, func() (time.Duration, error) { return fromDisk.load(ctx) }), timed(&f, files.copy),
			timed(&h, func() (time.Duration, error) { return fromHost.load(ctx) }), timed(&i, image.copy),
			timed(&s, func() (time.Duration, error) { return fromHost.again(ctx) }),
		)
		if err != nil {
			return disk, host, err
		}
		diskTimes.add(median(d))
		fileCopies.add(median(f))
		hostTimes.add(median(h))
		imageCopies.add(median(i))
		switches.add(1000 * median(s))
	}
	cold, err := e.coldLoads(ctx, fromDisk, cache, perRound)
	if err != nil {
		return disk, host, err
	}
	return ratio("", diskTimes, fileCopies, cold), ratio("", hostTimes, imageCopies, switches.part()), nil
}

// coldLoads measures loads whose files are not in the page cache, if the system lets go
// of them. The disk below may have a cache of its own.
func (e *Env) coldLoads(ctx context.Context, l *loader, cache *pageCache, n int) (Part, error) {
	cold := &series{name: "cold", unit: "ms"}
	for range n {
		if err := cache.drop(); errors.Is(err, errStillCached) {
			cold.name = "cold, but for what stayed in the page cache"
			e.say("loads: %v", err)
		} else if err != nil {
			return Part{}, err
		}
		took, err := l.load(ctx)
		if err != nil {
			return Part{}, err
		}
		cold.add(milliseconds(took))
	}
	return cold.part(), nil
}

// timed collects what a function takes, in milliseconds.
func timed(into *[]float64, f func() (time.Duration, error)) func(int) error {
	return func(int) error {
		took, err := f()
		*into = append(*into, milliseconds(took))
		return err
	}
}

// loader loads adapters in a circle.
type loader struct {
	rig   *Rig
	names []string
	next  int
}

// openLoader has loaded each adapter once.
func (e *Env) openLoader(ctx context.Context, p engine.Params, dir string, hostBytes int64) (*loader, error) {
	rig, err := e.OpenDir(ctx, p, dir, hostBytes)
	if err != nil {
		return nil, err
	}
	l := &loader{rig: rig, names: rig.Manager.Names()}
	for range l.names {
		if _, err := l.load(ctx); err != nil {
			rig.Close()
			return nil, err
		}
	}
	return l, nil
}

// load tells how long it takes until the next adapter is resident.
func (l *loader) load(ctx context.Context) (time.Duration, error) {
	name, before := l.names[l.next], l.rig.Loads.Load()
	l.next = (l.next + 1) % len(l.names)
	start := time.Now()
	lease, err := l.rig.acquire(ctx, name)
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	lease.Release()
	if l.rig.Loads.Load() == before {
		return 0, fmt.Errorf("adapter %s was resident", name)
	}
	return took, nil
}

// again tells how long it takes to use an adapter that is resident.
func (l *loader) again(ctx context.Context) (time.Duration, error) {
	const times = 100
	name := l.names[(l.next+len(l.names)-1)%len(l.names)]
	start := time.Now()
	for range times {
		lease, err := l.rig.acquire(ctx, name)
		if err != nil {
			return 0, err
		}
		lease.Release()
	}
	return time.Since(start) / times, nil
}

// copier copies memory that was touched before.
type copier struct{ from, to []byte }

func newCopier(n int64) *copier {
	c := &copier{make([]byte, n), make([]byte, n)}
	for i := range c.from {
		c.from[i] = byte(i)
	}
	copy(c.to, c.from)
	return c
}

func (c *copier) copy() (time.Duration, error) {
	start := time.Now()
	copy(c.to, c.from)
	return time.Since(start), nil
}
