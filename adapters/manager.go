// Package adapters knows which adapters exist and which are resident: it maps the
// model field of a request to a base and an adapter version, and puts that version,
// or several together, into a slot of the base's pool within a deadline.
//
//	Registry: model name -> Base (engine, manager) + adapter name
//	Catalog:  adapter name -> files, of a version that is complete
//	Manager:  adapter names + scales -> Lease of a slot
//
// The way of a load: the files are mapped, parsed (adapters/peft, adapters/gguf), laid
// out as a slot image (adapters/lora), all in a goroutine of the load, and looked at
// again from outside: if they have changed meanwhile, what was read is thrown away. Then
// the engine copies the image into a slot between its steps. A load is shared by all who
// wait for it, and each waiter has its own deadline. Loads queue for slots; see slots.go
// for who gets one when. Images stay in host memory within a budget; see images.go.
//
// A version is the digest of the content. A slot holds versions at their scales and
// is never refilled while a [Lease] of it is held. This package does not generate
// text and knows neither HTTP nor llama.cpp.
package adapters

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"lorikeet/adapters/buffers"
	"lorikeet/adapters/lora"
	"lorikeet/backend"
)

// Errors of Acquire, beside *lora.Error for an adapter that can't be served,
// *IncompleteError for one whose files are being copied, and *CombinationError for
// adapters that can't be used together. ErrLoadTimeout may pass.
var (
	ErrUnknown     = errors.New("no such adapter")
	ErrNoPool      = errors.New("the base takes no adapters")
	ErrLoadTimeout = errors.New("the adapter was not loaded in time")
	ErrClosed      = errors.New("the adapter manager is closed")
)

// failureMemory is how long a failed load is answered from memory, unless the
// files change.
const failureMemory = 2 * time.Second

// lookAgain is how long a request waits before it tries again to read files that were not
// what the catalog says.
const lookAgain = 100 * time.Millisecond

// Engine is what a manager needs of backend.Engine.
type Engine interface {
	Info() backend.ModelInfo
	FillSlot(ctx context.Context, slot int, image []byte) error
	buffers.Host
}

// Manager keeps the slots of one base. Its mutex is never held while files are
// read or a slot is filled.
type Manager struct {
	catalog *Catalog
	engine  Engine
	info    backend.ModelInfo
	options Options

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	loads  sync.WaitGroup
	places chan struct{} // a load holds one while it holds memory
	slots  slots         // has its own mutex, which may be taken while mu is held
	images images        // likewise

	mu       sync.Mutex
	versions map[string]version // by name
	loading  map[string]*load   // by id
	failed   map[string]failure // loads by id
	records  map[string]record  // of the last loads, by name
	pins     map[string]string  // what is pinned: the key of a slot, by name
}

// version is what the files of a name are known to be, as long as they are what source
// says.
type version struct {
	source
	digest     string
	older      []string // digests of versions before it that something may still be held of
	invocation []backend.Token
	rank       int
	targets    []string
	tensors    int
	failure    // if they can't be served
}

type failure struct {
	err     error
	expires time.Time
}

// remembered is the error as long as it counts.
func (f failure) remembered() error {
	if f.err == nil || time.Now().After(f.expires) {
		return nil
	}
	return f.err
}

func remember(err error) failure { return failure{err, time.Now().Add(failureMemory)} }

// Options configure a manager.
type Options struct {
	LoadTimeout   time.Duration // that a request waits for a load at most
	UnloadTimeout time.Duration // that Unload waits for requests at most
	HostBytes     int64         // of slot images that are kept in memory, to be loaded from there
}

// NewManager makes the manager of an engine's slots.
func NewManager(c *Catalog, e Engine, o Options) *Manager {
	m := &Manager{
		catalog: c, engine: e, info: e.Info(), options: o, places: make(chan struct{}, parallelLoads),
		versions: map[string]version{}, loading: map[string]*load{}, failed: map[string]failure{}, records: map[string]record{}, pins: map[string]string{},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.slots.init(m.info.Pool.Slots)
	m.images.init(o.HostBytes, m.info.Pool.ImageSize(), e)
	c.notify(m.changed)
	m.pinAll()
	return m
}

// Close ends all loads and waits for them.
func (m *Manager) Close() {
	m.mu.Lock()
	m.cancel()
	m.mu.Unlock()
	m.loads.Wait()
	m.images.close()
}

// Names returns the names of the adapters that exist, sorted.
func (m *Manager) Names() []string { return m.catalog.Names() }

// NameOf returns the name that has an id.
func (m *Manager) NameOf(id int) (string, bool) { return m.catalog.nameOf(id) }

// Has tells whether an adapter of that name exists.
func (m *Manager) Has(name string) bool { return m.catalog.has(name) }

// Acquire returns a lease on the present versions of adapters, resident together at
// their scales. It loads them if need be. Adapters at scale 0 must be fit to be
// served, but need no slot; without others the lease is of the base, as it is
// without refs.
//
// Errors: ErrUnknown, ErrNoPool, ErrLoadTimeout (the load goes on for a while, and
// keeps its place in the queue for a slot), ErrClosed, *CombinationError,
// *IncompleteError (at once, or after the same time if files are still being changed),
// *lora.Error, the context's error.
func (m *Manager) Acquire(ctx context.Context, refs []Ref) (*Lease, error) {
	if len(refs) == 0 {
		return &Lease{}, nil
	}
	var deadline <-chan time.Time
	for looked := false; ; looked = true {
		changes := m.catalog.changes() // from before the look, so that none is missed
		parts, err := m.look(refs)
		var l *load
		var w *waiter
		if err == nil {
			var lease *Lease
			if lease, l, w, err = m.join(refs, parts); err != nil || lease != nil {
				return lease, err
			}
		}
		var incomplete *IncompleteError
		if err != nil && (!errors.As(err, &incomplete) || incomplete.Reason != settling) {
			return nil, err
		}
		if deadline == nil {
			deadline = time.After(m.options.LoadTimeout)
		}
		if l != nil {
			lease, err := m.wait(ctx, deadline, l, w)
			if !errors.Is(err, errChanged) {
				return lease, err
			}
			if looked { // and the catalog had the time to look, too
				if err := m.unreadable(refs); err != nil {
					return nil, err
				}
			}
		}
		for _, r := range refs {
			m.catalog.poke(r.Name)
		}
		select {
		case <-changes:
		case <-time.After(lookAgain): // what went wrong may have passed without a change
		case <-deadline:
			return nil, cmp.Or(err, ErrLoadTimeout)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// wait waits for a load.
func (m *Manager) wait(ctx context.Context, deadline <-chan time.Time, l *load, w *waiter) (*Lease, error) {
	var err error
	select {
	case <-w.done:
		return w.lease, w.err
	case <-deadline:
		err = ErrLoadTimeout
	case <-ctx.Done():
		err = ctx.Err()
	}
	m.mu.Lock()
	delete(l.waiters, w)
	if errors.Is(err, ErrLoadTimeout) {
		l.keep = time.Now().Add(linger)
	}
	m.abandon(l)
	m.mu.Unlock()
	if w.lease != nil { // it came at the last moment: no one else can set it now
		w.lease.Release()
	}
	return nil, err
}

// part is a Ref with the files that are served for it now.
type part struct {
	Ref
	source
}

// look finds the files of refs. The parts are sorted by name.
func (m *Manager) look(refs []Ref) ([]part, error) {
	parts := make([]part, len(refs))
	for i, r := range refs {
		src, err := m.catalog.find(r.Name)
		if errors.Is(err, ErrUnknown) {
			return nil, fmt.Errorf("%w: %q", ErrUnknown, r.Name)
		}
		if m.info.Pool.Slots < 2 {
			return nil, ErrNoPool
		}
		if err != nil {
			return nil, blame(r.Name, err, len(refs))
		}
		parts[i] = part{r, src}
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.Name, b.Name) })
	for i := 1; i < len(parts); i++ {
		if parts[i].Name == parts[i-1].Name {
			return nil, &CombinationError{parts[i].Name, "is asked for twice"}
		}
	}
	return parts, nil
}

// join returns a lease if there is nothing to wait for, else a waiter at the load,
// which it starts if there is none.
func (m *Manager) join(refs []Ref, parts []part) (*Lease, *load, *waiter, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return nil, nil, nil, ErrClosed
	}
	known := true
	for _, p := range parts {
		v := m.versions[p.Name]
		if !v.equal(p.source) {
			known = false
		} else if err := v.remembered(); err != nil {
			return nil, nil, nil, blame(p.Name, err, len(parts))
		} else if v.err != nil {
			known = false
		}
	}
	var lease *Lease
	if known {
		var err error
		if lease, err = m.newLease(refs, m.versions); err != nil {
			return nil, nil, nil, err
		}
		if lease.Key != "" {
			lease.Slot = m.slots.lease(lease.Key)
		}
		if lease.Slot != 0 || lease.Key == "" {
			return lease, nil, nil, nil
		}
	}
	id := loadID(parts)
	if err := m.failed[id].remembered(); err != nil {
		return nil, nil, nil, err
	}
	l := m.loading[id]
	if l == nil {
		l = newLoad(id, parts)
		l.ctx, l.cancel = context.WithCancel(m.ctx)
		if known { // it queues for a slot here, so that the order is that of the requests
			l.seeker = m.slots.seek(lease.Key)
			for _, p := range parts {
				l.versions[p.Name] = m.versions[p.Name]
			}
		}
		m.loading[id] = l
		m.loads.Go(func() { m.run(l) })
	}
	w := &waiter{refs: refs, done: make(chan struct{})}
	l.waiters[w] = struct{}{}
	return nil, l, w, nil
}

// unreadable is why the version that is served of one of refs can't be read any more: its
// files are being replaced, and are not complete.
func (m *Manager) unreadable(refs []Ref) error {
	for _, r := range refs {
		if err := m.catalog.unreadable(r.Name); err != nil {
			return blame(r.Name, err, len(refs))
		}
	}
	return nil
}

// blame names the adapter in an error of its files, if there are several to blame.
func blame(name string, err error, parts int) error {
	var unusable *lora.Error
	if parts > 1 && errors.As(err, &unusable) {
		return &lora.Error{File: name + ": " + unusable.File, Tensor: unusable.Tensor, Reason: unusable.Reason}
	}
	return err
}

// loadID identifies what a load is to bring: equal requests for equal files share it.
func loadID(parts []part) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%s@%v %s %s\n", p.Name, p.Scale, p.place.path, p.stamp.Key())
	}
	return b.String()
}

// fail remembers that a load failed. The caller holds mu.
func (m *Manager) fail(id string, err error) {
	maps.DeleteFunc(m.failed, func(_ string, f failure) bool { return f.remembered() == nil })
	m.failed[id] = remember(err)
}

// Short is a version as people read it: the first 12 digits.
func Short(version string) string { return version[:min(12, len(version))] }
