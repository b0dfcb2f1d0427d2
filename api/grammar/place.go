package grammar

import (
	"strconv"
	"strings"
)

// place is where something stands in a schema.
type place struct {
	up   *place
	name string
}

func (p *place) in(name string) *place { return &place{p, name} }

func (p *place) at(i int) *place { return &place{p, strconv.Itoa(i)} }

// String is the place as JSONPath has it, without its beginning if it is long.
func (p *place) String() string {
	const limit = 120
	s := ""
	for ; p != nil; p = p.up {
		name := p.name
		switch {
		case p.up == nil:
		case name != "" && strings.Trim(name, "0123456789") == "":
			name = "[" + name + "]"
		case name == "" || len(name) > limit/2 || strings.ContainsAny(name, ".[]\"\\ \t\r\n"):
			name = "[" + brief(name) + "]"
		default:
			name = "." + name
		}
		if len(s)+len(name) > limit {
			return "…" + s
		}
		s = name + s
	}
	return s
}

func (p *place) errorf(format string, args ...any) *Error {
	return errorf("%s: %s", p, errorf(format, args...).Reason)
}
