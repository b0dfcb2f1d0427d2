package grammar

import "slices"

// check holds a grammar in normal form against the limits.
func (g *Grammar) check() *Error {
	if len(g.rules) > MaxRules {
		return errorf("more than %d rules", MaxRules)
	}
	if err := countElements(g.rules); err != nil {
		return err
	}
	for _, r := range g.rules {
		if r.body.nest > MaxDepth {
			return errorf("groups are nested more than %d deep in rule %s", MaxDepth, brief(r.name))
		}
	}
	if size := len(g.String()); size > MaxSize {
		return errorf("the grammar has %d bytes in normal form; the limit is %d", size, MaxSize)
	}
	m := measurer{at: index(g.rules), rules: g.rules, known: make([]entry, len(g.rules)), state: make([]int, len(g.rules))}
	scan := 0
	for i, r := range g.rules {
		e, err := m.rule(i)
		if err != nil {
			return err
		}
		if scan += e.scan; scan > maxScan {
			return errorf("rule %s can begin in too many ways", brief(r.name))
		}
	}
	for _, r := range g.rules {
		if err := m.inside(r); err != nil {
			return err
		}
	}
	return nil
}

func countElements(rules []rule) *Error {
	elements := 0
	for _, r := range rules {
		if elements += r.body.here + r.body.apart + 1; elements > MaxElements {
			return errorf("the grammar has more than %d elements, repetitions written out", MaxElements)
		}
	}
	return nil
}

// entry is what it takes llama.cpp to go on from a place to all characters that can come
// next, and past the place where it may be empty.
type entry struct {
	scan   int // elements that the check for left recursion looks at
	steps  int // calls, each copying a stack
	chain  int // depth of the calls
	passes int // in how many ways it can be empty
	passed int // depth of the calls when it was
}

// limit keeps sums and products from overflowing.
func limit(n int) int { return min(n, 1<<30) }

// before is the entry of a sequence.
func (e entry) before(next entry) entry {
	if e.passes == 0 {
		return e
	}
	return entry{
		scan:   limit(e.scan + next.scan),
		steps:  limit(e.steps + e.passes*next.steps),
		chain:  limit(max(e.chain, e.passed+next.chain)),
		passes: limit(e.passes * next.passes),
		passed: limit(e.passed + next.passed),
	}
}

// or is the entry of alternates.
func (e entry) or(other entry) entry {
	return entry{limit(e.scan + other.scan), limit(e.steps + other.steps), max(e.chain, other.chain), limit(e.passes + other.passes), max(e.passed, other.passed)}
}

// byRule is the entry of a reference to a rule.
func (e entry) byRule(elements int) entry {
	e.scan, e.steps, e.chain = limit(e.scan+elements), limit(e.steps+1), limit(e.chain+1)
	if e.passes > 0 {
		e.passed = limit(e.passed + 1)
	}
	return e
}

type measurer struct {
	rules []rule
	at    map[string]int
	known []entry
	state []int // of each rule: not yet, being or completely measured
}

const (
	unmeasured = iota
	measuring
	measured
)

// rule is the entry of a rule. One that is left-recursive is found here, as whatever a
// node begins with is measured, and nothing else.
func (m *measurer) rule(i int) (entry, *Error) {
	r := m.rules[i]
	switch m.state[i] {
	case measured:
		return m.known[i], nil
	case measuring:
		err := errorf("rule %s is left-recursive: it begins with itself", brief(r.name))
		err.leftRecursive = r.name
		return entry{}, err
	}
	m.state[i] = measuring
	e, err := m.node(r.body)
	if err != nil {
		return e, err
	}
	e = e.byRule(r.body.here + 1)
	m.state[i], m.known[i] = measured, e
	return e, tooFar(r.name, e)
}

func tooFar(rule string, e entry) *Error {
	switch {
	case e.chain > MaxChain:
		return errorf("in rule %s, more than %d rules follow one another without a character being read", brief(rule), MaxChain)
	case e.steps > MaxWays || e.passes > MaxWays:
		return errorf("rule %s can begin in more than %d ways", brief(rule), MaxWays)
	}
	return nil
}

// node is the entry of a node that stands in a rule.
func (m *measurer) node(n *node) (e entry, err *Error) {
	switch n.kind {
	case literal, class:
		if n.isEmpty() {
			return entry{passes: 1}, nil
		}
		return entry{steps: 1, chain: 1}, nil
	case reference:
		return m.rule(m.at[n.text])
	case sequence:
		e = entry{passes: 1}
		for i := 0; i < len(n.subs) && e.passes > 0; i++ {
			part, err := m.part(n.subs[i])
			if err != nil {
				return e, err
			}
			e = e.before(part)
		}
		return e, nil
	case alternates:
		for _, s := range n.subs {
			other, err := m.node(s)
			if err != nil {
				return e, err
			}
			e = e.or(other)
		}
		return e, nil
	}
	e, err = m.part(n.subs[0])
	if n.min == 0 {
		e = e.or(entry{passes: 1}).byRule(n.subs[0].here + 3)
	}
	return e, err
}

// part is the entry of a node with parentheses around it, if it needs some.
func (m *measurer) part(n *node) (entry, *Error) {
	e, err := m.node(n)
	if n.kind == alternates || n.kind == sequence {
		e = e.byRule(n.here + 1)
	}
	return e, err
}

// inside looks at all other places that llama.cpp goes on from: within sequences.
func (m *measurer) inside(r rule) (err *Error) {
	var visit func(*node)
	visit = func(n *node) {
		if n.kind == sequence {
			rest := entry{passes: 1}
			for _, s := range slices.Backward(n.subs) {
				part, e := m.part(s)
				if rest = part.before(rest); e == nil {
					e = tooFar(r.name, rest)
				}
				if e != nil && err == nil {
					err = e
				}
			}
		}
		for _, s := range n.subs {
			visit(s)
		}
	}
	visit(r.body)
	return err
}
