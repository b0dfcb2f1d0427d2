package adapters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"lorikeet/adapters/lora"
)

// Errors of the management of adapters, beside those of Acquire.
var (
	ErrRegistered = errors.New("an adapter of that name is served already")
	ErrNoPath     = errors.New("no such file or directory")
	ErrPath       = errors.New("the path is outside the folders that adapters may be loaded from")
	ErrName       = errors.New("not a name that can be served")
	ErrPinned     = errors.New("too many adapters are pinned: at least one slot must be left for the others")
	ErrState      = errors.New("the change is in force, but could not be written to the state file")
)

// Registration asks for an adapter to be served.
type Registration struct {
	Name    string
	Path    string // of a PEFT directory or a .gguf file: absolute, or within the base's folder
	Replace bool   // also if the name is served already; then it stays pinned if it was
	Pinned  bool
}

// young is an age at which a file may be written again without its time's telling.
const young = 20 * time.Millisecond

// Register reads an adapter, checks that it can be served, and serves it from now on.
// If it fails, nothing has changed (but for ErrState). Files that are written meanwhile
// are read again when that has ended. To be pinned it waits for a slot after that.
//
// Errors: ErrName, ErrRegistered, ErrNoPath, ErrPath, ErrPinned, ErrNoPool,
// ErrLoadTimeout, ErrClosed, ErrState, *lora.Error, the context's error.
func (m *Manager) Register(ctx context.Context, r Registration) error {
	if !ValidName(r.Name) {
		return ErrName
	}
	if m.info.Pool.Slots < 2 {
		return ErrNoPool
	}
	served := m.catalog.has(r.Name)
	if served && !r.Replace {
		return ErrRegistered
	}
	r.Pinned = r.Pinned || served && m.catalog.isPinnedName(r.Name)
	if r.Pinned && !m.mayPin(r.Name) {
		return ErrPinned
	}
	p, err := resolve(m.catalog.roots(), r.Path)
	if err == nil {
		err = p.exists()
	}
	if err != nil {
		return err
	}
	limit, cancel := context.WithTimeoutCause(ctx, m.options.LoadTimeout, ErrLoadTimeout)
	defer cancel()
	l, err := m.check(limit, r.Name, p)
	if err != nil {
		return err
	}
	saved := m.catalog.register(Entry{Name: r.Name, Path: r.Path, Pinned: r.Pinned}, l.parts[0].source, r.Replace)
	if errors.Is(saved, ErrRegistered) {
		return saved
	}
	_ = m.learn(l, nil)
	slog.Info("adapter registered", "adapter", r.Name, "path", p)
	if r.Pinned {
		m.goOn(func() { m.keepPinned(r.Name) })
	}
	return saved
}

// check reads the files at a place, for the name that they will have, until they do not
// change meanwhile. What it has learnt is in the load.
func (m *Manager) check(ctx context.Context, name string, p place) (*load, error) {
	for {
		stamp, err := p.stamp()
		if err != nil {
			return nil, err
		}
		wait := young - time.Since(stamp.Changed)
		if wait <= 0 || wait > young || stamp.Changed.IsZero() { // or what changed in the future: the clock was set
			l := newLoad("", []part{{Ref{name, 1}, source{p, stamp}}})
			l.ctx = ctx
			if err := m.prepare(l); !errors.Is(err, errChanged) {
				return l, err
			}
			wait = young
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// prepare reads what a load is for, and keeps its image in host memory.
func (m *Manager) prepare(l *load) error {
	select {
	case m.places <- struct{}{}:
		defer func() { <-m.places }()
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	case <-m.ctx.Done():
	}
	if m.ctx.Err() != nil {
		return ErrClosed
	}
	own, image, err := m.image(l)
	if err == nil {
		m.images.put(own.Key, image)
	}
	if image != nil {
		m.images.release(image)
	}
	return err
}

// Unload ends the service of a name, and waits until no request uses it any more and
// its slots and images are free, or the unload timeout has passed; left is the number of
// requests that still use it then. They finish undisturbed.
//
// Errors: ErrUnknown, ErrState, the context's error (the name is not served any more).
func (m *Manager) Unload(ctx context.Context, name string) (left int, err error) {
	saved := m.catalog.remove(name)
	if errors.Is(saved, ErrUnknown) {
		return 0, saved
	}
	m.unpin(name)
	w := m.withdraw(name)
	slog.Info("adapter unloaded", "adapter", name)
	select {
	case <-w.done:
		return 0, saved
	case <-time.After(m.options.UnloadTimeout):
		return w.users(), saved
	case <-m.ctx.Done():
		return w.users(), saved
	case <-ctx.Done():
		return w.users(), ctx.Err()
	}
}

// withdrawal gives back what is held of a name that is not served any more.
type withdrawal struct {
	m    *Manager
	done chan struct{} // closed when nothing is

	mu    sync.Mutex
	loads []*load           // under way, for requests from before
	idle  []<-chan struct{} // of slots in use
}

func (m *Manager) withdraw(name string) *withdrawal {
	w := &withdrawal{m: m, done: make(chan struct{})}
	digests := m.forgetName(name)
	m.mu.Lock()
	for _, l := range m.loading {
		if slices.ContainsFunc(l.parts, func(p part) bool { return p.Name == name }) {
			w.loads = append(w.loads, l)
		}
	}
	m.mu.Unlock()
	w.clear(digests)
	m.goOn(func() {
		defer close(w.done)
		for _, l := range slices.Clone(w.loads) {
			select {
			case <-l.done:
				w.clear(m.unshared([]string{l.versions[name].digest}))
			case <-m.ctx.Done():
				return
			}
		}
		for _, idle := range slices.Clone(w.idle) {
			select {
			case <-idle:
			case <-m.ctx.Done():
				return
			}
		}
	})
	return w
}

// clear throws out all images and the content of all slots that digests are part of.
func (w *withdrawal) clear(digests []string) {
	match := func(key string) bool {
		return slices.ContainsFunc(digestsOf(key), func(digest string) bool { return slices.Contains(digests, digest) })
	}
	w.m.images.drop(match)
	idle := w.m.slots.clear(match)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle = append(w.idle, idle...)
}

// users counts the requests that still wait for, or use, what is to be given back.
func (w *withdrawal) users() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.m.slots.users(w.idle)
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	for _, l := range w.loads {
		if w.m.loading[l.id] == l {
			n += len(l.waiters)
		}
	}
	return n
}

// forgetName forgets what is known of a name. It returns the digests of its versions,
// those left out that another name has, too.
func (m *Manager) forgetName(name string) []string {
	m.mu.Lock()
	v := m.versions[name]
	delete(m.versions, name)
	delete(m.records, name)
	m.mu.Unlock()
	return m.unshared(append(slices.Clone(v.older), v.digest))
}

// unshared returns those of digests that no name has.
func (m *Manager) unshared(digests []string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(digests, func(digest string) bool {
		for _, v := range m.versions {
			if v.digest == digest {
				return true
			}
		}
		return digest == ""
	})
}

// Pin loads an adapter and keeps it in its slot and, as far as there is room, in host
// memory, or lets it go again.
//
// Errors: ErrUnknown, ErrPinned, ErrState, those of Acquire.
func (m *Manager) Pin(ctx context.Context, name string, pinned bool) error {
	if !pinned {
		err := m.catalog.pin(name, false)
		m.unpin(name)
		return err
	}
	if !m.catalog.has(name) {
		return fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	if !m.mayPin(name) {
		return ErrPinned
	}
	if err := m.holdPinned(ctx, name); err != nil {
		return err
	}
	err := m.catalog.pin(name, true)
	if errors.Is(err, ErrUnknown) { // unloaded meanwhile
		m.unpin(name)
	}
	return err
}

// mayPin tells whether a slot is left for the others if a name is pinned.
func (m *Manager) mayPin(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roomFor(name)
}

// roomFor is mayPin for who holds mu.
func (m *Manager) roomFor(name string) bool {
	_, already := m.pins[name]
	return already || len(m.pins)+2 < m.info.Pool.Slots // slot 0 is the base
}

// holdPinned loads an adapter and pins the slot that it is in, instead of the one of
// its version before.
func (m *Manager) holdPinned(ctx context.Context, name string) error {
	l, err := m.Acquire(ctx, []Ref{{name, 1}})
	if err != nil {
		return err
	}
	defer l.Release()
	m.mu.Lock()
	if !m.roomFor(name) {
		m.mu.Unlock()
		return ErrPinned
	}
	old := m.pins[name]
	m.pins[name] = l.Key
	m.slots.pin(l.Key, true)
	m.images.pin(l.Key, true)
	m.mu.Unlock()
	if old != l.Key {
		m.letGo(old)
	}
	return nil
}

func (m *Manager) unpin(name string) {
	m.mu.Lock()
	key := m.pins[name]
	delete(m.pins, name)
	m.mu.Unlock()
	m.letGo(key)
}

// letGo unpins what a key names, unless another name pins it.
func (m *Manager) letGo(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, other := range m.pins {
		if other == key {
			return
		}
	}
	if key != "" {
		m.slots.pin(key, false)
		m.images.pin(key, false)
	}
}

// pinAll loads what is to be pinned from the start, beside the caller.
func (m *Manager) pinAll() {
	names := m.catalog.pinned()
	m.goOn(func() {
		for _, name := range names {
			m.keepPinned(name)
		}
	})
}

// keepPinned loads and pins an adapter that is to be pinned, however long it waits for a
// slot. When files that are not complete are, the catalog tells.
func (m *Manager) keepPinned(name string) {
	for m.catalog.isPinnedName(name) {
		err := m.holdPinned(m.ctx, name)
		if errors.Is(err, ErrLoadTimeout) {
			continue
		}
		var unusable *lora.Error
		if errors.As(err, &unusable) || !m.catalog.isPinnedName(name) {
			m.unpin(name) // nobody can ask for what was pinned
		}
		if err != nil && m.ctx.Err() == nil {
			slog.Warn("adapter not pinned", "adapter", name, "err", err)
		}
		return
	}
}

// changed is called by the catalog when an adapter is served in another version, or is
// found or gone. One that is resident or pinned is loaded before it is asked for; what is
// gone keeps no slot from others.
func (m *Manager) changed(name string) {
	m.mu.Lock()
	digest := m.versions[name].digest
	m.mu.Unlock()
	if _, err := m.catalog.find(name); err != nil {
		m.unpin(name)
		m.forgetName(name)
	} else if m.catalog.isPinnedName(name) {
		m.goOn(func() { m.keepPinned(name) })
	} else if key := partKey(digest, 1); digest != "" && m.slots.any(func(k string) bool { return k == key }) {
		m.goOn(func() {
			if l, err := m.Acquire(m.ctx, []Ref{{name, 1}}); err == nil {
				l.Release()
			}
		})
	}
}

// goOn runs f beside the caller. Close waits for it.
func (m *Manager) goOn(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() == nil {
		m.loads.Go(f)
	}
}
