package grammar

import (
	"regexp/syntax"
	"unicode"
	"unicode/utf8"
)

// FromRegex is a grammar of the texts that a regular expression matches as a whole, in
// RE2's syntax. Assertions other than ^ and $ at the ends are not supported.
func FromRegex(pattern string) (string, error) {
	n, err := regex(pattern, func(r []span) node { return class{ranges: r} }, false)
	if err != nil {
		return "", err
	}
	return finish([]rule{{"root", n}})
}

// regex converts a pattern; chars gives the node of one character out of ranges. With
// search set, a pattern without ^ or $ may be found anywhere in the text.
func regex(pattern string, chars func([]span) node, search bool) (node, error) {
	if len(pattern) > MaxSize/16 {
		return nil, failf("the pattern has %d bytes, at most %d are allowed", len(pattern), MaxSize/16)
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, failf("%v", err)
	}
	c := regexConverter{chars: chars}
	n, err := c.convert(re, true, true, 0)
	if err != nil {
		return nil, err
	}
	if search {
		anywhere := repetition{chars([]span{{0, utf8.MaxRune}}), 0, -1}
		var around sequence
		if !c.begins {
			around = append(around, anywhere)
		}
		around = append(around, n)
		if !c.ends {
			around = append(around, anywhere)
		}
		n = around
	}
	return n, nil
}

type regexConverter struct {
	chars        func([]span) node
	begins, ends bool // ^ and $ were there
}

// convert converts an expression at the beginning or the end of the pattern, or within.
func (c *regexConverter) convert(re *syntax.Regexp, atBegin, atEnd bool, depth int) (node, error) {
	if depth > 4*MaxDepth {
		return nil, failf("the pattern is nested too deep")
	}
	switch re.Op {
	case syntax.OpEmptyMatch:
		return sequence{}, nil
	case syntax.OpLiteral:
		return c.literal(re), nil
	case syntax.OpCharClass:
		if len(re.Rune) == 0 {
			return nil, failf("the pattern has a class of no characters")
		}
		var ranges []span
		for i := 0; i < len(re.Rune); i += 2 {
			ranges = append(ranges, span{re.Rune[i], re.Rune[i+1]})
		}
		return c.chars(ranges), nil
	case syntax.OpAnyCharNotNL:
		return c.chars([]span{{0, '\n' - 1}, {'\n' + 1, utf8.MaxRune}}), nil
	case syntax.OpAnyChar:
		return c.chars([]span{{0, utf8.MaxRune}}), nil
	case syntax.OpBeginText:
		if atBegin {
			c.begins = true
			return sequence{}, nil
		}
	case syntax.OpEndText:
		if atEnd {
			c.ends = true
			return sequence{}, nil
		}
	case syntax.OpCapture:
		return c.convert(re.Sub[0], atBegin, atEnd, depth+1)
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		of, err := c.convert(re.Sub[0], false, false, depth+1)
		bounds := map[syntax.Op][2]int{syntax.OpStar: {0, -1}, syntax.OpPlus: {1, -1}, syntax.OpQuest: {0, 1}, syntax.OpRepeat: {re.Min, re.Max}}[re.Op]
		return times(of, bounds[0], bounds[1]), err
	case syntax.OpConcat:
		var out sequence
		for i, sub := range re.Sub {
			n, err := c.convert(sub, atBegin && i == 0, atEnd && i == len(re.Sub)-1, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		}
		return out, nil
	case syntax.OpAlternate:
		var out alternatives
		for _, sub := range re.Sub {
			n, err := c.convert(sub, false, false, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		}
		return out, nil
	}
	return nil, failf("the pattern has %q, which is supported at its ends only, if at all", re.String())
}

func (c *regexConverter) literal(re *syntax.Regexp) node {
	var out sequence
	for _, r := range re.Rune {
		ranges := []span{{r, r}}
		if re.Flags&syntax.FoldCase != 0 {
			for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
				ranges = append(ranges, span{f, f})
			}
		}
		out = append(out, c.chars(ranges))
	}
	return out
}
