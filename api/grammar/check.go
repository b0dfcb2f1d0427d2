package grammar

// check brings the rules into a form that llama.cpp follows without looping, or says
// why it can't.
func (g *Grammar) check() error {
	elements := 0
	for i := range g.rules {
		elements += count(g.rules[i].body, 0)
		if elements > MaxElements {
			return failf("more than %d elements, repetitions written out", MaxElements)
		}
	}
	c := &checker{g: g, full: map[reference]reference{}}
	c.nullable = c.fixpoint(canBeEmpty)
	for i := 0; i < len(g.rules); i++ { // there come to be more
		body, err := c.unrolled(g.rules[i].body)
		if err != nil {
			return failf("rule %.60q repeats without end what may be empty", g.rules[i].name)
		}
		g.rules[i].body = body
	}
	if len(g.rules) > MaxRules {
		return failf("more than %d rules", MaxRules)
	}
	if !c.fixpoint(canEnd)[0] {
		return failf("%w", errEndless)
	}
	if i, ok := c.leftRecursive(); ok {
		return failf("rule %.60q begins with itself: %w", g.rules[i].name, errLeftRecursion)
	}
	ways := make([]int, len(g.rules))
	for i := range g.rules {
		if c.ways(i, ways) > MaxWays {
			return failf("rule %.60q can begin in more than %d ways", g.rules[i].name, MaxWays)
		}
	}
	return nil
}

// ways is in how many ways a rule can begin, counting those of the rules that it can
// begin with each time; llama.cpp walks them all. known holds those counted before.
func (c *checker) ways(rule int, known []int) int {
	if known[rule] == 0 {
		sum := 1
		for _, first := range c.first(c.g.rules[rule].body, nil) {
			sum = min(MaxWays+1, sum+c.ways(first, known))
		}
		known[rule] = sum
	}
	return known[rule]
}

// count is how many elements llama.cpp makes of a node, at most. It writes repetitions
// out, but what stands in parentheses becomes a rule first, so they do not multiply.
func count(n node, depth int) int {
	switch n := n.(type) {
	case alternatives:
		sum := len(n) + 2
		for _, a := range n {
			sum = min(2*MaxElements, sum+count(a, depth+1))
		}
		return sum
	case sequence:
		sum := 2
		for _, part := range n {
			sum = min(2*MaxElements, sum+count(part, depth+1))
		}
		return sum
	case literal:
		return len(n)
	case class:
		return 2 * len(n.ranges)
	case repetition:
		once := count(n.of, depth+1)
		repeated := once
		switch n.of.(type) {
		case alternatives, sequence, repetition:
			repeated = 1
		}
		return min(2*MaxElements, once+max(n.min, n.max, 1)*(repeated+4))
	}
	return 1
}

type checker struct {
	g        *Grammar
	nullable []bool
	full     map[reference]reference // rules without the empty text
}

// fixpoint is which rules have a property that a node has if holds says so, given the
// rules that are known to have it.
func (c *checker) fixpoint(holds func(n node, of []bool) bool) []bool {
	of := make([]bool, len(c.g.rules))
	for last, changed := len(of)-1, true; changed; {
		changed = false
		for _, backward := range []bool{true, false} { // what a rule refers to mostly stands behind it
			for i := range of {
				if backward {
					i = last - i
				}
				if !of[i] && holds(c.g.rules[i].body, of) {
					of[i], changed = true, true
				}
			}
		}
	}
	return of
}

func canBeEmpty(n node, of []bool) bool {
	switch n := n.(type) {
	case alternatives:
		return some(n, func(a node) bool { return canBeEmpty(a, of) })
	case sequence:
		return !some(n, func(part node) bool { return !canBeEmpty(part, of) })
	case reference:
		return of[n]
	case repetition:
		return n.min == 0 || canBeEmpty(n.of, of)
	}
	return false
}

func canEnd(n node, of []bool) bool {
	switch n := n.(type) {
	case alternatives:
		return some(n, func(a node) bool { return canEnd(a, of) })
	case sequence:
		return !some(n, func(part node) bool { return !canEnd(part, of) })
	case reference:
		return of[n]
	case repetition:
		return n.min == 0 || canEnd(n.of, of)
	}
	return true
}

func some(list []node, f func(node) bool) bool {
	for _, n := range list {
		if f(n) {
			return true
		}
	}
	return false
}

// unrolled rewrites endless repetitions of what may be empty, which llama.cpp would
// repeat without reading anything.
func (c *checker) unrolled(n node) (node, error) {
	var err error
	each := func(list []node) []node {
		out := make([]node, len(list))
		for i, part := range list {
			var e error
			if out[i], e = c.unrolled(part); e != nil {
				err = e
			}
		}
		return out
	}
	switch n := n.(type) {
	case alternatives:
		return alternatives(each(n)), err
	case sequence:
		return sequence(each(n)), err
	case repetition:
		of, err := c.unrolled(n.of)
		if err != nil {
			return nil, err
		}
		if n.max < 0 && canBeEmpty(of, c.nullable) {
			full, ok := c.notEmpty(of)
			if !ok {
				return nil, failf("repeats what may be empty")
			}
			return repetition{full, 0, -1}, nil
		}
		return repetition{of, n.min, n.max}, nil
	}
	return n, nil
}

// notEmpty is a node without the empty text, where that is simple to say.
func (c *checker) notEmpty(n node) (node, bool) {
	if !canBeEmpty(n, c.nullable) {
		return n, true
	}
	switch n := n.(type) {
	case reference:
		if full, ok := c.full[n]; ok { // once for each rule, however many refer to it
			return full, true
		}
		full := reference(len(c.g.rules))
		c.full[n] = full
		c.g.rules = append(c.g.rules, rule{name: c.g.rules[n].name})
		c.nullable = append(c.nullable, false)
		body, ok := c.notEmpty(c.g.rules[n].body)
		c.g.rules[full].body = body
		return full, ok
	case alternatives:
		var out alternatives
		for _, a := range n {
			if s, ok := a.(sequence); ok && len(s) == 0 {
				continue
			}
			full, ok := c.notEmpty(a)
			if !ok {
				return nil, false
			}
			out = append(out, full)
		}
		return out, len(out) > 0
	case repetition:
		of, ok := c.notEmpty(n.of)
		return repetition{of, 1, n.max}, ok && n.max != 0
	}
	return nil, false
}

// leftRecursive finds a rule that can begin with itself.
func (c *checker) leftRecursive() (int, bool) {
	const (
		unseen = iota
		open
		done
	)
	state := make([]int, len(c.g.rules))
	// A walk with its own stack: chains of rules are longer than groups are deep.
	type frame struct {
		rule int
		next []int
	}
	for i := range c.g.rules {
		if state[i] != unseen {
			continue
		}
		state[i] = open
		stack := []frame{{i, c.first(c.g.rules[i].body, nil)}}
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if len(top.next) == 0 {
				state[top.rule] = done
				stack = stack[:len(stack)-1]
				continue
			}
			next := top.next[0]
			top.next = top.next[1:]
			switch state[next] {
			case open:
				return next, true
			case unseen:
				state[next] = open
				stack = append(stack, frame{next, c.first(c.g.rules[next].body, nil)})
			}
		}
	}
	return 0, false
}

// first appends the rules that a node can begin with.
func (c *checker) first(n node, rules []int) []int {
	switch n := n.(type) {
	case alternatives:
		for _, a := range n {
			rules = c.first(a, rules)
		}
	case sequence:
		for _, part := range n {
			rules = c.first(part, rules)
			if !canBeEmpty(part, c.nullable) {
				break
			}
		}
	case reference:
		rules = append(rules, int(n))
	case repetition:
		rules = c.first(n.of, rules)
	}
	return rules
}
