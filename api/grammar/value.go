package grammar

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// value is a JSON value whose members keep their order.
type value struct {
	kind  byte     // { [ " 0 (a number) t f n
	text  string   // of a string; of a number as it is written
	names []string // of members
	parts []*value // members or elements
}

func (v *value) member(name string) *value {
	if i := slices.Index(v.names, name); i >= 0 {
		return v.parts[i]
	}
	return nil
}

// readValue reads a schema.
func readValue(raw []byte) (*value, *Error) {
	switch {
	case len(raw) > MaxSize:
		return nil, errorf("the schema has %d bytes; the limit is %d", len(raw), MaxSize)
	case !utf8.Valid(raw) || !json.Valid(raw):
		return nil, errorf("the schema is not valid JSON")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return readPart(d, &place{name: "$"}, 0)
}

func readPart(d *json.Decoder, at *place, depth int) (*value, *Error) {
	if depth > MaxDepth {
		return nil, errorf("the schema is nested more than %d deep", MaxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return nil, errorf("the schema is not valid JSON")
	}
	switch t := t.(type) {
	case json.Delim:
		v := &value{kind: byte(t)}
		seen := map[string]bool{}
		for d.More() {
			inside := at
			if v.kind == '{' {
				name, _ := d.Token() // a string, as the whole is valid
				v.names = append(v.names, name.(string))
				inside = at.in(name.(string))
				if seen[name.(string)] {
					return nil, inside.errorf("is there twice")
				}
				seen[name.(string)] = true
			}
			part, err := readPart(d, inside, depth+1)
			if err != nil {
				return nil, err
			}
			v.parts = append(v.parts, part)
		}
		_, _ = d.Token() // the end
		return v, nil
	case string:
		return &value{kind: '"', text: t}, nil
	case json.Number:
		return &value{kind: '0', text: t.String()}, nil
	case bool:
		if t {
			return &value{kind: 't'}, nil
		}
		return &value{kind: 'f'}, nil
	}
	return &value{kind: 'n'}, nil
}

// key is the same for values that are equal, unless they are objects with members in
// another order.
func (v *value) key() string {
	var b strings.Builder
	v.writeKey(&b)
	return b.String()
}

func (v *value) writeKey(b *strings.Builder) {
	b.WriteByte(v.kind)
	switch v.kind {
	case '"':
		b.WriteString(quote(v.text))
	case '0':
		if d, ok := parseDecimal(v.text); ok {
			b.WriteString(d.String())
		} else {
			b.WriteString(v.text)
		}
	}
	for i, p := range v.parts {
		if v.kind == '{' {
			b.WriteString(quote(v.names[i]))
		}
		p.writeKey(b)
	}
	b.WriteByte(';')
}

// scalar is a value without parts, as JSON.
func (v *value) scalar() string {
	switch v.kind {
	case '"':
		return quote(v.text)
	case 't':
		return "true"
	case 'f':
		return "false"
	case 'n':
		return "null"
	}
	return v.text
}

// node is the value with the freedom of blanks that other answers have.
func (v *value) node(b *builder) *node {
	if v.kind != '{' && v.kind != '[' {
		return text(v.scalar())
	}
	parts := []*node{text(string(v.kind))}
	for i, p := range v.parts {
		if i > 0 {
			parts = append(parts, b.comma())
		}
		if v.kind == '{' {
			parts = append(parts, text(quote(v.names[i])+":"), b.space())
		}
		parts = append(parts, p.node(b))
	}
	return seq(append(parts, text(string(v.kind+2)))...) // } or ]
}
