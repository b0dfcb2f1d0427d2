package grammar

import "slices"

// merge makes one schema of several that have to be satisfied together, but for their
// anyOf. What can't be told in one schema is refused.
func (c *converter) merge(all []*schema) (*schema, *Error) {
	m := &schema{at: &place{name: "$"}, types: allTypes, maxItems: endless, maxLength: endless}
	if len(all) > 0 {
		m.at = all[0].at
	}
	index := map[string]int{} // of properties
	for _, s := range all {
		if err := c.spend(1 + len(s.properties) + len(s.required)); err != nil {
			return nil, err
		}
		m.types &= s.types
		m.typed = m.typed || s.typed
		m.about |= s.about
		if s.isEnum {
			m.setEnum(s.enum)
		}
		if err := c.mergeObject(m, s, index); err != nil {
			return nil, err
		}
		m.mergeArray(s)

		m.minLength, m.maxLength = max(m.minLength, s.minLength), min(m.maxLength, s.maxLength)
		if m.pattern != "" && s.pattern != "" && m.pattern != s.pattern {
			return nil, s.at.errorf("two patterns for one string are not supported")
		}
		if m.format != "" && s.format != "" && m.format != s.format {
			return nil, s.at.errorf("two formats for one string are not supported")
		}
		m.pattern, m.format = m.pattern+s.pattern, m.format+s.format
		m.low, m.high = higher(m.low, s.low), lower(m.high, s.high)
	}
	return m, nil
}

// mergeObject adds what a schema says about objects. A property that only one of them
// declares is an additional one to the other.
func (c *converter) mergeObject(m, s *schema, index map[string]int) *Error {
	declared := len(m.properties)
	both := map[int]bool{}
	for _, p := range s.properties {
		i, ok := index[p.name]
		if !ok {
			index[p.name] = len(m.properties)
			m.properties = append(m.properties, property{p.name, slices.Concat(p.value, m.additional)})
			continue
		}
		both[i] = true
		m.properties[i].value = slices.Concat(m.properties[i].value, p.value)
	}
	if s.additional != nil {
		if err := c.spend(declared * (1 + len(m.additional))); err != nil {
			return err
		}
		for i := range declared {
			if !both[i] {
				m.properties[i].value = slices.Concat(m.properties[i].value, s.additional)
			}
		}
		m.additional = slices.Concat(m.additional, s.additional)
	}
	m.required = append(m.required, s.required...)
	return nil
}

func (m *schema) mergeArray(s *schema) {
	prefix := make([]schemas, max(len(m.prefix), len(s.prefix)))
	for i := range prefix {
		prefix[i] = slices.Concat(m.element(i), s.element(i))
	}
	m.prefix = prefix
	m.items = slices.Concat(m.items, s.items)
	m.minItems, m.maxItems = max(m.minItems, s.minItems), min(m.maxItems, s.maxItems)
}

// element is what a schema says about an element.
func (s *schema) element(i int) schemas {
	if i < len(s.prefix) {
		return s.prefix[i]
	}
	return s.items
}

func common(a, b []*value) []*value {
	keys := map[string]bool{}
	for _, v := range a {
		keys[v.key()] = true
	}
	var out []*value
	for _, v := range b {
		if keys[v.key()] {
			out = append(out, v)
		}
	}
	return out
}

// higher is the stricter of two lower bounds; nil is none.
func higher(a, b *bound) *bound {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	if c := a.compare(b.decimal); c > 0 || c == 0 && a.exclusive {
		return a
	}
	return b
}

// lower is the stricter of two upper bounds.
func lower(a, b *bound) *bound {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	if c := a.compare(b.decimal); c < 0 || c == 0 && a.exclusive {
		return a
	}
	return b
}
