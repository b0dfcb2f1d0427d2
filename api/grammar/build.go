package grammar

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// builder collects the rules of a grammar that is made of something else than GBNF.
type builder struct {
	rules  []rule
	at     map[string]int
	taken  map[string]int    // how many names begin like this
	same   map[uint64]string // names by what stands in the rule
	pieces map[string]string // names of pieces of JSON

	classes map[string]*node // of regular expressions, by their ranges
}

func newBuilder() *builder {
	return &builder{
		rules: []rule{{root, never}}, at: map[string]int{root: 0},
		taken: map[string]int{root: 1}, same: map[uint64]string{}, pieces: map[string]string{}, classes: map[string]*node{},
	}
}

// declare makes up a name like the one wanted, for a rule that set completes.
func (b *builder) declare(wanted string) string {
	name := strings.Map(func(c rune) rune {
		if c < utf8.RuneSelf && isWord(byte(c)) && c != '_' {
			return c
		}
		return '-'
	}, wanted[:min(len(wanted), MaxName/2)])
	if name = strings.Trim(name, "-"); name == "" {
		name = "rule"
	}
	for stem := name; ; name = stem + "-" + strconv.Itoa(b.taken[stem]) {
		b.taken[stem]++
		if _, ok := b.at[name]; !ok {
			break
		}
	}
	b.at[name] = len(b.rules)
	b.rules = append(b.rules, rule{name, never})
	return name
}

func (b *builder) set(name string, body *node) { b.rules[b.at[name]].body = body }

// define puts a node into a rule, and returns a reference to it. Equal nodes share one.
func (b *builder) define(name string, body *node) *node {
	if body.kind == reference || body.here <= 1 && body.isAtom() || body.isNever() {
		return body
	}
	if _, ok := b.same[body.sum]; !ok {
		if b.full() {
			return never
		}
		b.same[body.sum] = b.declare(name)
		b.set(b.same[body.sum], body)
	}
	return ref(b.same[body.sum])
}

// piece is the rule of something that is the same everywhere, made when it is first
// wanted.
func (b *builder) piece(name string, body func() *node) *node {
	if b.pieces[name] == "" {
		b.pieces[name] = b.declare(name) // before body, which may refer to it
		b.set(b.pieces[name], body())
	}
	return ref(b.pieces[name])
}

// full tells that there are too many rules: finish will say so.
func (b *builder) full() bool { return len(b.rules) > MaxRules }

var errTooManyRules = errorf("more than %d rules are needed", MaxRules)

// finish writes the grammar of what root stands for.
func (b *builder) finish(body *node) (string, *Error) {
	b.set(root, body)
	if b.full() {
		return "", errTooManyRules
	}
	g, err := normal(b.rules)
	if err != nil {
		return "", err
	}
	return g.String(), nil
}

// A repetition of more than two blocks is counted in blocks, of blocks if need be: what
// llama.cpp makes of it stays small, and a count is reached in one way only.
const block = 32

// endless is more than any answer holds.
const endless = 1 << 30

// times repeats n; high < 0: any number of times.
func (b *builder) times(n *node, low, high int) *node {
	if low > high && high >= 0 {
		return never
	}
	if n.here > 1 && (high > 1 || low > 1) {
		n = b.define("many", n)
	}
	switch {
	case high < 0 && low <= 2*block, high >= 0 && high <= 2*block:
		return repeat(n, low, high)
	case high < 0:
		return seq(b.exactly(n, low), repeat(n, 0, -1))
	}
	return seq(b.exactly(n, low), b.upTo(n, high-low))
}

func (b *builder) exactly(n *node, k int) *node {
	if k <= 2*block {
		return repeat(n, k, k)
	}
	return seq(b.exactly(b.define("many", repeat(n, block, block)), k/block), repeat(n, k%block, k%block))
}

func (b *builder) upTo(n *node, k int) *node {
	if k <= 2*block {
		return repeat(n, 0, k)
	}
	size, unit := block, b.define("many", repeat(n, block, block))
	for size*block <= k {
		size, unit = size*block, b.define("many", repeat(unit, block, block))
	}
	less := b.define("few", b.upTo(n, size-1))
	out := b.upTo(n, k%size)
	for range k / size { // another one, or less than one
		out = either(seq(unit, out), less)
	}
	return b.define("some", out)
}

// FromChoice is a grammar of just these texts. Errors are *Error.
func FromChoice(choices []string) (string, error) {
	size := 0
	var all trie
	for i, c := range choices {
		if size += len(c); size > MaxSize {
			return "", errorf("the choices have more than %d bytes", MaxSize)
		}
		if !utf8.ValidString(c) || strings.IndexByte(c, 0) >= 0 {
			return "", errorf("choice %d is not valid UTF-8 without zeros", i)
		}
		all.add(c)
	}
	if len(choices) == 0 {
		return "", errorf("there are no choices")
	}
	b := newBuilder()
	gbnf, err := b.finish(all.node(b))
	if err != nil {
		return "", err
	}
	return gbnf, nil
}

// trie holds texts by their common beginnings, so that what follows them has one place
// to be at, however many they are.
type trie struct {
	ends bool
	next map[rune]*trie
}

func (t *trie) add(s string) {
	for _, c := range s {
		if t.next == nil {
			t.next = map[rune]*trie{}
		}
		if t.next[c] == nil {
			t.next[c] = &trie{}
		}
		t = t.next[c]
	}
	t.ends = true
}

func (t *trie) chars() []rune {
	chars := make([]rune, 0, len(t.next))
	for c := range t.next {
		chars = append(chars, c)
	}
	slices.Sort(chars)
	return chars
}

// tooNested is where a trie's parentheses become a rule.
const tooNested = 8

// node is any of the texts.
func (t *trie) node(b *builder) *node {
	var run []rune // what has only one continuation
	for len(t.next) == 1 && !t.ends {
		c := t.chars()[0]
		run = append(run, c)
		t = t.next[c]
	}
	var all []*node
	if t.ends {
		all = append(all, empty)
	}
	var last ranges
	for _, c := range t.chars() {
		if next := t.next[c]; next.ends && len(next.next) == 0 {
			last = append(last, span{c, c})
		} else {
			all = append(all, seq(text(string(c)), next.node(b)))
		}
	}
	if len(last) > 0 {
		all = append(all, oneOf(last.sorted()))
	}
	n := either(all...)
	if n.nest >= tooNested {
		n = b.define("choice", n)
	}
	return seq(text(string(run)), n)
}

// others is any text of char, except for those in the trie, whose characters char all
// allows. rest is any number of char.
func (t *trie) others(b *builder, char ranges, rest *node) *node {
	if b.full() {
		return never
	}
	if len(t.next) == 0 { // the end of one
		return b.define("longer", seq(oneOf(char), rest))
	}
	var all []*node
	if !t.ends {
		all = append(all, empty)
	}
	var taken ranges
	for _, c := range t.chars() {
		taken = append(taken, span{c, c})
		all = append(all, seq(text(string(c)), t.next[c].others(b, char, rest)))
	}
	all = append(all, seq(oneOf(char.and(taken.not())), rest))
	return b.define("other", either(all...))
}
