package grammar

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Parse reads and checks a grammar in GBNF whose rule "root" is the whole answer.
// Errors are *Error.
func Parse(gbnf string) (*Grammar, error) {
	if len(gbnf) > MaxSize {
		return nil, failf("the grammar has %d bytes, at most %d are allowed", len(gbnf), MaxSize)
	}
	if !utf8.ValidString(gbnf) {
		return nil, failf("the grammar is not valid UTF-8")
	}
	p := &parser{text: gbnf, index: map[string]int{"root": 0}, rules: []rule{{name: "root"}}}
	if err := p.parse(); err != nil {
		return nil, err
	}
	g := &Grammar{p.rules}
	if err := g.check(); err != nil {
		return nil, err
	}
	return g, nil
}

// parser reads GBNF as llama.cpp does, except for its references to tokens.
type parser struct {
	text  string
	at    int
	depth int
	rules []rule
	index map[string]int // of names
}

func (p *parser) parse() *Error {
	p.space(true)
	for p.at < len(p.text) {
		name := p.name()
		if name == "" {
			return p.expected("the name of a rule")
		}
		p.space(false)
		if !p.take("::=") {
			return p.expected("::=")
		}
		p.space(true)
		body, err := p.alternatives(false)
		if err != nil {
			return err
		}
		i, err := p.rule(name)
		if err != nil {
			return err
		}
		if p.rules[i].body != nil {
			return failf("rule %.60q is defined twice", name)
		}
		p.rules[i].body = body
		if p.at < len(p.text) && p.text[p.at] != '\n' && p.text[p.at] != '\r' {
			return p.expected("the end of the rule")
		}
		p.space(true)
	}
	for _, r := range p.rules {
		if r.body == nil {
			return failf("rule %.60q is not defined", r.name)
		}
	}
	return nil
}

// rule is the index of a rule, which may be defined later.
func (p *parser) rule(name string) (int, *Error) {
	i, ok := p.index[name]
	if !ok {
		if len(p.rules) == MaxRules {
			return 0, failf("more than %d rules", MaxRules)
		}
		i = len(p.rules)
		p.index[name] = i
		p.rules = append(p.rules, rule{name: name})
	}
	return i, nil
}

func (p *parser) expected(what string) *Error {
	line := 1 + strings.Count(p.text[:p.at], "\n")
	rest := p.text[p.at:min(len(p.text), p.at+20)]
	if rest == "" {
		rest = "the end"
	} else {
		rest = strconv.Quote(strings.ToValidUTF8(rest, ""))
	}
	return failf("line %d: expected %s, but got %s", line, what, rest)
}

func (p *parser) take(s string) bool {
	ok := strings.HasPrefix(p.text[p.at:], s)
	if ok {
		p.at += len(s)
	}
	return ok
}

// space skips blanks and comments, and ends of lines where they mean nothing.
func (p *parser) space(lines bool) {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == ' ' || c == '\t' || lines && (c == '\n' || c == '\r'):
			p.at++
		case c == '#':
			for p.at < len(p.text) && p.text[p.at] != '\n' && p.text[p.at] != '\r' {
				p.at++
			}
		default:
			return
		}
	}
}

func isName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

func (p *parser) name() string {
	from := p.at
	for p.at < len(p.text) && isName(p.text[p.at]) {
		p.at++
	}
	return p.text[from:p.at]
}

func (p *parser) alternatives(nested bool) (node, *Error) {
	if p.depth++; p.depth > MaxDepth {
		return nil, failf("groups are nested more than %d deep", MaxDepth)
	}
	defer func() { p.depth-- }()
	var all alternatives
	for {
		s, err := p.sequence(nested)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
		before := p.at
		p.space(true) // a line may begin with another alternative
		if !p.take("|") {
			if !nested {
				p.at = before
			}
			break
		}
		p.space(true)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

func (p *parser) sequence(nested bool) (node, *Error) {
	var parts sequence
	for p.at < len(p.text) {
		n, err := p.item()
		if err != nil {
			return nil, err
		}
		if n == nil {
			break
		}
		p.space(nested)
		if n, err = p.repeated(n, nested); err != nil {
			return nil, err
		}
		parts = append(parts, n)
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return parts, nil
}

// item reads one thing, or nil if the sequence ends.
func (p *parser) item() (node, *Error) {
	switch c := p.text[p.at]; {
	case c == '"':
		p.at++
		return p.literal()
	case c == '[':
		p.at++
		return p.class()
	case c == '(':
		p.at++
		p.space(true)
		n, err := p.alternatives(true)
		if err != nil {
			return nil, err
		}
		if !p.take(")") {
			return nil, p.expected(")")
		}
		return n, nil
	case c == '.':
		p.at++
		return anything{}, nil
	case c == '<' || c == '!':
		return nil, p.expected("text: tokens can't be named")
	case isName(c):
		i, err := p.rule(p.name())
		return reference(i), err
	}
	return nil, nil
}

func (p *parser) literal() (node, *Error) {
	var b strings.Builder
	for {
		if p.at == len(p.text) {
			return nil, p.expected(`"`)
		}
		if p.take(`"`) {
			return text(b.String()), nil
		}
		r, err := p.char()
		if err != nil {
			return nil, err
		}
		if r == 0 {
			return nil, p.expected("no character of value 0")
		}
		b.WriteRune(r)
	}
}

// text is a literal, or nothing.
func text(s string) node {
	if s == "" {
		return sequence{}
	}
	return literal(s)
}

func (p *parser) class() (node, *Error) {
	c := class{negated: p.take("^")}
	for {
		if p.at == len(p.text) {
			return nil, p.expected("]")
		}
		if p.take("]") {
			if len(c.ranges) == 0 {
				return nil, p.expected("a character in []")
			}
			return c, nil
		}
		low, err := p.char()
		if err != nil {
			return nil, err
		}
		high := low
		if rest := p.text[p.at:]; len(rest) > 1 && rest[0] == '-' && rest[1] != ']' {
			p.at++
			if high, err = p.char(); err != nil {
				return nil, err
			}
		}
		if high < low {
			return nil, p.expected("a range that ends behind its beginning")
		}
		c.ranges = append(c.ranges, span{low, high})
	}
}

// char reads a character, or an escaped one.
func (p *parser) char() (rune, *Error) {
	r, size := utf8.DecodeRuneInString(p.text[p.at:])
	p.at += size
	if r != '\\' || p.at == len(p.text) {
		return r, nil
	}
	c := p.text[p.at]
	p.at++
	switch c {
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'x', 'u', 'U':
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
		if p.at+digits <= len(p.text) {
			v, err := strconv.ParseUint(p.text[p.at:p.at+digits], 16, 32)
			if err == nil && v <= utf8.MaxRune && utf8.ValidRune(rune(v)) {
				p.at += digits
				return rune(v), nil
			}
		}
		return 0, p.expected("the number of a character")
	}
	if strings.IndexByte("\\\"[]-^/'", c) >= 0 {
		return rune(c), nil
	}
	p.at--
	return 0, p.expected("an escaped character")
}

// repeated reads what repeats n, if anything does.
func (p *parser) repeated(n node, nested bool) (node, *Error) {
	for p.at < len(p.text) {
		low, high := 0, -1
		switch c := p.text[p.at]; c {
		case '*':
		case '+':
			low = 1
		case '?':
			high = 1
		case '{':
			var err *Error
			if low, high, err = p.bounds(); err != nil {
				return nil, err
			}
		default:
			return n, nil
		}
		p.at++
		p.space(nested)
		n = repetition{n, low, high}
		if p.depth++; p.depth > MaxDepth {
			return nil, failf("repetitions are nested more than %d deep", MaxDepth)
		}
		defer func() { p.depth-- }()
	}
	return n, nil
}

// bounds reads {m}, {m,} or {m,n} up to the closing brace.
func (p *parser) bounds() (low, high int, err *Error) {
	number := func() (int, bool) {
		p.space(true)
		from := p.at
		for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
			p.at++
		}
		v, e := strconv.Atoi(p.text[from:p.at])
		if from < p.at && (e != nil || v > MaxRepetition) {
			err = failf("a repetition of %.20s, at most %d is allowed", p.text[from:p.at], MaxRepetition)
		}
		p.space(true)
		return v, from < p.at && e == nil
	}
	p.at++ // the opening brace
	low, ok := number()
	if err == nil && !ok {
		return 0, 0, p.expected("a number")
	}
	high = low
	if p.take(",") {
		if high, ok = number(); !ok {
			high = -1
		}
	}
	switch {
	case err != nil:
		return 0, 0, err
	case p.at == len(p.text) || p.text[p.at] != '}':
		return 0, 0, p.expected("}")
	case high >= 0 && high < low:
		return 0, 0, failf("a repetition of {%d,%d}", low, high)
	}
	return low, high, nil
}
