package grammar

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func parse(t testing.TB, gbnf string) *Grammar {
	t.Helper()
	g, err := Parse(gbnf)
	if err != nil {
		t.Fatalf("%.300q: %v", gbnf, err)
	}
	return g
}

// must is a grammar from one of the package's functions.
func must(t testing.TB, gbnf string, err error) *Grammar {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	g := parse(t, gbnf)
	if g.String() != gbnf {
		t.Fatalf("%s is not in normal form", gbnf)
	}
	return g
}

// refuses checks that an error is an *Error of bounded length that says what is wanted.
func refuses(t testing.TB, err error, want string) {
	t.Helper()
	var refused *Error
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) || len(err.Error()) > maxReason || !utf8.ValidString(err.Error()) {
		t.Errorf("got %v, want one with %q", err, want)
	}
}

// matcher recognizes a text by a grammar, remembering what each node matches where.
type matcher struct {
	g    *Grammar
	at   map[string]int
	s    string
	memo map[matched][]int
}

type matched struct {
	n  *node
	at int
}

func (g *Grammar) matches(s string) bool {
	m := matcher{g, index(g.rules), s, map[matched][]int{}}
	return slices.Contains(m.ends(g.rules[0].body, 0), len(s))
}

// ends are the places where a match that begins at a place can end.
func (m *matcher) ends(n *node, at int) []int {
	key := matched{n, at}
	if out, ok := m.memo[key]; ok {
		return out
	}
	var out []int
	switch n.kind {
	case literal:
		if strings.HasPrefix(m.s[at:], n.text) {
			out = []int{at + len(n.text)}
		}
	case class:
		if c, size := utf8.DecodeRuneInString(m.s[at:]); size > 0 && n.ranges.has(c) {
			out = []int{at + size}
		}
	case reference:
		out = m.ends(m.g.rules[m.at[n.text]].body, at)
	case sequence:
		out = []int{at}
		for _, s := range n.subs {
			out = m.after(s, out)
		}
	case alternates:
		for _, s := range n.subs {
			out = append(out, m.ends(s, at)...)
		}
	case repetition:
		places := []int{at}
		seen := map[int]bool{}
		for i := 0; len(places) > 0 && (n.max < 0 || i <= n.max); i++ {
			if i >= n.min {
				if places = slices.DeleteFunc(places, func(p int) bool { return n.max < 0 && seen[p] }); n.max < 0 {
					for _, p := range places {
						seen[p] = true
					}
				}
				out = append(out, places...)
			}
			places = m.after(n.subs[0], places)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	m.memo[key] = out
	return out
}

func (m *matcher) after(n *node, places []int) []int {
	var out []int
	for _, p := range places {
		out = append(out, m.ends(n, p)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// generator derives random texts.
type generator struct {
	g    *Grammar
	at   map[string]int
	rng  *rand.Rand
	cost map[*node]int // of the cheapest derivation
	fuel int           // when it is spent, what is cheapest is taken
}

func newGenerator(g *Grammar, rng *rand.Rand) *generator {
	r := &generator{g: g, at: index(g.rules), rng: rng, cost: map[*node]int{}}
	for changed := true; changed; {
		changed = false
		for _, rule := range g.rules {
			before := r.cost[rule.body]
			changed = r.price(rule.body) != before || changed
		}
	}
	return r
}

const dear = 1 << 20

func (r *generator) price(n *node) int {
	cost := 0
	switch n.kind {
	case literal, class:
		cost = 1
	case reference:
		cost = dear
		if c, ok := r.cost[r.g.rules[r.at[n.text]].body]; ok {
			cost = min(dear, c+1)
		}
	case sequence:
		for _, s := range n.subs {
			cost = min(dear, cost+r.price(s))
		}
	case alternates:
		cost = dear
		for _, s := range n.subs {
			cost = min(cost, r.price(s))
		}
	case repetition:
		cost = min(dear, r.price(n.subs[0])*n.min)
	}
	r.cost[n] = cost
	return cost
}

func (r *generator) text(fuel int) string {
	r.fuel = fuel
	var b strings.Builder
	r.write(&b, r.g.rules[0].body)
	return b.String()
}

func (r *generator) write(b *strings.Builder, n *node) {
	r.fuel--
	switch n.kind {
	case literal:
		b.WriteString(n.text)
	case class:
		s := n.ranges[r.rng.IntN(len(n.ranges))]
		switch r.rng.IntN(4) { // often an end
		case 0:
			b.WriteRune(s.low)
		case 1:
			b.WriteRune(s.high)
		default:
			b.WriteRune(s.low + r.rng.Int32N(min(0x60, s.high-s.low)+1))
		}
	case reference:
		r.write(b, r.g.rules[r.at[n.text]].body)
	case sequence:
		for _, s := range n.subs {
			r.write(b, s)
		}
	case alternates:
		pick := n.subs[r.rng.IntN(len(n.subs))]
		if r.fuel < 0 || r.cost[pick] > 5000 {
			for _, s := range n.subs {
				if r.cost[s] < r.cost[pick] {
					pick = s
				}
			}
		}
		r.write(b, pick)
	case repetition:
		times := n.min
		if more := n.max - n.min; r.fuel > 0 && more != 0 {
			if more < 0 || more > 4 && r.rng.IntN(8) > 0 || more*r.cost[n.subs[0]] > 5000 {
				more = 4
			}
			times += r.rng.IntN(more + 1)
		}
		for range times {
			r.write(b, n.subs[0])
		}
	}
}

func many(n int, f func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(f(i))
	}
	return b.String()
}
