package grammar

import (
	"maps"
	"slices"
)

// Compose puts grammars together: gbnf may refer to the roots of parts by their names.
// Errors are *Error.
func Compose(gbnf string, parts map[string]string) (string, error) {
	p := &parser{s: gbnf}
	rules, err := p.rules()
	if err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		p := &parser{s: parts[name]}
		of, err := p.rules()
		if err != nil {
			return "", err
		}
		rename := func(r string) string {
			if r == root {
				return name
			}
			return name + "-" + r
		}
		for _, r := range of {
			rules = append(rules, rule{rename(r.name), r.body.renamed(rename)})
		}
	}
	g, err := normal(rules)
	if err != nil {
		return "", err
	}
	if s := g.String(); len(s) <= MaxSize {
		return s, nil
	}
	return "", errorf("the grammar becomes larger than the limit of %d bytes", MaxSize)
}

// renamed is the node with references to other names.
func (n *node) renamed(name func(string) string) *node {
	switch n.kind {
	case reference:
		return ref(name(n.text))
	case sequence, alternates, repetition:
		subs := make([]*node, len(n.subs))
		for i, s := range n.subs {
			subs[i] = s.renamed(name)
		}
		switch n.kind {
		case sequence:
			return seq(subs...)
		case alternates:
			return either(subs...)
		}
		return repeat(subs[0], n.min, n.max)
	}
	return n
}
