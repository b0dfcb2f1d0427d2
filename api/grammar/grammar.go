// Package grammar turns what clients ask an answer to look like into GBNF, the
// grammars that llama.cpp's sampler follows: GBNF itself ([Parse]), a choice of texts
// ([FromChoice]), a regular expression ([FromRegex]), a JSON schema ([FromSchema]).
//
// llama.cpp's parser and matcher recurse without bounds, and loop for ever on some
// grammars that its own check lets pass. So nothing of a client's reaches it as it is:
// a grammar is read here, checked against the limits below, and written anew.
//
// It follows no grammar and knows no vocabulary. An ambiguous grammar can still take
// long to follow; that is stopped where it is followed.
package grammar

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of what is accepted.
const (
	MaxSize       = 64 << 10 // bytes of a grammar, a schema, a pattern, or all choices
	MaxDepth      = 64       // of nested groups, of a schema's values, of a pattern
	MaxRules      = 2000
	MaxRepetition = 2000  // in {m,n}
	MaxWays       = 20000 // in which a rule can begin
	MaxElements   = 50000 // characters and references, with what llama.cpp makes of {m,n}
)

// Error says why something can't be used, in a client's terms.
type Error struct {
	Reason string
	cause  error
}

// What a schema's grammar may turn out to be.
var (
	errEndless       = errors.New("an answer by this grammar never ends")
	errLeftRecursion = errors.New("left recursion is not supported")
)

func (e *Error) Unwrap() error { return e.cause }

// Error is bounded, whatever the input holds.
func (e *Error) Error() string { return fmt.Sprintf("%.300s", strings.ToValidUTF8(e.Reason, "?")) }

func failf(format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{err.Error(), errors.Unwrap(err)}
}

// Grammar is a grammar that was checked.
type Grammar struct {
	rules []rule // the first one is root
}

type rule struct {
	name string
	body node
}

// node is a piece of a rule.
type node interface{}

type (
	alternatives []node // one of them; empty: nothing matches
	sequence     []node // one after the other; empty: the empty text
	literal      string
	reference    int // to a rule
	anything     struct{}
	class        struct {
		negated bool
		ranges  []span
	}
	repetition struct {
		of       node
		min, max int // max < 0: any number
	}
)

type span struct{ low, high rune }

// String writes the grammar in the normal form that is given to llama.cpp.
func (g *Grammar) String() string {
	var b strings.Builder
	for i, r := range g.rules {
		b.WriteString(ruleName(i))
		b.WriteString(" ::= ")
		write(&b, r.body, false)
		b.WriteByte('\n')
	}
	return b.String()
}

func ruleName(i int) string {
	if i == 0 {
		return "root"
	}
	return fmt.Sprintf("r%d", i)
}

// write writes a node; with one set, as something that a repetition can follow.
func write(b *strings.Builder, n node, one bool) {
	switch n := n.(type) {
	case alternatives:
		group(b, one, func() {
			for i, a := range n {
				if i > 0 {
					b.WriteString(" | ")
				}
				write(b, a, isAlternatives(a))
			}
		})
	case sequence:
		if len(n) == 0 {
			b.WriteString(`""`)
			return
		}
		group(b, one, func() {
			for i, part := range n {
				if i > 0 {
					b.WriteByte(' ')
				}
				write(b, part, isAlternatives(part))
			}
		})
	case literal:
		b.WriteByte('"')
		for _, r := range string(n) {
			writeRune(b, r)
		}
		b.WriteByte('"')
	case reference:
		b.WriteString(ruleName(int(n)))
	case anything:
		b.WriteByte('.')
	case class:
		b.WriteByte('[')
		if n.negated {
			b.WriteByte('^')
		}
		for _, s := range n.ranges {
			writeRune(b, s.low)
			if s.high > s.low {
				b.WriteByte('-')
				writeRune(b, s.high)
			}
		}
		b.WriteByte(']')
	case repetition:
		group(b, one, func() {
			write(b, n.of, true)
			switch {
			case n.min == 0 && n.max == 1:
				b.WriteByte('?')
			case n.min == 0 && n.max < 0:
				b.WriteByte('*')
			case n.min == 1 && n.max < 0:
				b.WriteByte('+')
			case n.max < 0:
				fmt.Fprintf(b, "{%d,}", n.min)
			case n.min == n.max:
				fmt.Fprintf(b, "{%d}", n.min)
			default:
				fmt.Fprintf(b, "{%d,%d}", n.min, n.max)
			}
		})
	}
}

func isAlternatives(n node) bool {
	_, ok := n.(alternatives)
	return ok
}

func group(b *strings.Builder, parentheses bool, inside func()) {
	if parentheses {
		b.WriteByte('(')
	}
	inside()
	if parentheses {
		b.WriteByte(')')
	}
}

func writeRune(b *strings.Builder, r rune) {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune(" _,.:;!?/+*=<>(){}|&%$#@~'`", r):
		b.WriteRune(r)
	case r < 0x80:
		fmt.Fprintf(b, `\x%02X`, r)
	case r < 0x10000:
		fmt.Fprintf(b, `\u%04X`, r)
	default:
		fmt.Fprintf(b, `\U%08X`, r)
	}
}

// FromChoice is a grammar of just these texts.
func FromChoice(choices []string) (string, error) {
	size := 0
	var all alternatives
	for i, c := range choices {
		size += len(c)
		if c == "" || !utf8.ValidString(c) || strings.ContainsRune(c, 0) {
			return "", failf("choice %d is empty or no text", i)
		}
		all = append(all, literal(c))
	}
	if size > MaxSize {
		return "", failf("the choices have %d bytes, at most %d are allowed", size, MaxSize)
	}
	if len(all) == 0 {
		return "", failf("there are no choices")
	}
	return finish([]rule{{"root", all}})
}

// finish checks rules and writes them.
func finish(rules []rule) (string, error) {
	g := &Grammar{rules}
	if err := g.check(); err != nil {
		return "", err
	}
	return g.String(), nil
}

// times is n repeated, in pieces where that is more often than llama.cpp repeats.
func times(n node, low, high int) node {
	if low <= MaxRepetition && high <= MaxRepetition {
		return repetition{n, low, high}
	}
	const piece = 1000
	var out sequence
	if low > 0 {
		out = append(out, repetition{repetition{n, piece, piece}, low / piece, low / piece}, repetition{n, low % piece, low % piece})
	}
	switch more := high - low; {
	case high < 0:
		out = append(out, repetition{n, 0, -1})
	case more > 0:
		out = append(out, repetition{repetition{n, 0, piece}, 0, more / piece}, repetition{n, 0, more % piece})
	}
	return out
}
