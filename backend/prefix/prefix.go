// Package prefix keeps account of what lies in a KV cache: which tokens, computed
// with which adapter version, each sequence holds, which of them several sequences
// share, and which are only kept for requests to come.
//
// The engine tells a [Tree] what it does to the cache, and asks it for the longest
// prefix of a prompt that is there already, and for what to throw out when room is
// needed. The tree never touches the cache, knows no time and no C; it belongs to
// one goroutine.
//
// Two tokens are the same only if their adapter versions are: a prefix is never
// reused across adapters.
package prefix

import (
	"slices"

	"lorikeet/backend"
)

// Prompt is a sequence's tokens: those before From are computed with the base alone,
// the others with an adapter version.
type Prompt struct {
	Tokens  []backend.Token
	From    int
	Version string // "" is the base
}

func (p *Prompt) version(i int) string {
	if i < p.From {
		return ""
	}
	return p.Version
}

// node is a stretch of tokens that the same sequences hold. It exists as long as a
// sequence ends in it or below it. Children may begin alike: sequences that computed
// the same tokens at the same time hold them twice.
type node struct {
	parent   *node
	children []*node
	version  string
	tokens   []backend.Token
	ends     []int // sequences that end here
	live     int   // sequences in use that end here or below
}

// sequence is one id of the cache.
type sequence struct {
	end  *node // nil if the id is free
	kept bool
	used uint64 // when it was last of use
}

// Tree is the account of one cache.
type Tree struct {
	root  *node
	seqs  []sequence
	clock uint64
	used  int
	kept  int // of used, what no sequence in use holds
}

// New makes the account of an empty cache that knows so many sequence ids.
func New(sequences int) *Tree {
	t := &Tree{seqs: make([]sequence, sequences)}
	t.Clear()
	return t
}

// Clear tells that the cache is empty; no id is in use any more.
func (t *Tree) Clear() {
	t.root = &node{}
	clear(t.seqs)
	t.used, t.kept = 0, 0
}

// Used is the number of tokens in the cache.
func (t *Tree) Used() int { return t.used }

// Kept is the number of tokens in the cache that only kept sequences hold.
func (t *Tree) Kept() int { return t.kept }

// Free returns an id that is not in use; ok is false if there is none.
func (t *Tree) Free() (id int, ok bool) {
	id = slices.IndexFunc(t.seqs, func(s sequence) bool { return s.end == nil })
	return id, id >= 0
}

// Match is the longest prefix of a prompt in the cache.
type Match struct {
	Tokens int
	Holder int // a sequence that holds it, if Tokens is not 0
	Kept   int // of Tokens, what no sequence in use holds
}

// Match finds the longest prefix of a prompt in the cache, of at most limit tokens.
func (t *Tree) Match(p Prompt, limit int) Match {
	p.Tokens = p.Tokens[:min(limit, len(p.Tokens))]
	at, within, n := longest(t.root, nil, &p, 0)
	m := Match{Tokens: n}
	for n := at; n != nil && n.live == 0; n = n.parent {
		m.Kept += within
		if n.parent != nil {
			within = len(n.parent.tokens)
		}
	}
	if m.Tokens > 0 {
		for len(at.ends) == 0 {
			at = at.children[0]
		}
		m.Holder = at.ends[0]
	}
	return m
}

// longest walks down from a node, at whose end the first n tokens of a prompt are, as
// far as the prompt leads, but not into except: to a node, how many of its tokens, and
// how many of the prompt's.
func longest(from, except *node, p *Prompt, n int) (at *node, within, matched int) {
	at, within, matched = from, len(from.tokens), n
	for _, child := range from.children {
		if child == except {
			continue
		}
		k := n
		for k < len(p.Tokens) && k-n < len(child.tokens) && child.tokens[k-n] == p.Tokens[k] && child.version == p.version(k) {
			k++
		}
		a, w := child, k-n
		if w == len(child.tokens) {
			a, w, k = longest(child, except, p, k)
		}
		if k > matched {
			at, within, matched = a, w, k
		}
	}
	return at, within, matched
}

// Start takes a free id into use, with the first n tokens of a prompt, which Match
// has found.
func (t *Tree) Start(id int, p Prompt, n int) {
	p.Tokens = p.Tokens[:n]
	at, within, found := longest(t.root, nil, &p, 0)
	if found != n || t.seqs[id].end != nil {
		panic("prefix: Start of what Match did not find, or of an id in use")
	}
	if within < len(at.tokens) {
		at = split(at, within)
	}
	t.clock++
	for _, holder := range at.ends { // it was of use: the cache throws others out first
		t.seqs[holder].used = t.clock
	}
	t.seqs[id] = sequence{end: at, used: t.clock}
	at.ends = append(at.ends, id)
	t.addLive(at, 1)
}

// split cuts a node in two and returns the upper part, which is new: sequences that
// end in the node go on ending in it.
func split(n *node, at int) *node {
	upper := &node{parent: n.parent, children: []*node{n}, version: n.version, tokens: slices.Clone(n.tokens[:at]), live: n.live}
	n.parent.children[slices.Index(n.parent.children, n)] = upper
	n.tokens = slices.Clone(n.tokens[at:])
	n.parent = upper
	return upper
}

// addLive counts a sequence in use in or out, from where it ends up to the root.
func (t *Tree) addLive(n *node, d int) {
	for ; n != nil; n = n.parent {
		if n.live == 0 {
			t.kept -= len(n.tokens)
		}
		if n.live += d; n.live == 0 {
			t.kept += len(n.tokens)
		}
	}
}

// Append tells that a sequence in use has got tokens.
func (t *Tree) Append(id int, version string, tokens ...backend.Token) {
	if len(tokens) == 0 {
		return
	}
	s := &t.seqs[id]
	at := s.end
	if at == t.root || at.version != version || len(at.ends) > 1 || len(at.children) > 0 {
		at = &node{parent: s.end, version: version, live: 1, ends: []int{id}}
		at.parent.children = append(at.parent.children, at)
		at.parent.ends = without(at.parent.ends, id)
		s.end = at
	}
	at.tokens = append(at.tokens, tokens...)
	t.used += len(tokens)
}

func without[T comparable](list []T, x T) []T {
	i := slices.Index(list, x)
	return slices.Delete(list, i, i+1)
}

// Keep tells that a sequence is not in use any more, but stays in the cache until
// Evict wants its room. freed are the ids that hold nothing of their own any more,
// the sequence's own one perhaps: the engine takes them out of the cache.
func (t *Tree) Keep(id int) (freed []int) {
	s := &t.seqs[id]
	t.clock++
	s.kept, s.used = true, t.clock
	t.addLive(s.end, -1)
	if t.redundant(id) {
		t.release(id)
		return []int{id}
	}
	for n := s.end.parent; n != nil; n = n.parent {
		for _, other := range slices.Clone(n.ends) {
			if t.seqs[other].kept {
				t.release(other)
				freed = append(freed, other)
			}
		}
	}
	return freed
}

// redundant tells whether others hold all that a sequence holds, or have computed
// the same.
func (t *Tree) redundant(id int) bool {
	end := t.seqs[id].end
	if end == t.root || len(end.ends) > 1 || len(end.children) > 0 {
		return true
	}
	top := end // of the nodes that it alone holds
	for p := top.parent; p != t.root && len(p.ends) == 0 && len(p.children) == 1; p = p.parent {
		top = p
	}
	own := Prompt{Version: end.version}
	for n := end; n != t.root; n = n.parent {
		own.Tokens = slices.Insert(own.Tokens, 0, n.tokens...)
		if n.version != own.Version {
			own.From += len(n.tokens)
		}
	}
	_, _, n := longest(t.root, top, &own, 0)
	return n == len(own.Tokens)
}

// Drop tells that a sequence was taken out of the cache.
func (t *Tree) Drop(id int) {
	if !t.seqs[id].kept {
		t.addLive(t.seqs[id].end, -1)
	}
	t.release(id)
}

// release removes a sequence that is not live, and the nodes that only it held.
func (t *Tree) release(id int) {
	n := t.seqs[id].end
	t.seqs[id] = sequence{}
	n.ends = without(n.ends, id)
	for n != t.root && len(n.ends) == 0 && len(n.children) == 0 {
		t.used -= len(n.tokens)
		t.kept -= len(n.tokens)
		n.parent.children = without(n.parent.children, n)
		n = n.parent
	}
}

// Evict chooses the kept sequence that was longest of no use, and forgets it; the
// engine takes it out of the cache. ok is false if nothing is kept.
func (t *Tree) Evict() (id int, ok bool) {
	id = -1
	for i, s := range t.seqs {
		if s.kept && (id < 0 || s.used < t.seqs[id].used) {
			id = i
		}
	}
	if id < 0 {
		return 0, false
	}
	t.release(id)
	return id, true
}
