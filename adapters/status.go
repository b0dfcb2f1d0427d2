package adapters

import (
	"maps"
	"slices"
	"time"
)

// Origin tells how an adapter came into the catalog.
type Origin string

// Origins. Of two adapters with one name, the one that stands later here is served.
const (
	FromFolder  Origin = "folder"  // found in the watched folder
	FromConfig  Origin = "config"  // an entry of the configuration
	FromRuntime Origin = "runtime" // registered while the server runs
)

// Tier is the fastest place that holds an adapter's present version.
type Tier string

// Tiers.
const (
	TierDisk Tier = "disk"
	TierHost Tier = "host" // an image in host memory
	TierSlot Tier = "slot"
)

// Status is what is known of an adapter. What only its files tell is zero until they
// have been read, which happens when it is first asked for.
type Status struct {
	Name   string
	ID     int // stays the same while the server runs; -1 if it was never complete
	Origin Origin
	Path   string // as it was configured or registered; within the folder if it was found there
	Pinned bool

	Version string // digest, hex, of the present version
	Rank    int
	Targets []string // weights it changes, without layers, such as "attn_q", sorted
	Tensors int      // of the files, all of which are used
	Bytes   int64    // of the files

	Tier   Tier
	Slot   int // of the present version at scale 1; 0 if it is in none
	Leases int // of the present version, at any scale

	LastLoad     time.Duration // how long the last load took, queuing for a slot included
	LastLoadTier Tier          // from where
	LoadedAt     time.Time

	// Incomplete says what is missing of files that are being copied; then the adapter
	// is not served, or still in the version before.
	Incomplete string
	Error      string // why the last load failed; "" if it did not

	source source // what is served
}

// List describes all adapters, sorted by name, those that are incomplete included.
func (m *Manager) List() []Status {
	all := m.catalog.list()
	m.describe(all)
	return all
}

// Status describes one adapter.
func (m *Manager) Status(name string) (Status, bool) {
	s, ok := m.catalog.status(name)
	if !ok {
		return Status{}, false
	}
	one := []Status{s}
	m.describe(one)
	return one[0], true
}

// Residency is how much of a base's room for adapters is used.
type Residency struct {
	Slots, SlotsUsed, SlotsPinned int // without slot 0
	Rank                          int // of the pool
	HostBytes, HostBudget         int64
}

// Residency describes the tiers at this moment.
func (m *Manager) Residency() Residency {
	r := Residency{Slots: max(0, m.info.Pool.Slots-1), Rank: m.info.Pool.Rank, HostBudget: m.options.HostBytes, HostBytes: m.images.size()}
	for _, h := range m.slots.holdings() {
		r.SlotsUsed++
		if h.pinned {
			r.SlotsPinned++
		}
	}
	return r
}

// describe adds what the manager knows to what the catalog does.
func (m *Manager) describe(all []Status) {
	slot, leases := map[string]int{}, map[string]int{} // by key, and by digest
	for _, h := range m.slots.holdings() {
		slot[h.key] = h.slot
		for _, digest := range digestsOf(h.key) {
			leases[digest] += h.leases
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range all {
		s := &all[i]
		v := m.versions[s.Name]
		if !v.equal(s.source) {
			v = version{}
		}
		s.Version, s.Rank, s.Targets, s.Tensors = v.digest, v.rank, v.targets, v.tensors
		if v.err != nil {
			s.Error = v.err.Error()
		}
		s.Tier = TierDisk
		if v.digest != "" {
			key := partKey(v.digest, 1)
			s.Slot, s.Leases = slot[key], leases[v.digest]
			if s.Slot != 0 {
				s.Tier = TierSlot
			} else if m.images.has(key) {
				s.Tier = TierHost
			}
		}
		if r, ok := m.records[s.Name]; ok {
			s.LastLoad, s.LastLoadTier, s.LoadedAt = r.took, r.tier, r.at
		}
	}
}

func (c *Catalog) list() []Status {
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := make([]Status, 0, len(c.served))
	for _, name := range slices.Sorted(maps.Keys(c.served)) {
		all = append(all, c.describe(c.served[name]))
	}
	return all
}

func (c *Catalog) status(name string) (Status, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	it := c.served[name]
	if it == nil {
		return Status{}, false
	}
	return c.describe(it), true
}

// describe is called with mu held.
func (c *Catalog) describe(it *item) Status {
	id, ok := c.ids[it.name]
	if !ok {
		id = -1
	}
	s := Status{
		Name: it.name, ID: id, Origin: it.origin, Path: it.given, Pinned: c.isPinned(it), Incomplete: it.reason,
		Bytes: it.stamp.Bytes, source: source{it.place, it.stamp},
	}
	if !it.ready && it.lost() {
		s.Incomplete, s.Error = "", it.reason
	}
	return s
}
