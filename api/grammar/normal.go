package grammar

import "fmt"

// normal brings rules into the form that is written, which means the same, and checks
// it. What no answer can use is taken out, for llama.cpp would walk it all the same:
// alternatives that never end, references that stand for nothing but the empty text,
// rules that nothing refers to. Then repetitions of what may be empty are rewritten.
func normal(rules []rule) (*Grammar, *Error) {
	at := index(rules)
	if _, ok := at[root]; !ok {
		return nil, errorf("there is no rule %q", root)
	}
	var undefined *Error
	for _, r := range rules {
		r.body.references(func(name string) {
			if _, ok := at[name]; !ok && undefined == nil {
				undefined = errorf("rule %s is not defined", brief(name))
			}
		})
	}
	if undefined != nil {
		return nil, undefined
	}
	if err := countElements(rules); err != nil { // before anything is made of them
		return nil, err
	}

	ends := solve(rules, canEnd)
	if !ends[rules[at[root]].body] {
		return nil, errNoAnswer
	}
	rules = replaced(rules, func(n *node) *node {
		if !ends[rules[at[n.text]].body] {
			return never
		}
		return n
	})
	filled := solve(rules, canHoldText)
	rules = replaced(rules, func(n *node) *node {
		if !filled[rules[at[n.text]].body] {
			return empty
		}
		return n
	})
	rules, err := unrepeated(reachable(rules))
	if err != nil {
		return nil, err
	}
	g := &Grammar{reachable(rules)}
	if err := g.check(); err != nil {
		return nil, err
	}
	return g, nil
}

var errNoAnswer = errorf("no answer is possible: rule %q can't be completed", root)

func replaced(rules []rule, f func(*node) *node) []rule {
	out := make([]rule, len(rules))
	for i, r := range rules {
		out[i] = rule{r.name, r.body.mapped(f)}
	}
	return out
}

// reachable are the rules that root needs, root first.
func reachable(rules []rule) []rule {
	at := index(rules)
	needed := map[string]bool{root: true}
	for queue := []string{root}; len(queue) > 0; queue = queue[1:] {
		rules[at[queue[0]]].body.references(func(name string) {
			if !needed[name] {
				needed[name] = true
				queue = append(queue, name)
			}
		})
	}
	out := []rule{rules[at[root]]}
	for _, r := range rules {
		if needed[r.name] && r.name != root {
			out = append(out, r)
		}
	}
	return out
}

// trait is something that a node has by way of its parts: a leaf by itself, a
// sequence if all or any of its parts have it, alternates if any has.
type trait struct {
	leaf func(*node) bool
	all  bool // of a sequence; then a repetition from 0 on has it in any case
}

var (
	canEnd      = trait{func(*node) bool { return true }, true}
	canBeEmpty  = trait{(*node).isEmpty, true}
	canHoldText = trait{func(n *node) bool { return !n.isEmpty() }, false}
)

// solve finds the nodes that have a trait, in time linear in the size of the rules:
// what is found to have it tells the nodes that it is a part of.
func solve(rules []rule, p trait) map[*node]bool {
	at := index(rules)
	missing := map[*node]int{} // parts that a node waits for
	within := map[*node][]*node{}
	var found []*node
	var visit func(*node)
	visit = func(n *node) {
		if _, ok := missing[n]; ok {
			return
		}
		missing[n] = 1
		parts := n.subs
		switch n.kind {
		case literal, class:
			if p.leaf(n) {
				found = append(found, n)
			}
		case reference:
			parts = []*node{rules[at[n.text]].body} // visited as a rule
		case sequence:
			if p.all {
				missing[n] = len(parts)
			}
		case repetition:
			if p.all && n.min == 0 {
				found = append(found, n)
			}
		}
		for _, s := range parts {
			within[s] = append(within[s], n)
			if n.kind != reference {
				visit(s)
			}
		}
	}
	for _, r := range rules {
		visit(r.body)
	}
	has := map[*node]bool{}
	for len(found) > 0 {
		n := found[len(found)-1]
		found = found[:len(found)-1]
		if has[n] {
			continue
		}
		has[n] = true
		for _, w := range within[n] {
			if missing[w]--; missing[w] == 0 {
				found = append(found, w)
			}
		}
	}
	return has
}

// unrepeated rewrites repetitions of what may be empty, which llama.cpp would repeat
// for ever, or as often as it can without reading anything: x{m,n} is y{0,n}, where y is
// x without the empty text.
func unrepeated(rules []rule) ([]rule, *Error) {
	r := rewriter{rules: rules, at: index(rules), nullable: solve(rules, canBeEmpty), full: map[string]string{}, budget: 4 * MaxElements}
	var out []rule
	for _, of := range rules {
		out = append(out, rule{of.name, r.rewritten(of.body)})
	}
	for ; len(r.queue) > 0; r.queue = r.queue[1:] {
		of := r.queue[0]
		out = append(out, rule{r.full[of], r.withoutEmpty(rules[r.at[of]].body)})
	}
	if r.budget < 0 {
		return nil, errorf("repetitions of what may be empty become more than %d elements once they are rewritten", MaxElements)
	}
	return out, nil
}

type rewriter struct {
	rules    []rule
	at       map[string]int
	nullable map[*node]bool
	full     map[string]string // names of the rules without the empty text, by the rule
	queue    []string          // rules without which are still to be made
	budget   int               // of nodes
}

func (r *rewriter) rewritten(n *node) *node {
	if r.budget--; r.budget < 0 {
		return n
	}
	switch n.kind {
	case sequence:
		return seq(r.all(n.subs)...)
	case alternates:
		return either(r.all(n.subs)...)
	case repetition:
		if r.nullable[n.subs[0]] {
			return repeat(r.withoutEmpty(n.subs[0]), 0, n.max)
		}
		return repeat(r.rewritten(n.subs[0]), n.min, n.max)
	}
	return n
}

func (r *rewriter) all(nodes []*node) []*node {
	out := make([]*node, len(nodes))
	for i, n := range nodes {
		out[i] = r.rewritten(n)
	}
	return out
}

// withoutEmpty is a node, rewritten, without the empty text.
func (r *rewriter) withoutEmpty(n *node) *node {
	if !r.nullable[n] {
		return r.rewritten(n)
	}
	if r.budget--; r.budget < 0 {
		return never
	}
	switch n.kind {
	case reference:
		name, ok := r.full[n.text]
		if !ok {
			name = r.name(n.text)
			r.full[n.text] = name
			r.queue = append(r.queue, n.text)
		}
		return ref(name)
	case alternates:
		var out []*node
		for _, s := range n.subs {
			out = append(out, r.withoutEmpty(s))
		}
		return either(out...)
	case sequence: // the first part that is not empty is any of them
		var out []*node
		for i, s := range n.subs {
			out = append(out, seq(append([]*node{r.withoutEmpty(s)}, r.all(n.subs[i+1:])...)...))
		}
		return either(out...)
	case repetition:
		return repeat(r.withoutEmpty(n.subs[0]), 1, n.max)
	}
	return never
}

// name is a new one for a rule without the empty text.
func (r *rewriter) name(of string) string {
	stem := of[:min(len(of), MaxName-20)] + "-nonempty"
	for name, i := stem, 2; ; name, i = fmt.Sprintf("%s-%d", stem, i), i+1 {
		if _, taken := r.at[name]; !taken {
			r.at[name] = -1
			return name
		}
	}
}
