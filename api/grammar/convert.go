package grammar

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// FromSchema is a grammar of the JSON values that a JSON schema allows, or of some of
// them:
//   - Members come in the order in which they are declared. Where any are declared,
//     others come only if additionalProperties is given; elements behind prefixItems only
//     if items is.
//   - Keywords without a type mean values of the types that they are about.
//   - Numbers have up to 15 digits, and as many decimals, or as a limit has.
//   - Keywords that JSON schema does not know, and formats other than date, time,
//     date-time and uuid, say nothing.
//
// What a grammar can't follow is refused by name, so that no answer breaks the schema.
// Errors are *Error.
func FromSchema(raw []byte) (string, error) {
	whole, err := readValue(raw)
	if err != nil {
		return "", err
	}
	c := &converter{
		reader: reader{whole: whole, known: map[*value]*schema{}},
		b:      newBuilder(), rules: map[string]string{}, at: map[string]*place{}, budget: maxWork,
		patterns: map[string]*node{},
	}
	gbnf, err := c.convert()
	if err != nil {
		return "", err
	}
	return gbnf, nil
}

// maxWork bounds how far anyOf and allOf are multiplied.
const maxWork = 50_000

type converter struct {
	reader
	b      *builder
	rules  map[string]string // by the schemas that have to be satisfied
	at     map[string]*place // of rules
	queue  []job
	budget int

	patterns     map[string]*node
	patternBytes int
}

// job is a rule to be made.
type job struct {
	rule string
	of   []*schema
}

func (c *converter) spend(n int) *Error {
	if c.b.full() {
		return errTooManyRules
	}
	if c.budget -= n; c.budget < 0 {
		return errorf("the schema is too complex: its allOf and anyOf combine in too many ways")
	}
	return nil
}

func (c *converter) convert() (string, *Error) {
	s, err := c.read(c.whole, &place{name: "$"})
	if err != nil {
		return "", err
	}
	body, err := c.node(schemas{s}, "answer")
	if err != nil {
		return "", err
	}
	for ; len(c.queue) > 0 && !c.b.full(); c.queue = c.queue[1:] {
		j := c.queue[0]
		n, err := c.satisfying(j.of, j.rule)
		if err != nil {
			return "", err
		}
		c.b.set(j.rule, n)
	}
	gbnf, err := c.b.finish(body)
	switch {
	case err == errNoAnswer:
		return "", errorf("$: no value satisfies the schema, or none that ends")
	case err != nil && err.leftRecursive != "" && c.at[err.leftRecursive] != nil:
		return "", cyclic(c.at[err.leftRecursive])
	}
	return gbnf, err
}

func cyclic(at *place) *Error {
	return at.errorf("$ref leads back here, and nothing is in between that an answer could hold")
}

// node is a value that satisfies schemas, at a place of its own in the answer. What is
// referred to becomes a rule, once, and is converted later: it may refer to itself.
func (c *converter) node(all schemas, name string) (*node, *Error) {
	parts, referred, err := c.collect(all)
	if err != nil {
		return nil, err
	}
	if !referred || len(parts) == 0 {
		return c.satisfying(parts, name)
	}
	var key []byte
	for _, s := range parts {
		key = append(strconv.AppendInt(key, int64(s.id), 10), ' ')
	}
	rule, ok := c.rules[string(key)]
	if !ok {
		if c.b.full() {
			return never, nil
		}
		rule = c.b.declare(parts[len(parts)-1].at.name)
		c.rules[string(key)] = rule
		c.at[rule] = parts[len(parts)-1].at
		c.queue = append(c.queue, job{rule, parts})
	}
	return ref(rule), nil
}

// collect finds the schemas that are to be satisfied by way of $ref and allOf, and tells
// whether there was a $ref.
func (c *converter) collect(all schemas) (parts []*schema, referred bool, err *Error) {
	seen, open := map[*schema]bool{}, map[*schema]bool{}
	var add func(s *schema) *Error
	add = func(s *schema) *Error {
		switch {
		case open[s]:
			return cyclic(s.at)
		case seen[s]:
			return nil
		}
		if err := c.spend(1); err != nil {
			return err
		}
		seen[s], open[s] = true, true
		if s.ref != "" {
			target, err := c.resolve(s)
			if err == nil {
				err = add(target)
			}
			if err != nil {
				return err
			}
			referred = true
		}
		for _, p := range s.allOf {
			if err := add(p); err != nil {
				return err
			}
		}
		if s.asserts() {
			parts = append(parts, s)
		}
		delete(open, s)
		return nil
	}
	for _, s := range all {
		if err := add(s); err != nil {
			return nil, false, err
		}
	}
	return parts, referred, nil
}

// satisfying is a value that satisfies schemas that were collected.
func (c *converter) satisfying(parts []*schema, name string) (*node, *Error) {
	if len(parts) == 1 && parts[0].onlyAnyOf() {
		var out []*node
		for _, s := range parts[0].anyOf[0] {
			n, err := c.node(schemas{s}, name)
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		}
		return either(out...), nil
	}
	var open []schemas
	for _, s := range parts {
		open = append(open, s.anyOf...)
	}
	return c.choosing(parts, open, name)
}

// onlyAnyOf tells whether a schema is nothing but a choice of others.
func (s *schema) onlyAnyOf() bool {
	return len(s.anyOf) == 1 && !s.never && !s.typed && !s.isEnum && s.about == 0
}

// choosing is a value that satisfies schemas, and one out of each that are open.
func (c *converter) choosing(parts []*schema, open []schemas, name string) (*node, *Error) {
	if err := c.spend(len(parts) + len(open)); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(parts, func(s *schema) bool { return s.never }) {
		return never, nil
	}
	if len(open) == 0 {
		m, err := c.merge(parts)
		if err != nil {
			return nil, err
		}
		return c.value(m, name)
	}
	var out []*node
	for _, s := range open[0] {
		more, _, err := c.collect(schemas{s})
		if err != nil {
			return nil, err
		}
		next, stillOpen := slices.Clip(parts), slices.Clip(open[1:])
		for _, p := range more {
			if slices.Contains(parts, p) {
				if len(p.anyOf) > 0 {
					return nil, cyclic(p.at)
				}
				continue
			}
			next = append(next, p)
			stillOpen = append(stillOpen, p.anyOf...)
		}
		n, err := c.choosing(next, stillOpen, name)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return either(out...), nil
}

// value is a value that satisfies a schema without $ref, allOf and anyOf.
func (c *converter) value(s *schema, name string) (*node, *Error) {
	if s.isEnum {
		return c.enum(s)
	}
	allowed := s.types
	if !s.typed && s.about != 0 {
		allowed &= s.about
	}
	if allowed == allTypes && s.about == 0 {
		return c.b.value(), nil
	}
	var out []*node
	for _, t := range []struct {
		is   types
		node func(*schema, string) (*node, *Error)
	}{
		{typeObject, c.object}, {typeArray, c.array}, {typeString, c.string}, {typeNumber, c.number},
		{typeBoolean, func(*schema, string) (*node, *Error) { return c.b.boolean(), nil }},
		{typeNull, func(*schema, string) (*node, *Error) { return text("null"), nil }},
	} {
		if allowed&t.is == 0 {
			continue
		}
		n, err := t.node(s, name)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return either(out...), nil
}

// enum is one of the values that the rest of the schema allows.
func (c *converter) enum(s *schema) (*node, *Error) {
	var scalars trie
	var out []*node
	for _, v := range s.enum {
		t := v.types()
		if s.types&t == 0 {
			continue
		}
		ok := true
		switch {
		case s.about&t == 0:
		case t&typeNumber != 0:
			d, readable := parseDecimal(v.text)
			ok = readable && allows(s.low, s.high, d)
		case t == typeString && s.pattern+s.format == "":
			n := utf8.RuneCountInString(v.text)
			ok = s.minLength <= n && (n <= s.maxLength || s.maxLength == endless)
		default:
			return nil, s.at.errorf("enum and const are not supported beside pattern, format and what is about objects and arrays")
		}
		switch {
		case !ok:
		case t&(typeObject|typeArray) != 0:
			out = append(out, v.node(c.b))
		default:
			scalars.add(v.scalar())
		}
	}
	if len(scalars.next) > 0 {
		out = append(out, scalars.node(c.b))
	}
	return either(out...), nil
}

// types is the type of a value.
func (v *value) types() types {
	switch v.kind {
	case '{':
		return typeObject
	case '[':
		return typeArray
	case '"':
		return typeString
	case 'n':
		return typeNull
	case '0':
		if d, ok := parseDecimal(v.text); ok && d.fraction == "" {
			return typeInteger
		}
		return typeFraction
	}
	return typeBoolean
}

func (c *converter) string(s *schema, _ string) (*node, *Error) {
	low, high := s.minLength, s.maxLength
	if high == endless {
		high = -1
	}
	switch {
	case s.pattern != "": // a format beside it is taken for an annotation
		return c.pattern(s.at.in("pattern"), s.pattern, low, high)
	case s.format != "":
		return c.pattern(s.at.in("format"), formats[s.format], low, high)
	case low == 0 && high < 0:
		return c.b.string(), nil
	}
	return quoted(c.b.times(c.b.char(), low, high)), nil
}

// pattern is a string with a regular expression, which is converted once.
func (c *converter) pattern(at *place, pattern string, low, high int) (*node, *Error) {
	key := fmt.Sprintf("%d %d %s", low, high, pattern)
	if n, ok := c.patterns[key]; ok {
		return n, nil
	}
	if c.patternBytes += len(pattern); c.patternBytes > MaxPattern {
		return nil, at.errorf("the schema's regular expressions have more than %d bytes", MaxPattern)
	}
	n, err := c.b.pattern(pattern, low, high)
	if err != nil {
		return nil, at.errorf("%s", err.Reason)
	}
	c.patterns[key] = c.b.define(at.name, n)
	return c.patterns[key], nil
}

func (c *converter) number(s *schema, _ string) (*node, *Error) {
	integer := s.types&typeFraction == 0
	switch {
	case s.low == nil && s.high == nil && integer:
		return c.b.integer(), nil
	case s.low == nil && s.high == nil:
		return c.b.number(), nil
	}
	n, err := between(s.low, s.high, !integer)
	if err != nil {
		return nil, s.at.errorf("%s", err.Reason)
	}
	return c.b.define("number", n), nil
}
