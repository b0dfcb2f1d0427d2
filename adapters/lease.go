package adapters

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"lorikeet/backend"
)

// Ref asks for an adapter. Scale multiplies the strength that it was trained for; 0
// is none of it.
type Ref struct {
	Name  string
	Scale float32
}

// Part is an adapter of a lease, in the version that the lease holds.
type Part struct {
	Name    string
	Version string // digest, hex
	Scale   float32
}

// Lease is a request's hold on adapter versions: as long as it is held, the slot
// keeps them.
type Lease struct {
	Slot  int    // holds all parts whose scale is not 0; with none of these it is 0, the base
	Parts []Part // in the order of the request

	// Key names exactly what lies in the slot, digests and scales, in whatever order
	// they were asked for. It is "" for slot 0.
	Key string

	// Invocation is set for an activated LoRA: the adapter changes a request from the
	// first token of the last occurrence of these tokens in its prompt on, and not at
	// all if the prompt has none. See From.
	Invocation []backend.Token

	slots *slots
	once  sync.Once
}

// Release ends the hold. It is idempotent.
func (l *Lease) Release() {
	l.once.Do(func() {
		if l.Slot != 0 {
			l.slots.release(l.Slot)
		}
	})
}

// From tells from which token of a prompt on the slot is used. If it is not active,
// the request runs on the base.
func (l *Lease) From(prompt []backend.Token) (from int, active bool) {
	n := len(l.Invocation)
	if n == 0 {
		return 0, l.Slot != 0
	}
	for from = len(prompt) - n; from >= 0; from-- {
		if slices.Equal(prompt[from:from+n], l.Invocation) {
			return from, true
		}
	}
	return 0, false
}

// String names the parts for a log.
func (l *Lease) String() string {
	var b []string
	for _, p := range l.Parts {
		b = append(b, p.Name+"@"+partKey(Short(p.Version), p.Scale))
	}
	return strings.Join(b, " ")
}

// CombinationError says that adapters can't be used together in one request.
type CombinationError struct {
	Name   string // of the adapter to blame
	Reason string
}

func (e *CombinationError) Error() string { return fmt.Sprintf("adapter %q %s", e.Name, e.Reason) }

// newLease describes a lease of refs, which does not hold a slot yet.
func (m *Manager) newLease(refs []Ref, versions map[string]version) (*Lease, error) {
	l := &Lease{Parts: make([]Part, len(refs)), slots: &m.slots}
	keys := make([]string, 0, len(refs))
	activated := ""
	for i, r := range refs {
		v := versions[r.Name]
		l.Parts[i] = Part{Name: r.Name, Version: v.digest, Scale: r.Scale}
		if r.Scale == 0 {
			continue
		}
		keys = append(keys, partKey(v.digest, r.Scale))
		if v.invocation != nil {
			activated, l.Invocation = r.Name, v.invocation
		}
	}
	if activated != "" && len(keys) > 1 {
		return nil, &CombinationError{activated, "is an activated LoRA, which can't be combined with other adapters"}
	}
	slices.Sort(keys)
	l.Key = strings.Join(keys, "+")
	return l, nil
}

// partKey names an adapter's share of a slot.
func partKey(digest string, scale float32) string {
	return digest + "@" + strconv.FormatFloat(float64(scale), 'g', -1, 32)
}

// digestsOf returns the digests that the key of a slot is made of.
func digestsOf(key string) []string {
	var digests []string
	for part := range strings.SplitSeq(key, "+") {
		digest, _, _ := strings.Cut(part, "@")
		digests = append(digests, digest)
	}
	return digests
}
