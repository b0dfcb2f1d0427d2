package grammar

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// llama does with a grammar in normal form what llama.cpp does (src/llama-grammar.cpp):
// it lays out the same rules, checks for left recursion in the same incomplete way, and
// follows a text with stacks; counting what it takes.
type llama struct {
	src   string
	at    int
	ids   map[string]int
	rules [][]element

	depth, deepest int
	calls          int
}

type element struct {
	kind elementKind
	ref  int
	set  ranges // of a character, which llama.cpp has as several elements
	size int
}

type elementKind int

const (
	endOfRule elementKind = iota
	alternative
	ruleRef
	character
)

var errLlama = errors.New("llama.cpp refuses it")

func newLlama(gbnf string) (l *llama, err error) {
	l = &llama{src: gbnf, ids: map[string]int{}}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errLlama, r)
		}
	}()
	for l.at < len(l.src) {
		name := l.word()
		l.expect(" ::= ")
		l.add(l.id(name), l.alternates())
		l.expect("\n")
	}
	for i, r := range l.rules {
		if r == nil {
			panic(fmt.Sprint("undefined rule ", i))
		}
	}
	open, empty := make([]bool, len(l.rules)), make([]bool, len(l.rules))
	for i := range l.rules {
		l.leftRecursion(i, open, empty)
	}
	return l, nil
}

func (l *llama) expect(s string) {
	if !strings.HasPrefix(l.src[l.at:], s) {
		panic(fmt.Sprintf("%q expected at %d", s, l.at))
	}
	l.at += len(s)
}

func (l *llama) peek() byte {
	if l.at == len(l.src) {
		return 0
	}
	return l.src[l.at]
}

func (l *llama) word() string {
	from := l.at
	for isWord(l.peek()) && l.peek() != '_' {
		l.at++
	}
	return l.src[from:l.at]
}

func (l *llama) id(name string) int {
	if _, ok := l.ids[name]; !ok {
		l.ids[name] = len(l.ids)
	}
	return l.ids[name]
}

func (l *llama) newID() int { return l.id("_" + strconv.Itoa(len(l.ids))) }

func (l *llama) add(id int, r []element) {
	for len(l.rules) <= id {
		l.rules = append(l.rules, nil)
	}
	l.rules[id] = r
}

func (l *llama) alternates() []element {
	out := l.sequence()
	for strings.HasPrefix(l.src[l.at:], "| ") {
		l.at += 2
		out = append(append(out, element{kind: alternative, size: 1}), l.sequence()...)
	}
	return append(out, element{kind: endOfRule, size: 1})
}

func (l *llama) sequence() []element {
	var out []element
	last := 0
	for {
		switch c := l.peek(); {
		case c == '"':
			last = len(out)
			l.at++
			for l.peek() != '"' {
				r := l.char()
				out = append(out, element{kind: character, set: ranges{{r, r}}, size: 1})
			}
			l.at++
		case c == '[':
			last = len(out)
			l.at++
			e := element{kind: character}
			for l.peek() != ']' {
				s := span{low: l.char()}
				s.high = s.low
				e.size++
				if l.peek() == '-' {
					l.at++
					s.high = l.char()
					e.size++
				}
				e.set = append(e.set, s)
			}
			l.at++
			out = append(out, e)
		case isWord(c):
			last = len(out)
			out = append(out, element{kind: ruleRef, ref: l.id(l.word()), size: 1})
		case c == '(':
			l.at++
			id := l.newID()
			l.add(id, l.alternates())
			l.expect(")")
			last = len(out)
			out = append(out, element{kind: ruleRef, ref: id, size: 1})
		case c == '*':
			l.at++
			out = l.repeat(out, last, 0, -1)
		case c == '+':
			l.at++
			out = l.repeat(out, last, 1, -1)
		case c == '?':
			l.at++
			out = l.repeat(out, last, 0, 1)
		case c == '{':
			l.at++
			low := l.number()
			high := low
			if l.peek() == ',' {
				l.at++
				if high = -1; l.peek() != '}' {
					high = l.number()
				}
			}
			l.expect("}")
			if low > 2000 || high > 2000 {
				panic("too many repetitions")
			}
			out = l.repeat(out, last, low, high)
		case c == ' ':
			l.at++
		default:
			return out
		}
	}
}

func (l *llama) number() int {
	from := l.at
	for c := l.peek(); '0' <= c && c <= '9'; c = l.peek() {
		l.at++
	}
	n, err := strconv.Atoi(l.src[from:l.at])
	if err != nil {
		panic(err)
	}
	return n
}

func (l *llama) char() rune {
	if l.peek() != '\\' {
		c, size := utf8.DecodeRuneInString(l.src[l.at:])
		if size == 0 {
			panic("unexpected end")
		}
		l.at += size
		return c
	}
	c := l.src[l.at+1]
	l.at += 2
	if i := strings.IndexByte(`tnr\"[]`, c); i >= 0 {
		return rune("\t\n\r\\\"[]"[i])
	}
	n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	v, err := strconv.ParseUint(l.src[l.at:l.at+n], 16, 32)
	if err != nil {
		panic(err)
	}
	l.at += n
	return rune(v)
}

func (l *llama) repeat(out []element, last, low, high int) []element {
	if last == len(out) {
		panic("nothing to repeat")
	}
	prev := slices.Clone(out[last:])
	if low == 0 {
		out = out[:last]
	}
	for i := 1; i < low; i++ {
		out = append(out, prev...)
	}
	more := high - low
	if high < 0 {
		more = 1
	}
	rec := -1
	for i := range more {
		id := l.newID()
		rule := slices.Clone(prev)
		if high < 0 {
			rule = append(rule, element{kind: ruleRef, ref: id, size: 1})
		} else if i > 0 {
			rule = append(rule, element{kind: ruleRef, ref: rec, size: 1})
		} else {
			rule = append(rule, element{kind: alternative, size: 0}) // counted below, to keep the sizes equal
			rule = rule[:len(rule)-1]
		}
		l.add(id, append(rule, element{kind: alternative, size: 1}, element{kind: endOfRule, size: 1}))
		rec = id
	}
	if more > 0 {
		out = append(out, element{kind: ruleRef, ref: rec, size: 1})
	}
	return out
}

func (l *llama) elements() int {
	n := 0
	for _, r := range l.rules {
		for _, e := range r {
			n += e.size
		}
	}
	return n
}

func (l *llama) leftRecursion(i int, open, empty []bool) {
	if open[i] {
		panic("left recursion")
	}
	if l.calls++; l.calls > 1<<22 {
		panic("the check for left recursion takes too long")
	}
	l.enter()
	defer l.leave()
	open[i] = true
	start := true
	for _, e := range l.rules[i] {
		if e.kind <= alternative {
			if start {
				empty[i] = true
				break
			}
			start = true
		} else {
			start = false
		}
	}
	first := true
	for _, e := range l.rules[i] {
		switch {
		case e.kind == ruleRef && first:
			l.leftRecursion(e.ref, open, empty)
			first = empty[e.ref]
		default:
			first = e.kind <= alternative
		}
	}
	open[i] = false
}

func (l *llama) enter() { l.depth++; l.deepest = max(l.deepest, l.depth) }
func (l *llama) leave() { l.depth-- }

// place is where a stack is: an element of a rule.
type stackPlace struct{ rule, at int }

type stack []stackPlace

// follow tells whether a text is complete by the grammar.
func (l *llama) follow(s string) bool {
	l.calls = 0
	var stacks []stack
	l.eachAlternate(l.ids[root], nil, &stacks)
	for _, c := range s {
		var next []stack
		for _, st := range stacks {
			if len(st) == 0 {
				continue
			}
			top := st[len(st)-1]
			if l.rules[top.rule][top.at].set.has(c) {
				l.advance(l.push(st[:len(st)-1], top.rule, top.at+1), &next)
			}
		}
		stacks = next
	}
	return slices.ContainsFunc(stacks, func(s stack) bool { return len(s) == 0 })
}

func (l *llama) push(s stack, rule, at int) stack {
	s = slices.Clone(s)
	if l.rules[rule][at].kind > alternative {
		s = append(s, stackPlace{rule, at})
	}
	return s
}

func (l *llama) eachAlternate(rule int, below stack, out *[]stack) {
	for i, e := range l.rules[rule] {
		if i == 0 || l.rules[rule][i-1].kind == alternative {
			l.advance(l.push(below, rule, i), out)
		}
		if e.kind == endOfRule {
			break
		}
	}
}

func (l *llama) advance(s stack, out *[]stack) {
	l.enter()
	defer l.leave()
	if l.calls++; l.calls > 1<<20 {
		return // llama.cpp is stopped by time
	}
	if len(s) > 0 {
		top := s[len(s)-1]
		if e := l.rules[top.rule][top.at]; e.kind == ruleRef {
			l.eachAlternate(e.ref, l.push(s[:len(s)-1], top.rule, top.at+1), out)
			return
		}
	}
	if !slices.ContainsFunc(*out, func(o stack) bool { return slices.Equal(o, s) }) {
		*out = append(*out, s)
	}
}

// checkLlama lays a grammar out as llama.cpp does, and compares what was foreseen.
func checkLlama(t testing.TB, g *Grammar) *llama {
	t.Helper()
	l, err := newLlama(g.String())
	if err != nil {
		t.Fatalf("%.2000s\n%v", g, err)
	}
	foreseen := 0
	for _, r := range g.rules {
		foreseen += r.body.here + r.body.apart
		if r.body.kind != alternates {
			foreseen++
		}
	}
	if is := l.elements(); is > foreseen || is > MaxElements {
		t.Fatalf("%.2000s\nhas %d elements, not %d", g, is, foreseen)
	}
	if l.deepest > MaxChain+8 {
		t.Fatalf("%.2000s\nthe check for left recursion is %d deep", g, l.deepest)
	}
	return l
}

// What llama.cpp makes of normalised grammars matches the same texts, and takes what was
// foreseen.
func TestLlama(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, gbnf := range []string{
		`root ::= "a" | "b" | ""`,
		"root ::= (ws item)*\nws ::= [ \\t\\n]*\nitem ::= \"x\" | \"(\" root \")\"",
		"root ::= item (ws* item)*\nws ::= [ ]*\nitem ::= [a-c]+",
		"root ::= b*  \nb ::= c\nc ::= \"\" | \"x\"",
		`root ::= ("a"? "b"? | "c"*){2,4} "d"`,
		`root ::= ("a"{2,3}){2} ("b"{0,2} "c"?)+ [^a-c]`,
		"root ::= expr\nexpr ::= term ([-+*/] term)*\nterm ::= [0-9]+ | \"(\" expr \")\"",
		"root ::= \"if\" root (\"else\" root)? | \"x\"",
		JSONObject(),
	} {
		g := parse(t, gbnf)
		l := checkLlama(t, g)
		r := newGenerator(g, rng)
		for range 100 {
			text := r.text(20)
			if !g.matches(text) || !l.follow(text) {
				t.Fatalf("%s\ndoes not match %q (%v, llama.cpp %v)", g, text, g.matches(text), l.follow(text))
			}
			near := spoilt(rng, text)
			if g.matches(near) != l.follow(near) {
				t.Fatalf("%s\n%q: %v, llama.cpp %v", g, near, g.matches(near), l.follow(near))
			}
		}
		if l.deepest > MaxChain {
			t.Errorf("%s\nis followed %d calls deep", g, l.deepest)
		}
	}
}

// spoilt is a text with a character replaced, added or removed.
func spoilt(rng *rand.Rand, s string) string {
	c := []rune(s)
	other := []rune("abcx1-. é\n\"{\\")
	at := rng.IntN(len(c) + 1)
	switch {
	case rng.IntN(3) == 0 || at == len(c):
		c = slices.Insert(c, at, other[rng.IntN(len(other))])
	case rng.IntN(2) == 0:
		c = slices.Delete(c, at, at+1)
	default:
		c[at] = other[rng.IntN(len(other))]
	}
	return string(c)
}
