package adapters

import (
	"slices"
	"sync"
	"time"
)

// minResidency is how long a slot keeps its content before it is drained for
// another: many times what a load takes, so that with more adapters in use than
// slots the time goes into answers, and little beside a drain, so that it adds
// little to the wait for a slot.
const minResidency = 250 * time.Millisecond

// slots knows what each slot of a pool holds and who uses it, and gives slots to
// those who seek one, in the order of their coming.
//
// A slot without leases is given away at once, the least recently used one first. If
// there is none, as many slots as there are seekers are drained: nobody gets a new
// lease of such a slot, so it becomes free when the requests on it have finished.
// Whoever wants its content meanwhile is a seeker like the others. So a seeker waits
// until as many slots are drained as there are seekers ahead of it, and one more,
// however often the others are asked for. A slot whose content is pinned is neither
// drained nor given away; a seeker of what is just being put into a slot waits for that.
type slots struct {
	residency time.Duration // minResidency, except in tests

	mu      sync.Mutex
	all     []slot          // slot 0 is the base and is never used here
	clock   uint64          // counts uses, for least recently used
	pins    map[string]bool // by key
	seekers []*seeker
	wake    *time.Timer // runs when a slot will have been resident for long enough
}

type slot struct {
	key      string // of its content; "" if it is empty, reserved or of no use any more
	reserved string // the key that a seeker fills it with, else ""
	draining bool
	leases   int
	used     uint64
	since    time.Time       // when it was filled
	idle     []chan struct{} // closed when there are no leases
}

// seeker wants a slot for the content that key names.
type seeker struct {
	key      string
	done     chan struct{} // closed when it was given a slot
	slot     int
	resident bool // the slot holds the content already, and is leased; else it is reserved
}

func (s *slots) init(n int) {
	s.residency = minResidency
	s.all = make([]slot, max(1, n))
	s.pins = map[string]bool{}
}

// lease takes a hold on the slot that holds key. It returns 0 if there is none, or
// if it is being drained.
func (s *slots) lease(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(key)
	if i == 0 || s.all[i].draining {
		return 0
	}
	s.use(i)
	return i
}

// again takes another hold on a slot that the caller holds.
func (s *slots) again(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.use(i)
}

func (s *slots) release(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(i)
	if s.all[i].leases == 0 {
		s.settle()
	}
}

// any tells whether a slot holds content whose key matches.
func (s *slots) any(match func(key string) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.all, func(c slot) bool { return c.key != "" && match(c.key) })
}

// pin keeps content in the slot that it is in, or lets it go again.
func (s *slots) pin(key string, pinned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pinned {
		s.pins[key] = true
		for i := range s.all { // it is never given away, so nobody must wait for its drain
			if s.all[i].key == key {
				s.all[i].draining = false
			}
		}
	} else {
		delete(s.pins, key)
	}
	s.settle()
}

// clear makes the content of slots useless whose keys match: nobody gets a new lease of
// it. The channels are closed when the last lease of one is released.
func (s *slots) clear(match func(key string) bool) (idle []<-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		c := &s.all[i]
		if c.key == "" || !match(c.key) {
			continue
		}
		c.key, c.used = "", 0
		if c.leases > 0 {
			done := make(chan struct{})
			c.idle = append(c.idle, done)
			idle = append(idle, done)
		}
	}
	s.settle()
	return idle
}

// users counts the leases that channels of clear still wait for.
func (s *slots) users(idle []<-chan struct{}) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.all {
		if slices.ContainsFunc(c.idle, func(done chan struct{}) bool { return slices.Contains(idle, done) }) {
			n += c.leases
		}
	}
	return n
}

// holding is a slot with content, as it is at a moment.
type holding struct {
	slot   int
	key    string
	leases int
	pinned bool
}

func (s *slots) holdings() []holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []holding
	for i, c := range s.all {
		if c.key != "" {
			all = append(all, holding{i, c.key, c.leases, s.pins[c.key]})
		}
	}
	return all
}

// seek queues for a slot.
func (s *slots) seek(key string) *seeker {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &seeker{key: key, done: make(chan struct{})}
	s.seekers = append(s.seekers, k)
	s.settle()
	return k
}

// leave ends a search, also one that was successful: then the slot is given back.
func (s *slots) leave(k *seeker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case k.slot == 0:
		s.seekers = slices.DeleteFunc(s.seekers, func(other *seeker) bool { return other == k })
	case k.resident:
		s.drop(k.slot)
	default:
		s.all[k.slot] = slot{}
	}
	s.settle()
}

// filled says that the slot which was reserved for k holds key now. The caller has a
// lease of it.
func (s *slots) filled(k *seeker, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[k.slot] = slot{key: key, since: time.Now()}
	s.use(k.slot)
	s.settle()
}

// The rest is called with mu held.

// find looks for the slot that holds key. Two do if equal files were loaded under two
// names at a time; then one that does not drain is preferred.
func (s *slots) find(key string) (found int) {
	for i, c := range s.all {
		if i > 0 && c.key == key && (found == 0 || s.all[found].draining) {
			found = i
		}
	}
	return found
}

func (s *slots) use(i int) {
	s.clock++
	s.all[i].used = s.clock
	s.all[i].leases++
}

func (s *slots) drop(i int) {
	c := &s.all[i]
	if c.leases--; c.leases > 0 {
		return
	}
	for _, done := range c.idle {
		close(done)
	}
	c.idle = nil
}

// underway tells whether a slot is being filled with what a seeker wants.
func (s *slots) underway(k *seeker) bool {
	return slices.ContainsFunc(s.all, func(c slot) bool { return c.reserved == k.key })
}

// wanting counts the seekers that need a slot for themselves.
func (s *slots) wanting() int {
	n := 0
	for _, k := range s.seekers {
		if !s.underway(k) {
			n++
		}
	}
	return n
}

// settle gives slots to seekers and keeps as many draining as there are seekers left.
func (s *slots) settle() {
	for s.giveResident() || s.giveFree() || s.restore() {
	}
	if s.wake != nil {
		s.wake.Stop()
		s.wake = nil
	}
	for missing := s.wanting() - s.draining(); missing > 0; missing-- {
		victim, wait := s.victim()
		if victim == 0 {
			if wait > 0 {
				s.wake = time.AfterFunc(wait, func() {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.settle()
				})
			}
			return
		}
		s.all[victim].draining = true
	}
}

// giveResident serves a seeker whose content is resident meanwhile. From a slot that
// drains only the first seeker can have it back: the others' predecessors need it.
func (s *slots) giveResident() bool {
	for n, k := range s.seekers {
		i := s.find(k.key)
		if i == 0 || s.all[i].draining && n > 0 {
			continue
		}
		s.all[i].draining = false
		s.use(i)
		s.give(n, i, true)
		return true
	}
	return false
}

// giveFree gives the first seeker that needs one a slot without leases.
func (s *slots) giveFree() bool {
	first := slices.IndexFunc(s.seekers, func(k *seeker) bool { return !s.underway(k) })
	if first < 0 {
		return false
	}
	best := 0
	for i := 1; i < len(s.all); i++ {
		if c := &s.all[i]; c.reserved == "" && !s.pins[c.key] && c.leases == 0 && (best == 0 || c.used < s.all[best].used) {
			best = i
		}
	}
	if best == 0 {
		return false
	}
	s.all[best] = slot{reserved: s.seekers[first].key}
	s.give(first, best, false)
	return true
}

func (s *slots) give(n, i int, resident bool) {
	k := s.seekers[n]
	s.seekers = slices.Delete(s.seekers, n, n+1)
	k.slot, k.resident = i, resident
	close(k.done)
}

// restore ends the draining of a slot that no seeker is left for: the one that has
// the most leases, and so the longest way to go.
func (s *slots) restore() bool {
	if s.draining() <= s.wanting() {
		return false
	}
	best := 0
	for i, c := range s.all {
		if c.draining && (best == 0 || c.leases > s.all[best].leases) {
			best = i
		}
	}
	s.all[best].draining = false
	return true
}

func (s *slots) draining() int {
	n := 0
	for _, c := range s.all {
		if c.draining {
			n++
		}
	}
	return n
}

// victim is the slot to be drained next: the one with the fewest leases, then the
// least recently used one. If all are too young for it, it is 0, and wait tells how
// long the first still is.
func (s *slots) victim() (best int, wait time.Duration) {
	now := time.Now()
	for i := 1; i < len(s.all); i++ {
		c := &s.all[i]
		if c.reserved != "" || c.draining || s.pins[c.key] {
			continue
		}
		if young := s.residency - now.Sub(c.since); young > 0 {
			if wait == 0 || young < wait {
				wait = young
			}
			continue
		}
		if b := &s.all[best]; best == 0 || c.leases < b.leases || c.leases == b.leases && c.used < b.used {
			best = i
		}
	}
	return best, wait
}
