// Package adapters knows which adapters exist and which are resident: it maps the
// model field of a request to a base and an adapter version, and puts that version
// into a slot of the base's pool within a deadline.
//
//	Registry: model name -> Base (engine, manager) + adapter name
//	Catalog:  adapter name -> files
//	Manager:  adapter name + scale -> Lease of a slot
//
// The way of a load: the files are read whole, parsed (adapters/peft,
// adapters/gguf), laid out as a slot image (adapters/lora), all in a goroutine of
// the load; then the engine copies the image into a slot between its steps. A load
// is shared by all who wait for it, and each waiter has its own deadline.
//
// A version is the digest of the content. A slot holds one version at one scale
// and is never refilled while a [Lease] of it is held. This package does not
// generate text and knows neither HTTP nor llama.cpp.
package adapters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"lorikeet/adapters/lora"
	"lorikeet/backend"
)

// Errors of Acquire, beside *lora.Error for an adapter that can't be served.
// ErrLoadTimeout may pass.
var (
	ErrUnknown     = errors.New("no such adapter")
	ErrNoPool      = errors.New("the base takes no adapters")
	ErrLoadTimeout = errors.New("the adapter was not loaded in time")
	ErrClosed      = errors.New("the adapter manager is closed")
)

// failureMemory is how long a failed load is answered from memory, unless the
// files change.
const failureMemory = 2 * time.Second

// parallelLoads bounds how many adapters are in host memory on their way to a slot.
const parallelLoads = 4

// Engine is what a manager needs of backend.Engine.
type Engine interface {
	Info() backend.ModelInfo
	FillSlot(ctx context.Context, slot int, image []byte) error
}

// Manager keeps the slots of one base. Its mutex is never held while files are
// read or a slot is filled.
type Manager struct {
	catalog *Catalog
	engine  Engine
	info    backend.ModelInfo
	timeout time.Duration

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	loads  sync.WaitGroup
	places chan struct{} // a load holds one while it holds memory

	mu       sync.Mutex
	freed    *sync.Cond // a slot's last lease was released, or the manager closed
	slots    []slot     // slot 0 is the base and is never used here
	clock    uint64     // counts uses, for least recently used
	versions map[string]version
	loading  map[loadKey]*load
}

type slot struct {
	digest string // "" if empty or being filled
	scale  float32
	busy   bool // being filled
	leases int
	used   uint64
}

// version is what the files of a name are known to be, as long as stamp holds.
type version struct {
	stamp   string
	digest  string
	err     error // if they can't be served
	expires time.Time
}

type loadKey struct {
	name  string
	scale float32
	stamp string
}

// load is one load under way, shared by its waiters.
type load struct {
	waiters map[*waiter]struct{}
}

type waiter struct {
	done  chan struct{} // closed when lease or err is set
	lease *Lease
	err   error
}

// Lease is a request's hold on an adapter version: as long as it is held, the slot
// keeps it.
type Lease struct {
	Slot    int
	Name    string
	Version string // digest, hex
	Scale   float32

	manager *Manager
	once    sync.Once
}

// Release ends the hold. It is idempotent.
func (l *Lease) Release() {
	l.once.Do(func() {
		if l.Slot == 0 {
			return
		}
		m := l.manager
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.slots[l.Slot].leases--; m.slots[l.Slot].leases == 0 {
			m.freed.Broadcast()
		}
	})
}

// NewManager makes the manager of an engine's slots. A request waits for a load no
// longer than timeout.
func NewManager(c *Catalog, e Engine, timeout time.Duration) *Manager {
	m := &Manager{
		catalog: c, engine: e, info: e.Info(), timeout: timeout,
		versions: map[string]version{}, loading: map[loadKey]*load{}, places: make(chan struct{}, parallelLoads),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.freed = sync.NewCond(&m.mu)
	m.slots = make([]slot, max(1, m.info.Pool.Slots))
	return m
}

// Close ends all loads and waits for them.
func (m *Manager) Close() {
	m.mu.Lock()
	m.cancel()
	m.freed.Broadcast()
	m.mu.Unlock()
	m.loads.Wait()
}

// Names returns the names of the adapters that exist.
func (m *Manager) Names() []string { return m.catalog.Names() }

// Has tells whether an adapter of that name exists.
func (m *Manager) Has(name string) bool {
	_, ok := m.catalog.find(name)
	return ok
}

// Acquire returns a lease on the present version of an adapter, resident at a
// scale; 0 is the base itself. It loads the adapter if need be.
//
// Errors: ErrUnknown, ErrNoPool, ErrLoadTimeout (the load goes on), ErrClosed,
// *lora.Error, the context's error.
func (m *Manager) Acquire(ctx context.Context, name string, scale float32) (*Lease, error) {
	src, ok := m.catalog.find(name)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	if m.info.Pool.Slots < 2 {
		return nil, ErrNoPool
	}
	stamp, err := m.catalog.stamp(src)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	if m.ctx.Err() != nil {
		m.mu.Unlock()
		return nil, ErrClosed
	}
	if v, ok := m.versions[name]; ok && v.stamp == stamp {
		if v.err != nil && time.Now().Before(v.expires) {
			m.mu.Unlock()
			return nil, v.err
		}
		if l := m.lease(name, v.digest, scale); v.err == nil && l != nil {
			m.mu.Unlock()
			return l, nil
		}
	}
	w := &waiter{done: make(chan struct{})}
	key := loadKey{name, scale, stamp}
	l := m.loading[key]
	if l == nil {
		l = &load{waiters: map[*waiter]struct{}{}}
		m.loading[key] = l
		m.loads.Go(func() { m.run(key, src, l) })
	}
	l.waiters[w] = struct{}{}
	m.mu.Unlock()

	deadline := time.NewTimer(m.timeout)
	defer deadline.Stop()
	select {
	case <-w.done:
		return w.lease, w.err
	case <-deadline.C:
		err = ErrLoadTimeout
	case <-ctx.Done():
		err = ctx.Err()
	}
	m.mu.Lock()
	delete(l.waiters, w)
	m.mu.Unlock()
	if w.lease != nil { // it came at the last moment: no one else can set it now
		w.lease.Release()
	}
	return nil, err
}

// lease takes a hold on a resident version. The caller holds mu.
func (m *Manager) lease(name, digest string, scale float32) *Lease {
	l := &Lease{Name: name, Version: digest, Scale: scale, manager: m}
	if scale == 0 {
		return l
	}
	for i := range m.slots {
		if s := &m.slots[i]; s.digest == digest && s.scale == scale && digest != "" {
			m.clock++
			s.used = m.clock
			s.leases++
			l.Slot = i
			return l
		}
	}
	return nil
}

// run is a load's goroutine.
func (m *Manager) run(key loadKey, src source, l *load) {
	select {
	case m.places <- struct{}{}:
		defer func() { <-m.places }()
	case <-m.ctx.Done():
	}
	start := time.Now()
	var own *Lease
	v, a, err := m.read(key, src, l)
	if err == nil {
		own, err = m.load(key, a)
	}
	if err != nil && m.ctx.Err() != nil {
		err = ErrClosed
	}
	m.mu.Lock()
	delete(m.loading, key)
	if v.stamp != "" {
		m.versions[key.name] = v
	}
	for w := range l.waiters {
		if w.err = err; err == nil {
			w.lease = m.lease(key.name, own.Version, key.scale)
		}
		close(w.done)
	}
	m.mu.Unlock()
	if err != nil {
		slog.Warn("adapter not loaded", "adapter", key.name, "scale", key.scale, "err", err)
		return
	}
	own.Release()
	slog.Info("adapter loaded", "adapter", key.name, "version", Short(own.Version), "scale", key.scale, "slot", own.Slot,
		"took", time.Since(start).Round(10*time.Microsecond))
}

// read reads an adapter and checks it against the base. v tells what is now known
// of the files; its stamp is empty if that is nothing.
func (m *Manager) read(key loadKey, src source, l *load) (v version, a *lora.Adapter, err error) {
	const tries = 5
	v.stamp = key.stamp
	for range tries {
		if m.abandoned(l) {
			return version{}, nil, ErrLoadTimeout
		}
		a, err = m.catalog.read(src, &m.info)
		stamp, stampErr := m.catalog.stamp(src)
		if stampErr != nil {
			return version{}, nil, stampErr
		}
		if stamp != v.stamp { // replaced meanwhile: what was read may be of both
			v.stamp, err = stamp, &lora.Error{File: src.path, Reason: "changes while it is read"}
			continue
		}
		if err == nil {
			err = a.Check(&m.info)
		}
		var unusable *lora.Error
		switch {
		case err == nil:
			v.digest = a.Digest
		case errors.As(err, &unusable):
			v.err, v.expires = err, time.Now().Add(failureMemory)
		default:
			v.stamp = ""
		}
		return v, a, err
	}
	return version{}, nil, err
}

// abandoned tells whether nobody waits for a load that has not begun, or the
// manager is closing.
func (m *Manager) abandoned(l *load) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(l.waiters) == 0 || m.ctx.Err() != nil
}

// load brings an adapter into a slot and returns a lease of it.
func (m *Manager) load(key loadKey, a *lora.Adapter) (*Lease, error) {
	image, err := a.Image(&m.info, key.scale)
	if err != nil {
		return nil, err
	}
	l, i, err := m.takeSlot(key, a.Digest)
	if err != nil || l != nil {
		return l, err
	}
	err = m.engine.FillSlot(m.ctx, i, image)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slots[i] = slot{}
	if err != nil {
		m.freed.Broadcast()
		return nil, err
	}
	m.slots[i] = slot{digest: a.Digest, scale: key.scale}
	return m.lease(key.name, a.Digest, key.scale), nil
}

// takeSlot waits for a slot without leases, the least recently used one, and marks
// it as being filled. If the version needs none, because it is resident already or
// its scale is 0, it returns a lease instead.
func (m *Manager) takeSlot(key loadKey, digest string) (*Lease, int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.ctx.Err() == nil {
		if l := m.lease(key.name, digest, key.scale); l != nil {
			return l, 0, nil
		}
		best := 0
		for i := 1; i < len(m.slots); i++ {
			if s := &m.slots[i]; !s.busy && s.leases == 0 && (best == 0 || s.used < m.slots[best].used) {
				best = i
			}
		}
		if best != 0 {
			m.slots[best] = slot{busy: true}
			return nil, best, nil
		}
		m.freed.Wait()
	}
	return nil, 0, ErrClosed
}

// Short is a version as people read it: the first 12 digits.
func Short(version string) string { return version[:min(12, len(version))] }
