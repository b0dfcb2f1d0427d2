package grammar

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// types is a set of types of JSON values.
type types uint8

const (
	typeObject types = 1 << iota
	typeArray
	typeString
	typeInteger
	typeFraction // a number that is no integer
	typeBoolean
	typeNull

	typeNumber = typeInteger | typeFraction
	allTypes   = typeNull<<1 - 1
)

var typeNames = map[string]types{
	"object": typeObject, "array": typeArray, "string": typeString, "integer": typeInteger,
	"number": typeNumber, "boolean": typeBoolean, "null": typeNull,
}

// schema is what a JSON schema says by itself; what others say beside it is referred to.
type schema struct {
	id    int // apart from others that were read
	at    *place
	never bool // false

	typed bool  // type is given
	types types // allowed
	about types // what other keywords are about

	isEnum bool
	enum   []*value

	properties []property
	required   []string
	additional schemas

	prefix             []schemas
	items              schemas
	minItems, maxItems int // 0, endless: no limit

	minLength, maxLength int // 0, endless: no limit
	pattern, format      string

	low, high *bound

	ref    string
	target *schema // of ref, once it was looked for
	allOf  schemas
	anyOf  []schemas // one of each
}

type property struct {
	name  string
	value schemas
}

// schemas are to be satisfied together. nil is where a schema says nothing.
type schemas []*schema

// asserts tells whether a schema says something itself.
func (s *schema) asserts() bool {
	return s.never || s.typed || s.isEnum || s.about != 0 || len(s.anyOf) > 0
}

// reader reads schemas, each once.
type reader struct {
	whole *value
	known map[*value]*schema
}

func (r *reader) read(v *value, at *place) (*schema, *Error) {
	if s, ok := r.known[v]; ok {
		return s, nil
	}
	s := &schema{id: len(r.known), at: at, types: allTypes, maxItems: endless, maxLength: endless}
	r.known[v] = s
	switch v.kind {
	case 't':
	case 'f':
		s.never = true
	case '{':
		for i, name := range v.names {
			if err := r.keyword(s, v, name, v.parts[i], at.in(name)); err != nil {
				return nil, err
			}
		}
	default:
		return nil, at.errorf("a schema is an object or a boolean")
	}
	return s, nil
}

// Keywords that say something which a grammar is not made to follow, with the value, if
// any, that asks for nothing.
var refused = map[string]string{
	"not": "", "if": "", "then": "", "else": "", "multipleOf": "", "divisibleBy": "", "disallow": "", "extends": "",
	"contains": "", "minContains": "", "maxContains": "", "uniqueItems": "f;", "unevaluatedItems": "t;", "unevaluatedProperties": "t;",
	"propertyNames": "t;", "patternProperties": "{;", "minProperties": "00;", "maxProperties": "",
	"dependencies": "{;", "dependentRequired": "{;", "dependentSchemas": "{;", "$dynamicRef": "", "$recursiveRef": "",
}

// keyword reads a member of a schema. Those that are not known say nothing about a
// value, or nothing that JSON schema knows.
func (r *reader) keyword(s *schema, all *value, name string, v *value, at *place) (err *Error) {
	if harmless, ok := refused[name]; ok && v.key() != harmless {
		return at.errorf("this keyword is not supported")
	}
	switch name {
	case "type":
		s.types, err = readTypes(v, at)
		s.typed = true
		if nullable := all.member("nullable"); nullable != nil && nullable.kind == 't' { // OpenAPI
			s.types |= typeNull
		}
	case "enum":
		if v.kind != '[' || len(v.parts) == 0 {
			return at.errorf("an array of at least one value is expected")
		}
		s.setEnum(v.parts)
	case "const":
		s.setEnum([]*value{v})
	case "properties":
		s.about |= typeObject
		if v.kind != '{' {
			return at.errorf("an object is expected")
		}
		for i, name := range v.names {
			value, err := r.one(v.parts[i], at.in(name))
			if err != nil {
				return err
			}
			s.properties = append(s.properties, property{name, value})
		}
	case "required":
		s.about |= typeObject
		if v.kind != '[' {
			return at.errorf("an array of strings is expected")
		}
		for i, name := range v.parts {
			if name.kind != '"' {
				return at.at(i).errorf("a string is expected")
			}
			s.required = append(s.required, name.text)
		}
	case "additionalProperties":
		s.about |= typeObject
		s.additional, err = r.one(v, at)
	case "prefixItems":
		s.about |= typeArray
		s.prefix, err = r.each(v, at)
	case "items":
		s.about |= typeArray
		switch {
		case v.kind != '[':
			s.items, err = r.one(v, at)
		case all.member("prefixItems") != nil:
			return at.errorf("an array is not supported beside prefixItems")
		default: // before 2020
			s.prefix, err = r.each(v, at)
		}
	case "additionalItems":
		if items := all.member("items"); items != nil && items.kind == '[' {
			s.items, err = r.one(v, at)
		}
	case "minItems":
		s.about |= typeArray
		s.minItems, err = count(v, at)
	case "maxItems":
		s.about |= typeArray
		s.maxItems, err = count(v, at)
	case "minLength":
		s.about |= typeString
		s.minLength, err = count(v, at)
	case "maxLength":
		s.about |= typeString
		s.maxLength, err = count(v, at)
	case "pattern":
		s.about |= typeString
		s.pattern, err = str(v, at)
	case "format":
		if _, ok := formats[v.text]; ok && v.kind == '"' {
			s.about |= typeString
			s.format = v.text
		}
	case "minimum", "exclusiveMinimum":
		s.about |= typeNumber
		s.low, err = readBound(v, at, s.low, name == "exclusiveMinimum", higher)
	case "maximum", "exclusiveMaximum":
		s.about |= typeNumber
		s.high, err = readBound(v, at, s.high, name == "exclusiveMaximum", lower)
	case "$ref":
		if s.ref, err = str(v, at); s.ref == "" {
			s.ref = "#"
		}
	case "allOf":
		var parts []schemas
		parts, err = r.each(v, at)
		for _, p := range parts {
			s.allOf = append(s.allOf, p...)
		}
	case "anyOf", "oneOf":
		var parts []schemas
		if parts, err = r.each(v, at); err == nil && len(parts) == 0 {
			return at.errorf("at least one schema is expected")
		}
		var any schemas
		for _, p := range parts {
			any = append(any, p...)
		}
		s.anyOf = append(s.anyOf, any)
	}
	return err
}

func (s *schema) setEnum(values []*value) {
	if s.isEnum { // enum and const
		values = common(s.enum, values)
	}
	s.isEnum, s.enum = true, values
}

func (r *reader) one(v *value, at *place) (schemas, *Error) {
	s, err := r.read(v, at)
	return schemas{s}, err
}

func (r *reader) each(v *value, at *place) ([]schemas, *Error) {
	if v.kind != '[' {
		return nil, at.errorf("an array of schemas is expected")
	}
	var out []schemas
	for i, p := range v.parts {
		s, err := r.one(p, at.at(i))
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func readTypes(v *value, at *place) (all types, err *Error) {
	names := []*value{v}
	if v.kind == '[' {
		names = v.parts
	}
	for _, n := range names {
		if n.kind != '"' {
			return 0, at.errorf("the name of a type, or an array of them is expected")
		}
		t, ok := typeNames[n.text]
		if !ok {
			return 0, at.errorf("%s is no type", brief(n.text))
		}
		all |= t
	}
	if all == 0 {
		return 0, at.errorf("at least one type is expected")
	}
	return all, nil
}

func str(v *value, at *place) (string, *Error) {
	if v.kind != '"' {
		return "", at.errorf("a string is expected")
	}
	return v.text, nil
}

// count reads a number of things; all that are more than endless are the same.
func count(v *value, at *place) (int, *Error) {
	d, ok := parseDecimal(v.text)
	if v.kind != '0' || !ok || d.negative || d.fraction != "" {
		return 0, at.errorf("an integer of at least 0 is expected")
	}
	n := 0
	for _, c := range d.whole {
		n = min(n*10+int(c-'0'), endless)
	}
	return n, nil
}

func readBound(v *value, at *place, other *bound, exclusive bool, of func(a, b *bound) *bound) (*bound, *Error) {
	d, ok := parseDecimal(v.text)
	if v.kind != '0' || !ok {
		return nil, at.errorf("a number is expected, and not more than 1e%d", maxExponent)
	}
	return of(other, &bound{d, exclusive}), nil
}

// resolve finds what a reference refers to.
func (r *reader) resolve(s *schema) (*schema, *Error) {
	if s.target != nil {
		return s.target, nil
	}
	at := s.at.in("$ref")
	path, ok := strings.CutPrefix(s.ref, "#")
	if !ok || path != "" && path[0] != '/' {
		return nil, at.errorf("only references within the schema are supported, such as #/$defs/x; not %s", brief(s.ref))
	}
	v, to := r.whole, &place{name: "$"}
	if path != "" {
		for step := range strings.SplitSeq(path[1:], "/") {
			if plain, err := url.PathUnescape(step); err == nil {
				step = plain
			}
			step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
			i := slices.Index(v.names, step)
			if v.kind == '[' {
				n, err := strconv.Atoi(step)
				if i = n; err != nil {
					i = -1
				}
			}
			if i < 0 || i >= len(v.parts) {
				return nil, at.errorf("%s is not there", brief(s.ref))
			}
			v, to = v.parts[i], to.in(step)
		}
	}
	target, err := r.read(v, to)
	s.target = target
	return target, err
}
