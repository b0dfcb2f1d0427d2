package grammar

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Parse reads, checks and normalises a grammar in GBNF whose rule "root" is the whole
// answer. It reads what llama.cpp reads, but for names of tokens (<...>); and beyond
// that names with _, which is the same as -, lines that begin with |, and the escapes
// \- \^ \/ \'. Errors are *Error.
func Parse(gbnf string) (*Grammar, error) {
	switch {
	case len(gbnf) > MaxSize:
		return nil, errorf("the grammar has %d bytes; the limit is %d", len(gbnf), MaxSize)
	case !utf8.ValidString(gbnf) || strings.IndexByte(gbnf, 0) >= 0:
		return nil, errorf("the grammar is not valid UTF-8 without zeros")
	}
	p := &parser{s: gbnf}
	rules, err := p.rules()
	if err != nil {
		return nil, err
	}
	g, err := normal(rules)
	if err != nil {
		return nil, err
	}
	return g, nil
}

type parser struct {
	s  string
	at int
}

func (p *parser) rules() ([]rule, *Error) {
	var rules []rule
	defined := map[string]bool{}
	p.space(true)
	for p.at < len(p.s) {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		p.space(false)
		if !p.take("::=") {
			return nil, p.expected("::= behind the name of a rule")
		}
		p.space(true)
		body, err := p.alternates(0)
		if err != nil {
			return nil, err
		}
		if p.at < len(p.s) && p.s[p.at] != '\n' && p.s[p.at] != '\r' {
			return nil, p.expected("the end of the rule")
		}
		p.space(true)
		switch {
		case defined[name]:
			return nil, errorf("rule %s is defined twice", brief(name))
		case len(rules) == MaxRules:
			return nil, errorf("more than %d rules", MaxRules)
		}
		defined[name] = true
		rules = append(rules, rule{name, body})
	}
	return rules, nil
}

// expected is an error at the place that was reached.
func (p *parser) expected(what string) *Error {
	got := "the end"
	if p.at < len(p.s) {
		got = brief(p.s[p.at:min(len(p.s), p.at+20)])
	}
	return errorf("line %d: expected %s, got %s", 1+strings.Count(p.s[:p.at], "\n"), what, got)
}

func (p *parser) take(s string) bool {
	ok := strings.HasPrefix(p.s[p.at:], s)
	if ok {
		p.at += len(s)
	}
	return ok
}

// peek is the next byte; there is no 0 in the text.
func (p *parser) peek() byte {
	if p.at == len(p.s) {
		return 0
	}
	return p.s[p.at]
}

// space skips blanks and comments, and ends of lines where they mean nothing.
func (p *parser) space(lines bool) {
	for p.at < len(p.s) {
		switch c := p.s[p.at]; {
		case c == ' ' || c == '\t' || lines && (c == '\n' || c == '\r'):
			p.at++
		case c == '#':
			for p.at < len(p.s) && p.s[p.at] != '\n' && p.s[p.at] != '\r' {
				p.at++
			}
		default:
			return
		}
	}
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

func (p *parser) name() (string, *Error) {
	from := p.at
	for isWord(p.peek()) {
		p.at++
	}
	name := p.s[from:p.at]
	switch {
	case name == "":
		return "", p.expected("the name of a rule")
	case len(name) > MaxName:
		return "", errorf("the name of rule %s has %d bytes; the limit is %d", brief(name), len(name), MaxName)
	}
	return strings.ReplaceAll(name, "_", "-"), nil
}

// alternates reads up to the end of the rule, or of the group at that depth.
func (p *parser) alternates(depth int) (*node, *Error) {
	if depth > MaxDepth {
		return nil, errorf("groups are nested more than %d deep", MaxDepth)
	}
	var all []*node
	for {
		n, err := p.sequence(depth)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
		end := p.at
		p.space(true)
		if !p.take("|") {
			if depth == 0 {
				p.at = end
			}
			return either(all...), nil
		}
		p.space(true)
	}
}

func (p *parser) sequence(depth int) (*node, *Error) {
	var parts []*node
	for {
		n, err := p.item(depth)
		if err != nil {
			return nil, err
		}
		if n == nil {
			return seq(parts...), nil
		}
		p.space(depth > 0)
		for {
			low, high, ok, err := p.repetition(depth > 0)
			if err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			if n = repeat(n, low, high); n.nest > MaxDepth {
				return nil, errorf("repetitions are nested more than %d deep", MaxDepth)
			}
			p.space(depth > 0)
		}
		parts = append(parts, n)
	}
}

// item reads one thing; nil is none.
func (p *parser) item(depth int) (*node, *Error) {
	switch c := p.peek(); {
	case c == '"':
		return p.literal()
	case c == '[':
		return p.class()
	case c == '(':
		p.at++
		p.space(true)
		n, err := p.alternates(depth + 1)
		if err == nil && !p.take(")") {
			err = p.expected(")")
		}
		return n, err
	case c == '.':
		p.at++
		return oneOf(scalars), nil
	case c == '<' || c == '!':
		return nil, p.expected("text or a rule, as tokens (<...>) can't be named")
	case isWord(c):
		name, err := p.name()
		return ref(name), err
	case strings.IndexByte("*+?{", c) >= 0 && c != 0:
		return nil, p.expected("something to repeat")
	}
	return nil, nil
}

func (p *parser) literal() (*node, *Error) {
	p.at++
	var b strings.Builder
	for !p.take(`"`) {
		from := p.at
		c, err := p.char(`"`)
		if err != nil {
			return nil, err
		}
		if !scalars.has(c) {
			p.at = from
			return nil, p.expected("a character, but not 0 or a surrogate")
		}
		b.WriteRune(c)
	}
	return text(b.String()), nil
}

func (p *parser) class() (*node, *Error) {
	from := p.at
	p.at++
	negated := p.take("^")
	var r ranges
	for !p.take("]") {
		begin := p.at
		low, err := p.char("]")
		if err != nil {
			return nil, err
		}
		high := low
		if rest := p.s[p.at:]; len(rest) > 1 && rest[0] == '-' && rest[1] != ']' {
			p.at++
			if high, err = p.char("]"); err != nil {
				return nil, err
			}
		}
		if high < low {
			p.at = begin
			return nil, p.expected("a range that does not end before its beginning")
		}
		r = append(r, span{low, high})
	}
	empty := len(r) == 0
	if r = r.sorted(); negated {
		r = r.not()
	}
	n := oneOf(r)
	if empty || n.isNever() {
		p.at = from
		return nil, p.expected("a class that some character is in")
	}
	return n, nil
}

// char reads a character, which may be escaped, of something that needs an end.
func (p *parser) char(end string) (rune, *Error) {
	if p.at == len(p.s) {
		return 0, p.expected(end)
	}
	c, size := utf8.DecodeRuneInString(p.s[p.at:])
	if c != '\\' {
		p.at += size
		return c, nil
	}
	rest := p.s[p.at+1:]
	if rest == "" {
		return 0, p.expected("an escaped character")
	}
	digits := 0
	switch rest[0] {
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	case '\\', '"', '[', ']', '-', '^', '/', '\'':
		c = rune(rest[0])
	default:
		return 0, p.expected(`one of the escapes \x \u \U \n \r \t \\ \" \[ \]`)
	}
	if digits > 0 {
		v, err := strconv.ParseUint(rest[1:min(len(rest), 1+digits)], 16, 32)
		if err != nil || len(rest) <= digits || v > utf8.MaxRune {
			return 0, p.expected("the " + strconv.Itoa(digits) + " hexadecimal digits of a character")
		}
		c = rune(v)
	}
	p.at += 2 + digits
	return c, nil
}

// repetition reads * + ? {m} {m,} or {m,n}; ok is false if none is there.
func (p *parser) repetition(lines bool) (low, high int, ok bool, err *Error) {
	switch p.peek() {
	case '*':
		low, high = 0, -1
	case '+':
		low, high = 1, -1
	case '?':
		low, high = 0, 1
	case '{':
		p.at++
		p.space(lines)
		if low, err = p.number(); err != nil {
			return 0, 0, false, err
		}
		high = low
		p.space(lines)
		if p.take(",") {
			high = -1
			p.space(lines)
			if p.peek() != '}' {
				if high, err = p.number(); err != nil {
					return 0, 0, false, err
				}
				p.space(lines)
			}
		}
		switch {
		case p.peek() != '}':
			return 0, 0, false, p.expected("} behind a repetition")
		case high >= 0 && high < low:
			return 0, 0, false, p.expected("the end of a repetition that is not {" + strconv.Itoa(low) + "," + strconv.Itoa(high) + "}")
		}
	default:
		return 0, 0, false, nil
	}
	p.at++
	return low, high, true, nil
}

func (p *parser) number() (int, *Error) {
	from := p.at
	for c := p.peek(); '0' <= c && c <= '9'; c = p.peek() {
		p.at++
	}
	digits := p.s[from:p.at]
	if digits == "" {
		return 0, p.expected("a number")
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n > MaxRepetition {
		p.at = from
		return 0, p.expected("at most " + strconv.Itoa(MaxRepetition) + " repetitions")
	}
	return n, nil
}
