package grammar

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// JSONObject is a grammar of any JSON object.
func JSONObject() string {
	c := newConverter(nil)
	c.rules[0].body = c.object(anyValue)
	g, err := finish(c.rules)
	if err != nil {
		panic(err) // it does not depend on anything
	}
	return g
}

// FromSchema is a grammar of the JSON values that a schema allows. Members come in the
// order of their declaration, and only declared ones where any are declared. What would
// let an answer break the schema is refused by name.
func FromSchema(raw []byte) (string, error) {
	schema, err := readJSON(raw)
	if err != nil {
		return "", err
	}
	c := newConverter(schema)
	body := c.visit(schema, "$")
	if c.err != nil {
		return "", c.err
	}
	c.rules[0].body = body
	out, e := finish(c.rules)
	if errors.Is(e, errEndless) || errors.Is(e, errLeftRecursion) {
		return "", failf("no value satisfies the schema: a $ref leads back to itself without end")
	}
	return out, e
}

// converter builds the rules of a schema. The first error is kept.
type converter struct {
	schema *value
	rules  []rule
	named  map[string]reference
	err    *Error
}

func newConverter(schema *value) *converter {
	return &converter{schema: schema, rules: []rule{{name: "root"}}, named: map[string]reference{}}
}

func (c *converter) fail(at, format string, args ...any) node {
	if c.err == nil {
		c.err = failf("%.120s: %s", at, failf(format, args...).Reason)
	}
	return sequence{}
}

// rule is a reference to the rule of that name, built when it is first wanted.
func (c *converter) rule(name string, build func() node) node {
	if r, ok := c.named[name]; ok {
		return r
	}
	r := reference(len(c.rules))
	c.named[name] = r
	c.rules = append(c.rules, rule{name: name})
	if len(c.rules) > MaxRules {
		return c.fail("$", "the schema needs more than %d rules", MaxRules)
	}
	body := build()
	c.rules[r].body = body
	return r
}

// Keywords that say nothing about values.
var annotations = []string{
	"title", "description", "default", "examples", "example", "$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "deprecated",
	"readOnly", "writeOnly", "strict", "name", "contentEncoding", "contentMediaType",
}

// Keywords by the type of value that they are about.
var keywords = map[string][]string{
	"object":  {"properties", "required", "additionalProperties"},
	"array":   {"items", "prefixItems", "minItems", "maxItems", "additionalItems"},
	"string":  {"minLength", "maxLength", "pattern", "format"},
	"integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
	"number":  {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
	"boolean": {}, "null": {},
}

var types = []string{"object", "array", "string", "integer", "number", "boolean", "null"}

// visit is the node of a schema that stands at a place.
func (c *converter) visit(s *value, at string) node {
	switch {
	case c.err != nil:
		return sequence{}
	case s.kind == 't' || s.kind == '{' && len(c.assertions(s)) == 0:
		return c.anything()
	case s.kind != '{':
		return c.fail(at, "expected a schema that something satisfies")
	}
	for _, whole := range []struct {
		keyword string
		convert func(*value, string) node
	}{{"$ref", c.ref}, {"anyOf", c.union}, {"oneOf", c.union}, {"allOf", c.all}, {"enum", c.enum}, {"const", c.constant}} {
		keyword, v := whole.keyword, s.get(whole.keyword)
		if v == nil {
			continue
		}
		for _, other := range c.assertions(s) {
			harmless := other == "type" && (keyword == "enum" || keyword == "const")
			if other != keyword && !harmless {
				return c.fail(at, "%s beside %.40q is not supported", keyword, other)
			}
		}
		return whole.convert(v, at+"."+keyword)
	}
	names := c.types(s, at)
	for _, keyword := range c.assertions(s) {
		if keyword != "type" && keyword != "nullable" && !slices.ContainsFunc(names, func(t string) bool { return slices.Contains(keywords[t], keyword) }) {
			if keyword == "uniqueItems" && s.get(keyword).kind == 'f' {
				continue
			}
			return c.fail(at, "%.60q is not supported here", keyword)
		}
	}
	var out alternatives
	for _, t := range names {
		out = append(out, c.typed(t, s, at))
	}
	if len(out) == 1 {
		return out[0]
	}
	return out
}

// assertions are the keywords of a schema that say something about values.
func (c *converter) assertions(s *value) []string {
	var out []string
	for _, m := range s.members {
		if !slices.Contains(annotations, m.name) {
			out = append(out, m.name)
		}
	}
	return out
}

// types are those that a schema allows, or that its keywords are about.
func (c *converter) types(s *value, at string) []string {
	var names []string
	switch t := s.get("type"); {
	case t == nil:
		for _, name := range types {
			// Integers have no keyword of their own: what is about them is about numbers.
			if name != "integer" && slices.ContainsFunc(keywords[name], func(k string) bool { return s.get(k) != nil }) {
				names = append(names, name)
			}
		}
	case t.kind == 's':
		names = []string{t.text}
	case t.kind == '[':
		for _, v := range t.items {
			names = append(names, v.text)
		}
	}
	if v := s.get("nullable"); v != nil && v.kind == 't' && !slices.Contains(names, "null") {
		names = append(names, "null")
	}
	for _, name := range names {
		if !slices.Contains(types, name) {
			c.fail(at+".type", "%.40q is no type", name)
		}
	}
	if len(names) == 0 {
		c.fail(at, "expected a type, and no %.60q", strings.Join(c.assertions(s), ", "))
	}
	return names
}

func (c *converter) typed(t string, s *value, at string) node {
	switch t {
	case "object":
		return c.objectOf(s, at)
	case "array":
		return c.arrayOf(s, at)
	case "string":
		return c.stringOf(s, at)
	case "integer", "number":
		return c.numberOf(s, at, t == "integer")
	case "boolean":
		return alternatives{literal("true"), literal("false")}
	}
	return literal("null")
}

func (c *converter) ref(v *value, at string) node {
	if v.kind != 's' || v.text != "#" && !strings.HasPrefix(v.text, "#/") {
		return c.fail(at, "only references within the schema are supported, such as #/$defs/x")
	}
	target := c.schema
	if v.text != "#" {
		for _, step := range strings.Split(v.text[2:], "/") {
			step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
			var next *value
			if target.kind == '{' {
				next = target.get(step)
			} else if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(target.items) {
				next = target.items[i]
			}
			if target = next; target == nil {
				return c.fail(at, "%.60q is not there", v.text)
			}
		}
	}
	return c.rule("ref "+v.text, func() node { return c.visit(target, v.text) })
}

func (c *converter) union(v *value, at string) node {
	if v.kind != '[' || len(v.items) == 0 {
		return c.fail(at, "expected a list of schemas")
	}
	var out alternatives
	for i, s := range v.items {
		out = append(out, c.visit(s, at+"["+strconv.Itoa(i)+"]"))
	}
	return out
}

// all merges object schemas; others can't be followed at once.
func (c *converter) all(v *value, at string) node {
	if v.kind != '[' || len(v.items) == 0 {
		return c.fail(at, "expected a list of schemas")
	}
	if len(v.items) == 1 {
		return c.visit(v.items[0], at+"[0]")
	}
	merged := &value{kind: '{', members: []member{{"type", &value{kind: 's', text: "object"}}}}
	properties, required := &value{kind: '{'}, &value{kind: '['}
	for _, s := range v.items {
		for hops := 0; hops < MaxDepth && s.get("$ref") != nil && len(c.assertions(s)) == 1; hops++ {
			if s = c.target(s.get("$ref")); s == nil {
				return c.fail(at, "a $ref is not there")
			}
		}
		if t := s.get("type"); t == nil && s.get("properties") == nil || t != nil && t.text != "object" {
			return c.fail(at, "only schemas of objects can be merged")
		}
		for _, keyword := range c.assertions(s) {
			switch part := s.get(keyword); keyword {
			case "type", "additionalProperties":
			case "properties":
				for _, m := range part.members {
					if properties.get(m.name) != nil {
						return c.fail(at, "property %.60q is in two of them", m.name)
					}
					properties.members = append(properties.members, m)
				}
			case "required":
				required.items = append(required.items, part.items...)
			default:
				return c.fail(at, "%.60q can't be merged", keyword)
			}
		}
	}
	merged.members = append(merged.members, member{"properties", properties}, member{"required", required})
	return c.visit(merged, at)
}

// target follows a local reference, or gives nil.
func (c *converter) target(ref *value) *value {
	at := c.schema
	for _, step := range strings.Split(strings.TrimPrefix(ref.text, "#"), "/")[1:] {
		if at = at.get(strings.NewReplacer("~1", "/", "~0", "~").Replace(step)); at == nil {
			return nil
		}
	}
	return at
}

func (c *converter) enum(v *value, at string) node {
	if v.kind != '[' || len(v.items) == 0 {
		return c.fail(at, "expected a list of values")
	}
	var out alternatives
	for _, item := range v.items {
		out = append(out, c.constant(item, at))
	}
	return out
}

func (c *converter) constant(v *value, _ string) node {
	var b strings.Builder
	v.compact(&b)
	return literal(b.String())
}
