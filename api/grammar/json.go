package grammar

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// value is a JSON value whose members keep their order.
type value struct {
	kind    byte // { [ s n t f 0 (null), as kindOf tells
	members []member
	items   []*value
	text    string // of a string, or of a number as it was written
}

type member struct {
	name  string
	value *value
}

func (v *value) get(name string) *value {
	for _, m := range v.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// readJSON reads one value, nested at most MaxDepth deep, without members of one name.
func readJSON(raw []byte) (*value, *Error) {
	if len(raw) > MaxSize {
		return nil, failf("the schema has %d bytes, at most %d are allowed", len(raw), MaxSize)
	}
	if !utf8.Valid(raw) {
		return nil, failf("the schema is not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := readValue(d, 0)
	if err == nil {
		if _, e := d.Token(); !errors.Is(e, io.EOF) {
			err = failf("something follows the schema")
		}
	}
	return v, err
}

func readValue(d *json.Decoder, depth int) (*value, *Error) {
	t, err := d.Token()
	if err != nil {
		return nil, failf("the schema is not valid JSON")
	}
	if depth > MaxDepth {
		return nil, failf("the schema is nested more than %d deep", MaxDepth)
	}
	switch t := t.(type) {
	case string:
		return &value{kind: 's', text: t}, nil
	case json.Number:
		return &value{kind: 'n', text: t.String()}, nil
	case bool:
		return &value{kind: map[bool]byte{true: 't', false: 'f'}[t]}, nil
	case json.Delim:
		v := &value{kind: byte(t)}
		seen := map[string]bool{}
		for d.More() {
			name := ""
			if t == '{' {
				key, err := d.Token()
				if err != nil {
					return nil, failf("the schema is not valid JSON")
				}
				if name = key.(string); seen[name] {
					return nil, failf("the schema has %.60q twice in one object", name)
				}
				seen[name] = true
			}
			part, err := readValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			if t == '{' {
				v.members = append(v.members, member{name, part})
			} else {
				v.items = append(v.items, part)
			}
		}
		if _, err := d.Token(); err != nil {
			return nil, failf("the schema is not valid JSON")
		}
		return v, nil
	}
	return &value{}, nil
}

// compact writes a value as an answer would have it.
func (v *value) compact(b *strings.Builder) {
	switch v.kind {
	case '{':
		b.WriteByte('{')
		for i, m := range v.members {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(quoted(m.name) + ": ")
			m.value.compact(b)
		}
		b.WriteByte('}')
	case '[':
		b.WriteByte('[')
		for i, part := range v.items {
			if i > 0 {
				b.WriteString(", ")
			}
			part.compact(b)
		}
		b.WriteByte(']')
	case 's':
		b.WriteString(quoted(v.text))
	case 'n':
		b.WriteString(v.text)
	case 't':
		b.WriteString("true")
	case 'f':
		b.WriteString("false")
	default:
		b.WriteString("null")
	}
}

// quoted is a text as a JSON string, with nothing escaped that need not be.
func quoted(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string can be encoded
	return strings.TrimSuffix(b.String(), "\n")
}

// unescaped are the characters that may stand in a JSON string as they are.
var unescaped = []span{{' ', '"' - 1}, {'"' + 1, '\\' - 1}, {'\\' + 1, 0xd7ff}, {0xe000, utf8.MaxRune}}

// escapes are those that are written in another way.
var escapes = map[rune]string{'"': `\"`, '\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\b': `\b`, '\f': `\f`}

// inString is one character out of ranges, as it stands in a JSON string.
func inString(ranges []span) node {
	var plain []span
	var out alternatives
	for _, r := range ranges {
		for _, u := range unescaped {
			if low, high := max(r.low, u.low), min(r.high, u.high); low <= high {
				plain = append(plain, span{low, high})
			}
		}
	}
	if len(plain) > 0 {
		out = append(out, class{ranges: plain})
	}
	for _, c := range "\"\\\n\r\t\b\f" {
		for _, r := range ranges {
			if r.low <= c && c <= r.high {
				out = append(out, literal(escapes[c]))
				break
			}
		}
	}
	if len(out) == 1 {
		return out[0]
	}
	return out
}
