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
	done    chan struct{} // closed when it has ended and its waiters know
	waiters map[*waiter]struct{}
	keep    time.Time   // until when the load goes on without waiters
	timer   *time.Timer // runs then
	filling bool        // then it is finished, even if nobody waits any more

	tier Tier // from which the image came; "" if none was needed
}

func newLoad(id string, parts []part) *load {
	return &load{id: id, parts: parts, versions: map[string]version{}, done: make(chan struct{}), waiters: map[*waiter]struct{}{}}
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
				if m.catalog.has(p.Name) {
					m.records[p.Name] = record{time.Since(start), l.tier, time.Now()}
				}
			}
		}
	}
	for w := range l.waiters {
		close(w.done)
	}
	close(l.done)
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

// fill puts what a load is for into the slot that is reserved for it, or into one that is
// free at once. The lease has no slot if none is, or none is needed.
func (m *Manager) fill(l *load) (*Lease, error) {
	own, image, err := m.kept(l)
	if image == nil && err == nil {
		select {
		case m.places <- struct{}{}:
			defer func() { <-m.places }()
		case <-l.ctx.Done():
			return nil, l.ctx.Err()
		}
		own, image, err = m.image(l)
		if err = m.learn(l, err); err == nil && image != nil {
			m.keep(l, own.Key, image)
		}
	}
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

// kept gets the slot image of what a load is for from memory, nil if it is not known or not
// there. It takes no place: slow disks must not hold up what needs none.
func (m *Manager) kept(l *load) (*Lease, *image, error) {
	if l.seeker == nil { // it is not known what to get
		return nil, nil, nil
	}
	own, err := m.newLease(l.refs(), l.versions)
	if err != nil {
		return nil, nil, err
	}
	image := m.images.get(own.Key)
	if image != nil {
		l.tier = TierHost
	}
	return own, image, nil
}

// keep keeps an image in memory, unless what it is of was unloaded meanwhile.
func (m *Manager) keep(l *load, key string, image *image) {
	m.images.put(key, image)
	if !m.present(l.parts) { // asked after the image is there to be dropped by Unload
		m.images.drop(func(k string) bool { return k == key })
	}
}

// present tells whether all parts are still served.
func (m *Manager) present(parts []part) bool {
	for _, p := range parts {
		if !m.catalog.has(p.Name) {
			return false
		}
	}
	return true
}

// image reads what a load is for, and returns its slot image, and a lease that has no slot
// yet. The image, unless it is nil, must be released, also beside an error.
func (m *Manager) image(l *load) (*Lease, *image, error) {
	content, err := m.read(l)
	defer func() {
		for _, c := range content {
			c.Close()
		}
	}()
	var own *Lease
	var image *image
	if err == nil {
		own, err = m.newLease(l.refs(), l.versions)
	}
	if err == nil && own.Key != "" {
		if image, err = m.images.blank(); err == nil {
			err = lora.Image(image.bytes, &m.info, scaled(content))
		}
	}
	for _, c := range content {
		if c.changed() { // then what was read may be of both, and so may the error
			err = errChanged
		}
	}
	if err == nil && image != nil {
		l.tier = TierDisk
	}
	return own, image, err
}

// learn remembers what a load has found out about the parts, unless they have changed
// or are not served any more. It returns err.
func (m *Manager) learn(l *load, err error) error {
	if errors.Is(err, errChanged) {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, v := range l.versions {
		if !m.catalog.has(name) {
			continue
		}
		if was := m.versions[name]; was.digest == v.digest {
			v.older = was.older
		} else {
			v.older = m.held(append(was.older, was.digest))
		}
		m.versions[name] = v
	}
	return err
}

// held returns those of digests of which slots or images have something.
func (m *Manager) held(digests []string) []string {
	return slices.DeleteFunc(slices.Clone(digests), func(digest string) bool {
		of := func(key string) bool { return slices.Contains(digestsOf(key), digest) }
		return digest == "" || !m.slots.any(of) && !m.images.any(of)
	})
}

// content is an adapter of a load, at its scale, and the files that it was read from.
type content struct {
	lora.Scaled
	part part
	view *view
}

// changed tells whether the files are not any more those that were to be read.
func (c *content) changed() bool {
	now, err := c.view.stamp()
	return err != nil || !now.Equal(c.part.stamp)
}

// Close gives files and memory back.
func (c *content) Close() {
	if c.Adapter != nil {
		c.Adapter.Close()
	}
	c.view.Close()
}

// scaled is what a slot is to hold, in the order of the keys: equal keys mean equal
// images.
func scaled(content []*content) []lora.Scaled {
	var out []lora.Scaled
	for _, c := range content {
		if c.Scale != 0 {
			out = append(out, c.Scaled)
		}
	}
	slices.SortFunc(out, func(a, b lora.Scaled) int {
		return cmp.Compare(partKey(a.Digest, a.Scale), partKey(b.Digest, b.Scale))
	})
	return out
}

// read reads the adapters of a load. They must be closed, also beside an error.
func (m *Manager) read(l *load) (all []*content, err error) {
	for _, p := range l.parts {
		known := m.known(p)
		if p.Scale == 0 && known.digest != "" && known.err == nil {
			l.versions[p.Name] = known
			continue
		}
		if l.ctx.Err() != nil {
			return all, l.ctx.Err()
		}
		view, err := p.place.open()
		if err != nil {
			return all, errChanged
		}
		c := &content{Scaled: lora.Scaled{Scale: p.Scale}, part: p, view: view}
		all = append(all, c)
		if c.changed() {
			return all, errChanged
		}
		v, err := m.readPart(c, known.digest)
		if v.equal(p.source) {
			l.versions[p.Name] = v
		}
		if err == nil {
			err = lora.CheckTogether(&m.info, scaled(all)) // before the next takes more memory
		}
		if err != nil {
			return all, blame(p.Name, err, len(l.parts))
		}
	}
	return all, nil
}

// known is what is known of the files of a part.
func (m *Manager) known(p part) version {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.versions[p.Name]
	if !v.equal(p.source) {
		return version{}
	}
	return v
}

// readPart reads an adapter and checks it against the base. v tells what is now known
// of the files; its source is not theirs if that is nothing.
func (m *Manager) readPart(c *content, digest string) (v version, err error) {
	if c.Adapter, err = c.view.read(&m.info, digest); err == nil {
		err = c.Check(&m.info)
	}
	var unusable *lora.Error
	switch a := c.Adapter; {
	case err == nil:
		return version{
			source: c.part.source, digest: a.Digest, invocation: a.Invocation, rank: a.Rank(), targets: a.Targets(), tensors: a.Tensors,
		}, nil
	case errors.As(err, &unusable):
		return version{source: c.part.source, failure: remember(err)}, err
	}
	return version{}, err
}
