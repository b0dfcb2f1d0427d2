package grammar

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

type kind uint8

const (
	literal    kind = iota // text, which may be empty
	class                  // one of ranges
	reference              // to the rule that text names
	sequence               // all of subs; at least two, none empty or a sequence, no two literals side by side
	alternates             // one of subs; at least two, all different, none alternates. Nothing matches never, which has none
	repetition             // subs[0] at least min and at most max times; max < 0: any number
)

// node is a piece of a rule. Nodes are made by the functions below only, which simplify
// what can be; they do not change any more and may be shared.
type node struct {
	kind     kind
	text     string
	ranges   ranges
	subs     []*node
	min, max int

	nest int // depth of parentheses where it is written
	// Elements that llama.cpp makes of it: S{m,n} becomes m copies of S and n-m rules, what
	// stands in parentheses becomes a rule.
	here, apart int // in the rule where it stands, and in rules made for it
	// Equal nodes have the same sum, and others another one: 64 bits, keyed by chance.
	sum uint64
}

var (
	empty = (&node{kind: literal}).measured()
	never = (&node{kind: alternates}).measured()
)

var seed = maphash.MakeSeed()

func (n *node) isEmpty() bool { return n.kind == literal && n.text == "" }
func (n *node) isNever() bool { return n.kind == alternates && len(n.subs) == 0 }

// isAtom tells whether a repetition can follow without parentheses.
func (n *node) isAtom() bool { return n.kind <= reference }

func text(s string) *node {
	if s == "" {
		return empty
	}
	return (&node{kind: literal, text: s}).measured()
}

func ref(name string) *node { return (&node{kind: reference, text: name}).measured() }

// oneOf is a character out of ranges, those that are none left out.
func oneOf(r ranges) *node {
	r = r.and(scalars)
	switch {
	case len(r) == 0:
		return never
	case len(r) == 1 && r[0].low == r[0].high:
		return text(string(r[0].low))
	}
	return (&node{kind: class, ranges: r}).measured()
}

// oneOfText is a character out of a text.
func oneOfText(s string) *node {
	var r ranges
	for _, c := range s {
		r = append(r, span{c, c})
	}
	return oneOf(r.sorted())
}

func seq(parts ...*node) *node {
	n := &node{kind: sequence}
	var run strings.Builder // of literals
	flush := func() {
		if run.Len() > 0 {
			n.subs = append(n.subs, text(run.String()))
			run.Reset()
		}
	}
	add := func(p *node) {
		if p.kind == literal {
			run.WriteString(p.text)
			return
		}
		flush()
		n.subs = append(n.subs, p)
	}
	for _, p := range parts {
		switch {
		case p.isNever():
			return never
		case p.kind == sequence:
			for _, s := range p.subs {
				add(s)
			}
		default:
			add(p)
		}
	}
	flush()
	switch len(n.subs) {
	case 0:
		return empty
	case 1:
		return n.subs[0]
	}
	return n.measured()
}

func either(parts ...*node) *node {
	n := &node{kind: alternates}
	seen := map[uint64]bool{}
	for _, p := range parts {
		all := []*node{p}
		if p.kind == alternates {
			all = p.subs
		}
		for _, s := range all {
			if !seen[s.sum] {
				seen[s.sum] = true
				n.subs = append(n.subs, s)
			}
		}
	}
	switch len(n.subs) {
	case 0:
		return never
	case 1:
		return n.subs[0]
	}
	return n.measured()
}

func optional(n *node) *node { return repeat(n, 0, 1) }

func repeat(n *node, low, high int) *node {
	switch {
	case high == 0 || n.isEmpty() || n.isNever() && low == 0:
		return empty
	case n.isNever():
		return never
	case low == 1 && high == 1:
		return n
	}
	if n.kind == repetition && n.min <= 1 {
		switch {
		case high < 0: // (x*)*, (x+)* and the like
			return repeat(n.subs[0], low*n.min, -1)
		case low == 0 && high == 1: // (x+)?
			return repeat(n.subs[0], 0, n.max)
		}
	}
	return (&node{kind: repetition, subs: []*node{n}, min: low, max: high}).measured()
}

// measured fills in what is known of a node by its parts.
func (n *node) measured() *node {
	var hash maphash.Hash
	hash.SetSeed(seed)
	maphash.WriteComparable(&hash, [3]int{int(n.kind), n.min, n.max})
	hash.WriteString(n.text)
	for _, s := range n.ranges {
		maphash.WriteComparable(&hash, s)
	}
	for _, s := range n.subs {
		maphash.WriteComparable(&hash, s.sum)
	}
	n.sum = hash.Sum64()
	for _, s := range n.subs {
		here := s.here
		n.nest = max(n.nest, s.nest)
		n.apart += s.apart
		if n.kind == sequence && s.kind == alternates || n.kind == repetition && !s.isAtom() {
			n.nest = max(n.nest, s.nest+1)
			n.apart += s.here + 1
			here = 1
		}
		n.here += here
	}
	switch n.kind {
	case literal:
		n.here = utf8.RuneCountInString(n.text)
	case class:
		for _, s := range n.ranges {
			n.here++
			if s.high > s.low {
				n.here++
			}
		}
	case reference:
		n.here = 1
	case alternates:
		n.here += len(n.subs) // between them, and at the end
	case repetition:
		once, more := n.here, n.max-n.min
		if n.max < 0 {
			more = 1
		}
		n.here = n.min*once + min(more, 1)
		n.apart += more * (once + 3)
	}
	return n
}

// references calls f for each.
func (n *node) references(f func(name string)) {
	if n.kind == reference {
		f(n.text)
	}
	for _, s := range n.subs {
		s.references(f)
	}
}

// mapped rebuilds a node with f's result for each reference.
func (n *node) mapped(f func(*node) *node) *node {
	switch n.kind {
	case literal, class:
		return n
	case reference:
		return f(n)
	}
	subs := make([]*node, len(n.subs))
	for i, s := range n.subs {
		subs[i] = s.mapped(f)
	}
	switch n.kind {
	case sequence:
		return seq(subs...)
	case alternates:
		return either(subs...)
	}
	return repeat(subs[0], n.min, n.max)
}

// write writes GBNF.
func (n *node) write(b *strings.Builder) {
	switch n.kind {
	case literal:
		b.WriteByte('"')
		for _, c := range n.text {
			writeChar(b, c, `"\`, "")
		}
		b.WriteByte('"')
	case class:
		b.WriteByte('[')
		for _, s := range n.ranges {
			writeChar(b, s.low, `[]\`, "-^") // llama.cpp has no escapes for these two
			if s.high > s.low {
				b.WriteByte('-')
				writeChar(b, s.high, `[]\`, "-^")
			}
		}
		b.WriteByte(']')
	case reference:
		b.WriteString(n.text)
	case sequence:
		for i, s := range n.subs {
			if i > 0 {
				b.WriteByte(' ')
			}
			s.writeIn(b, s.kind == alternates)
		}
	case alternates:
		for i, s := range n.subs {
			if i > 0 {
				b.WriteString(" | ")
			}
			s.write(b)
		}
	case repetition:
		n.subs[0].writeIn(b, !n.subs[0].isAtom())
		switch {
		case n.min == 0 && n.max == 1:
			b.WriteByte('?')
		case n.min == 0 && n.max < 0:
			b.WriteByte('*')
		case n.min == 1 && n.max < 0:
			b.WriteByte('+')
		case n.max < 0:
			fmt.Fprintf(b, "{%d,}", n.min)
		case n.min == n.max:
			fmt.Fprintf(b, "{%d}", n.min)
		default:
			fmt.Fprintf(b, "{%d,%d}", n.min, n.max)
		}
	}
}

func (n *node) writeIn(b *strings.Builder, parentheses bool) {
	if parentheses {
		b.WriteByte('(')
	}
	n.write(b)
	if parentheses {
		b.WriteByte(')')
	}
}

func writeChar(b *strings.Builder, c rune, escaped, coded string) {
	switch {
	case strings.ContainsRune(escaped, c):
		b.WriteByte('\\')
		b.WriteRune(c)
	case unicode.IsPrint(c) && !strings.ContainsRune(coded, c):
		b.WriteRune(c)
	case c == '\n':
		b.WriteString(`\n`)
	case c == '\r':
		b.WriteString(`\r`)
	case c == '\t':
		b.WriteString(`\t`)
	case c <= 0xff:
		fmt.Fprintf(b, `\x%02X`, c)
	case c <= 0xffff:
		fmt.Fprintf(b, `\u%04X`, c)
	default:
		fmt.Fprintf(b, `\U%08X`, c)
	}
}

// span is a range of characters, both ends in it.
type span struct{ low, high rune }

// ranges are a set of characters, in order and apart from one another.
type ranges []span

// scalars are the characters that a grammar can have: text ends at 0, and surrogates
// are none. That classes are written without the rest, negated ones too, keeps answers
// valid UTF-8.
var scalars = ranges{{1, 0xd7ff}, {0xe000, unicode.MaxRune}}

// sorted puts spans in order and joins those that touch.
func (r ranges) sorted() ranges {
	slices.SortFunc(r, func(a, b span) int { return int(a.low - b.low) })
	var out ranges
	for _, s := range r {
		if last := len(out) - 1; last >= 0 && s.low <= out[last].high+1 {
			out[last].high = max(out[last].high, s.high)
		} else {
			out = append(out, s)
		}
	}
	return out
}

func (r ranges) and(other ranges) ranges {
	var out ranges
	for i, j := 0, 0; i < len(r) && j < len(other); {
		if low, high := max(r[i].low, other[j].low), min(r[i].high, other[j].high); low <= high {
			out = append(out, span{low, high})
		}
		if r[i].high < other[j].high {
			i++
		} else {
			j++
		}
	}
	return out
}

// not is the other characters, 0 and surrogates among them.
func (r ranges) not() ranges {
	var out ranges
	next := rune(0)
	for _, s := range r {
		if s.low > next {
			out = append(out, span{next, s.low - 1})
		}
		next = s.high + 1
	}
	if next <= unicode.MaxRune {
		out = append(out, span{next, unicode.MaxRune})
	}
	return out
}

func (r ranges) has(c rune) bool {
	return slices.ContainsFunc(r, func(s span) bool { return s.low <= c && c <= s.high })
}
