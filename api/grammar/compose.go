package grammar

import (
	"cmp"
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
	if len(index(rules)) < len(rules) {
		return "", errorf("the parts define a rule twice")
	}
	g, err := normal(shared(rules))
	if err != nil {
		return "", err
	}
	if s := g.String(); len(s) <= MaxSize {
		return s, nil
	}
	return "", errorf("the grammar becomes larger than the limit of %d bytes", MaxSize)
}

// shared leaves one of equal rules, as far as they do not refer to themselves: parts have
// much in common.
func shared(rules []rule) []rule {
	for {
		first := map[uint64]string{}   // by the sum of the body
		another := map[string]string{} // names of rules that are left out
		kept := rules[:0:0]
		for _, r := range rules {
			if name, ok := first[r.body.sum]; ok && r.name != root {
				another[r.name] = name
				continue
			}
			first[r.body.sum] = r.name
			kept = append(kept, r)
		}
		if len(another) == 0 {
			return rules
		}
		for i := range kept {
			kept[i].body = kept[i].body.renamed(func(name string) string { return cmp.Or(another[name], name) })
		}
		rules = kept
	}
}

// renamed is the node with references to other names.
func (n *node) renamed(name func(string) string) *node {
	return n.mapped(func(r *node) *node { return ref(name(r.text)) })
}
