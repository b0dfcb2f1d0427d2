package grammar

// object is an object. Its members come in order, so what can follow depends only on how
// far it is.
func (c *converter) object(s *schema, name string) (*node, *Error) {
	properties, required := c.declared(s)
	extra := s.additional
	if len(properties) == 0 {
		if extra == nil {
			return c.b.object(), nil
		}
		value, err := c.node(extra, "value")
		if err != nil {
			return nil, err
		}
		return c.b.define(name, c.b.objectOf(value)), nil
	}

	// From the last property on: members are what follows the brace or a comma, rest what
	// follows a member.
	members, rest, mayEnd := never, empty, true
	if extra != nil {
		value, err := c.node(extra, "value")
		if err != nil {
			return nil, err
		}
		if !value.isNever() {
			member := c.b.define("member", seq(c.otherName(properties), text(":"), c.b.space(), value))
			rest = repeat(seq(c.b.comma(), member), 0, -1)
			members = seq(member, rest)
		}
	}
	for i := len(properties) - 1; i >= 0; i-- {
		p := properties[i]
		value, err := c.node(p.value, p.name)
		if err != nil {
			return nil, err
		}
		member := seq(text(quote(p.name)+":"), c.b.space(), value, rest)
		if required[p.name] {
			members, mayEnd = member, false
		} else {
			members = either(member, members)
		}
		if i > 0 && !required[properties[i-1].name] { // they are what follows the one before, or stand for it
			members = c.b.define("members", members)
		}
		if rest = seq(c.b.comma(), members); mayEnd {
			rest = optional(rest)
		}
	}
	if mayEnd {
		members = optional(members)
	}
	return c.b.define(name, seq(text("{"), members, text("}"))), nil
}

// declared are the properties, with those that are only required, and which of them are
// required.
func (c *converter) declared(s *schema) ([]property, map[string]bool) {
	properties, required := s.properties, map[string]bool{}
	known := map[string]bool{}
	for _, p := range properties {
		known[p.name] = true
	}
	for _, name := range s.required {
		required[name] = true
		if !known[name] {
			known[name] = true
			properties = append(properties, property{name, s.additional})
		}
	}
	return properties, required
}

// otherName is the name of a member that is not declared, without escapes: there is more
// than one way to write them.
func (c *converter) otherName(properties []property) *node {
	var names trie
	for _, p := range properties {
		if quote(p.name) == `"`+p.name+`"` {
			names.add(p.name)
		}
	}
	any := repeat(c.b.define("plain", oneOf(plain)), 0, -1)
	if len(names.next) == 0 && !names.ends {
		return quoted(any)
	}
	return quoted(names.others(c.b, plain, any))
}

// array is an array: the elements of prefixItems, as many as there have to be, then
// those of items.
func (c *converter) array(s *schema, name string) (*node, *Error) {
	low, high := s.minItems, s.maxItems
	items := s.items
	if items == nil && (len(s.prefix) == 0 || low > len(s.prefix)) {
		items = schemas{} // anything
	}
	prefix := s.prefix[:min(len(s.prefix), high)]
	if items == nil {
		high = min(high, len(prefix))
	}
	if low > high {
		return never, nil
	}

	// What can follow the elements so far, from the last one of prefixItems on.
	rest := empty
	if high > len(prefix) {
		item, err := c.node(items, "item")
		if err != nil {
			return nil, err
		}
		item = c.b.define("item", item)
		least, most := max(low-len(prefix), 0), high-len(prefix)
		if high == endless {
			most = -1
		}
		if len(prefix) > 0 {
			rest = c.b.times(seq(c.b.comma(), item), least, most)
		} else {
			if most > 0 {
				most--
			}
			rest = seq(item, c.b.times(seq(c.b.comma(), item), max(least-1, 0), most))
			if least == 0 {
				rest = optional(rest)
			}
		}
	}
	for i := len(prefix) - 1; i >= 0; i-- {
		item, err := c.node(prefix[i], "item")
		if err != nil {
			return nil, err
		}
		if rest = seq(item, rest); i > 0 {
			rest = seq(c.b.comma(), rest)
		}
		if i >= low {
			rest = optional(rest)
		}
		if rest.nest >= tooNested {
			rest = c.b.define("items", rest)
		}
	}
	return c.b.define(name, seq(text("["), rest, text("]"))), nil
}
