package grammar

import (
	"encoding/binary"
	"errors"
	"regexp/syntax"
	"unicode"
)

// FromRegex is a grammar of the texts that a regular expression, in the syntax of RE2,
// matches as a whole. Of the assertions, those of the text's beginning and end are
// supported, at the ends of the expression. Errors are *Error.
func FromRegex(pattern string) (string, error) {
	c := regexConverter{b: newBuilder(), char: oneOf}
	re, err := parseRegex(pattern)
	if err != nil {
		return "", err
	}
	n, err := c.convert(re, true, true)
	if err != nil {
		return "", err
	}
	gbnf, err := c.b.finish(n)
	if err != nil {
		return "", err
	}
	return gbnf, nil
}

func parseRegex(pattern string) (*syntax.Regexp, *Error) {
	if len(pattern) > MaxPattern {
		return nil, errorf("the regular expression has %d bytes; the limit is %d", len(pattern), MaxPattern)
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	var bad *syntax.Error
	switch {
	case errors.As(err, &bad):
		return nil, errorf("error parsing regexp: %s: `%s`", bad.Code, beginning(bad.Expr))
	case err != nil:
		return nil, errorf("error parsing regexp")
	}
	return re, nil
}

type regexConverter struct {
	b            *builder
	char         func(ranges) *node // one character out of ranges
	begins, ends bool               // there is a ^ or $
}

// convert converts an expression that stands at the begin or the end of the whole, or
// within.
func (c *regexConverter) convert(re *syntax.Regexp, begin, end bool) (*node, *Error) {
	switch re.Op {
	case syntax.OpNoMatch:
		return never, nil
	case syntax.OpEmptyMatch:
		return empty, nil
	case syntax.OpLiteral:
		parts := make([]*node, len(re.Rune))
		for i, r := range re.Rune {
			parts[i] = c.char(folded(r, re.Flags&syntax.FoldCase != 0))
		}
		return seq(parts...), nil
	case syntax.OpCharClass:
		return c.class(re.Rune), nil
	case syntax.OpAnyCharNotNL:
		return c.class([]rune{0, '\n' - 1, '\n' + 1, unicode.MaxRune}), nil
	case syntax.OpAnyChar:
		return c.class([]rune{0, unicode.MaxRune}), nil
	case syntax.OpBeginText:
		if begin {
			c.begins = true
			return empty, nil
		}
	case syntax.OpEndText:
		if end {
			c.ends = true
			return empty, nil
		}
	case syntax.OpCapture:
		return c.convert(re.Sub[0], begin, end)
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		low, high := counts(re)
		n, err := c.convert(re.Sub[0], begin && high == 1, end && high == 1)
		if err != nil {
			return nil, err
		}
		return c.b.times(n, low, high), nil
	case syntax.OpConcat:
		var out []*node
		for i, sub := range re.Sub {
			n, err := c.convert(sub, begin && onlyAssert(re.Sub[:i]), end && onlyAssert(re.Sub[i+1:]))
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		}
		return seq(out...), nil
	case syntax.OpAlternate:
		var out []*node
		for _, sub := range re.Sub {
			n, err := c.convert(sub, begin, end)
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		}
		return either(out...), nil
	}
	return nil, errorf("the regular expression has an assertion that is not supported where it stands: %s", brief(re.String()))
}

// class is a character between any of the pairs, made once: there can be hundreds.
func (c *regexConverter) class(pairs []rune) *node {
	var key []byte
	for _, r := range pairs {
		key = binary.AppendVarint(key, int64(r))
	}
	n, ok := c.b.classes[string(key)]
	if !ok {
		var r ranges
		for i := 0; i < len(pairs); i += 2 {
			r = append(r, span{pairs[i], pairs[i+1]})
		}
		if n = c.char(r); n.here+n.apart > 2*tooNested {
			n = c.b.define("class", n)
		}
		c.b.classes[string(key)] = n
	}
	return n
}

func onlyAssert(all []*syntax.Regexp) bool {
	for _, re := range all {
		if re.Op != syntax.OpBeginText && re.Op != syntax.OpEndText {
			return false
		}
	}
	return true
}

// folded is a character, with those that differ in case only.
func folded(c rune, fold bool) ranges {
	out := ranges{{c, c}}
	if fold {
		for f := unicode.SimpleFold(c); f != c; f = unicode.SimpleFold(f) {
			out = append(out, span{f, f})
		}
	}
	return out.sorted()
}

// counts is how often a repetition may be repeated; high < 0: any number of times.
func counts(re *syntax.Regexp) (low, high int) {
	switch re.Op {
	case syntax.OpStar:
		return 0, -1
	case syntax.OpPlus:
		return 1, -1
	case syntax.OpQuest:
		return 0, 1
	}
	return re.Min, re.Max
}

// lengths is how many characters an expression can match; high < 0: any number.
func lengths(re *syntax.Regexp) (low, high int) {
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune), len(re.Rune)
	case syntax.OpCharClass, syntax.OpAnyCharNotNL, syntax.OpAnyChar:
		return 1, 1
	case syntax.OpCapture:
		return lengths(re.Sub[0])
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		least, most := counts(re)
		low, high = lengths(re.Sub[0])
		if most >= 0 && high >= 0 || most == 0 || high == 0 {
			return min(low*least, endless), min(max(high*most, 0), endless)
		}
		return min(low*least, endless), -1
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			l, h := lengths(sub)
			low = min(low+l, endless)
			if high >= 0 && h >= 0 {
				high = min(high+h, endless)
			} else {
				high = -1
			}
		}
	case syntax.OpAlternate:
		low = endless
		for _, sub := range re.Sub {
			l, h := lengths(sub)
			low = min(low, l)
			if high >= 0 && h >= 0 {
				high = max(high, h)
			} else {
				high = -1
			}
		}
	}
	return low, high
}

// pattern is a JSON string in which a regular expression is found, as JSON schemas have
// it: anywhere, unless ^ and $ say more. Where that can't keep to limits of the length,
// the expression has to match the whole string.
func (b *builder) pattern(pattern string, low, high int) (*node, *Error) {
	re, err := parseRegex(pattern)
	if err != nil {
		return nil, err
	}
	c := regexConverter{b: b, char: escapedOneOf}
	n, err := c.convert(re, true, true)
	if err != nil {
		return nil, err
	}
	whole := n
	if !c.begins {
		n = seq(repeat(b.char(), 0, -1), n)
	}
	if !c.ends {
		n = seq(n, repeat(b.char(), 0, -1))
	}
	least, most := lengths(re)
	switch run := trimmed(re); {
	case least >= low && high < 0:
		return quoted(n), nil
	case least >= low && 0 <= most && most <= high:
		return quoted(whole), nil
	case run != nil:
		least, most = counts(run)
		if most < 0 || high >= 0 && high < most {
			most = high
		}
		if n, err = c.convert(run.Sub[0], false, false); err != nil {
			return nil, err
		}
		return quoted(b.times(n, max(least, low), most)), nil
	}
	return nil, errorf("minLength and maxLength are not supported beside this pattern or format")
}

// trimmed is the repetition of one character that an expression is, but for ^ and $; nil
// if it is none.
func trimmed(re *syntax.Regexp) *syntax.Regexp {
	for {
		var rest []*syntax.Regexp
		switch re.Op {
		case syntax.OpCapture:
			rest = re.Sub
		case syntax.OpConcat:
			for _, sub := range re.Sub {
				if !onlyAssert([]*syntax.Regexp{sub}) {
					rest = append(rest, sub)
				}
			}
		case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
			if low, high := lengths(re.Sub[0]); low == 1 && high == 1 {
				return re
			}
		}
		if len(rest) != 1 {
			return nil
		}
		re = rest[0]
	}
}

// Formats of strings, as regular expressions.
var formats = map[string]string{
	"date":      `^` + datePattern + `$`,
	"time":      `^` + timePattern + `$`,
	"date-time": `^` + datePattern + `T` + timePattern + `$`,
	"uuid":      `^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`,
}

const (
	leapYear    = `([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)`
	datePattern = `([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))|` + leapYear + `-02-29)`
	timePattern = `([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])`
)
