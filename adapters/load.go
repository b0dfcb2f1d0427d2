package adapters

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"lorikeet/adapters/lora"
)

// parallelLoads bounds how many loads hold adapters in host memory at a time.
const parallelLoads = 4

// linger is how long a load goes on, and keeps its place in the queue for a slot,
// after its last waiter's deadline: the client was told to come back, and with
// requests that outlast the deadline it would else never reach the end of the queue.
const linger = 5 * time.Second

// load is one load under way, shared by its waiters. The manager's mutex guards
// all from waiters on; the rest belongs to the load's goroutine.
type load struct {
	id       string
	parts    []part             // sorted by name
	versions map[string]version // of the parts, by name
	seeker   *seeker            // of a slot; nil until it is known what to put there

	ctx     context.Context // ends when nobody waits any more, or the manager is closed
	cancel  context.CancelFunc
	waiters map[*waiter]struct{}
	keep    time.Time   // until when the load goes on without waiters
	timer   *time.Timer // runs then
	filling bool        // then it is finished, even if nobody waits any more

	tier Tier // from which the image came; "" if none was needed
}

// errChanged ends a load whose files are not any more what the catalog said.
var errChanged = errors.New("the files of the adapter have changed")

// record is what is remembered of a load that succeeded.
type record struct {
	took time.Duration
	tier Tier
	at   time.Time
}

type waiter struct {
	refs  []Ref
	done  chan struct{} // closed when lease or err is set
	lease *Lease
	err   error
}

// refs are the parts' in their order.
func (l *load) refs() []Ref {
	refs := make([]Ref, len(l.parts))
	for i, p := range l.parts {
		refs[i] = p.Ref
	}
	return refs
}

// abandon ends a load that nobody waits for. The caller holds mu.
func (m *Manager) abandon(l *load) {
	if len(l.waiters) > 0 || l.filling {
		return
	}
	if wait := time.Until(l.keep); wait > 0 {
		if l.timer != nil {
			l.timer.Stop()
		}
		l.timer = time.AfterFunc(wait, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.abandon(l)
		})
		return
	}
	m.forget(l)
	l.cancel()
}

// forget lets the next request for the same begin anew. The caller holds mu.
func (m *Manager) forget(l *load) {
	if m.loading[l.id] == l {
		delete(m.loading, l.id)
	}
}

// run is a load's goroutine.
func (m *Manager) run(l *load) {
	defer l.cancel()
	start := time.Now()
	own, err := m.bring(l)
	if err != nil && l.seeker != nil {
		m.slots.leave(l.seeker)
	}
	if err != nil && m.ctx.Err() != nil {
		err = ErrClosed
	}
	m.mu.Lock()
	m.forget(l)
	var unusable *lora.Error
	var combination *CombinationError
	if errors.As(err, &unusable) || errors.As(err, &combination) {
		m.fail(l.id, err)
	}
	for w := range l.waiters {
		if w.err = err; err != nil {
			continue
		}
		w.lease, w.err = m.newLease(w.refs, l.versions)
		if w.lease != nil && own.Slot != 0 {
			w.lease.Slot = own.Slot
			m.slots.again(own.Slot)
		}
	}
	if err == nil {
		own.Release() // before the waiters go on: the slot is as free as they leave it
		if l.tier != "" {
			for _, p := range l.parts {
				m.records[p.Name] = record{time.Since(start), l.tier, time.Now()}
			}
		}
	}
	for w := range l.waiters {
		close(w.done)
	}
	m.mu.Unlock()
	switch {
	case errors.Is(err, errChanged): // whoever waits, begins anew
	case errors.Is(err, context.Canceled):
		slog.Debug("adapter not loaded: nobody waits for it", "adapter", names(l.parts))
	case err != nil:
		slog.Warn("adapter not loaded", "adapter", names(l.parts), "err", err)
	case l.tier != "":
		slog.Info("adapter loaded", "adapter", own.String(), "from", l.tier, "slot", own.Slot, "took", time.Since(start).Round(10*time.Microsecond))
	}
}

func names(parts []part) string {
	var b []string
	for _, p := range parts {
		b = append(b, p.Name)
	}
	return strings.Join(b, " ")
}

// bring gets a lease of what a load is for. It waits for a slot without holding
// memory, so that any number of loads can wait; for what was read before it knew what
// to wait for, that means to read it again. If it fails, the slot is still reserved.
func (m *Manager) bring(l *load) (*Lease, error) {
	for {
		if k := l.seeker; k != nil {
			select {
			case <-k.done:
			case <-l.ctx.Done():
				return nil, l.ctx.Err()
			}
			if k.resident {
				own, err := m.newLease(l.refs(), l.versions)
				if err == nil {
					own.Slot = k.slot
				}
				return own, err
			}
		}
		own, err := m.fill(l)
		if err != nil || own.Slot != 0 || own.Key == "" {
			return own, err
		}
	}
}

// fill reads what a load is for and puts it into the slot that is reserved for it, or
// into one that is free at once. The lease has no slot if none is, or none is needed.
func (m *Manager) fill(l *load) (*Lease, error) {
	select {
	case m.places <- struct{}{}:
		defer func() { <-m.places }()
	case <-l.ctx.Done():
		return nil, l.ctx.Err()
	}
	own, image, err := m.image(l)
	if image != nil {
		defer m.images.release(image)
	}
	if err != nil || own.Key == "" {
		return own, err
	}
	if l.seeker == nil {
		l.seeker = m.slots.seek(own.Key)
		select {
		case <-l.seeker.done:
		default:
			return own, nil
		}
		if l.seeker.resident {
			own.Slot = l.seeker.slot
			return own, nil
		}
	}
	m.mu.Lock()
	l.filling = l.ctx.Err() == nil
	m.mu.Unlock()
	if !l.filling {
		return nil, l.ctx.Err()
	}
	if err := m.engine.FillSlot(m.ctx, l.seeker.slot, image.bytes); err != nil {
		return nil, err
	}
	m.slots.filled(l.seeker, own.Key)
	own.Slot = l.seeker.slot
	return own, nil
}

// image gets the slot image of what a load is for, from memory if it is there, and a
// lease that has no slot yet. The image, unless it is nil, must be released, also beside
// an error.
func (m *Manager) image(l *load) (*Lease, *image, error) {
	if l.seeker != nil { // it is known what to get
		own, err := m.newLease(l.refs(), l.versions)
		if err != nil {
			return nil, nil, err
		}
		if image := m.images.get(own.Key); image != nil {
			l.tier = TierHost
			return own, image, nil
		}
	}
	content, err := m.read(l)
	defer func() {
		for _, a := range content {
			a.Close()
		}
	}()
	var own *Lease
	var image *image
	if err == nil {
		own, err = m.newLease(l.refs(), l.versions)
	}
	if err == nil && own.Key != "" {
		if image, err = m.images.blank(); err == nil {
			err = lora.Image(image.bytes, &m.info, content)
		}
	}
	if err = m.settle(l, err); err != nil {
		return nil, image, err
	}
	if own.Key != "" {
		l.tier = TierDisk
		m.images.put(own.Key, image)
	}
	return own, image, nil
}

// settle takes what was learnt of the parts, and the error that came of it, for the
// truth, unless files have changed meanwhile: then what was read may be of both.
func (m *Manager) settle(l *load, err error) error {
	for _, p := range l.parts {
		if now, stampErr := p.place.stamp(); stampErr != nil || !now.Equal(p.stamp) {
			return errChanged
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, v := range l.versions {
		m.versions[name] = v
	}
	return err
}

// read reads the adapters of a load, in the order of their keys: equal keys mean
// equal images. They must be closed, also beside an error.
func (m *Manager) read(l *load) (content []lora.Scaled, err error) {
	for _, p := range l.parts {
		if p.Scale == 0 {
			m.mu.Lock()
			v := m.versions[p.Name]
			m.mu.Unlock()
			if v.stamp.Equal(p.stamp) && v.err == nil {
				l.versions[p.Name] = v
				continue
			}
		}
		if l.ctx.Err() != nil {
			return content, l.ctx.Err()
		}
		v, a, err := m.readPart(p)
		if v.stamp.Equal(p.stamp) {
			l.versions[p.Name] = v
		}
		if err != nil {
			return content, blame(p.Name, err, len(l.parts))
		}
		if p.Scale == 0 {
			a.Close()
			continue
		}
		content = append(content, lora.Scaled{Adapter: a, Scale: p.Scale})
		if err := lora.CheckTogether(&m.info, content); err != nil { // before the next takes more memory
			return content, blame(p.Name, err, len(l.parts))
		}
	}
	slices.SortFunc(content, func(a, b lora.Scaled) int {
		return cmp.Compare(partKey(a.Digest, a.Scale), partKey(b.Digest, b.Scale))
	})
	return content, nil
}

// readPart reads an adapter and checks it against the base. v tells what is now known
// of the files; its stamp is not theirs if that is nothing.
func (m *Manager) readPart(p part) (v version, a *lora.Adapter, err error) {
	if now, err := p.place.stamp(); err != nil || !now.Equal(p.stamp) {
		return version{}, nil, errChanged
	}
	m.mu.Lock()
	known := m.versions[p.Name]
	m.mu.Unlock()
	if !known.stamp.Equal(p.stamp) {
		known.digest = ""
	}
	a, err = p.place.read(&m.info, known.digest)
	if err == nil {
		if err = a.Check(&m.info); err != nil {
			a.Close()
		}
	}
	var unusable *lora.Error
	switch {
	case err == nil:
		return version{
			stamp: p.stamp, digest: a.Digest, invocation: a.Invocation, rank: a.Rank(), targets: a.Targets(), tensors: a.Tensors,
		}, a, nil
	case errors.As(err, &unusable):
		return version{stamp: p.stamp, failure: remember(err)}, nil, err
	}
	return version{}, nil, err
}
