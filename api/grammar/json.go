package grammar

import (
	"fmt"
	"strings"
	"unicode"
)

// Pieces of JSON. Between tokens there may be one blank behind a colon or a comma, and
// nothing else: a model that goes on and on with blanks is stopped by nothing.

// maxDigits keeps numbers within what programs read exactly.
const maxDigits = 15

func (b *builder) space() *node {
	return b.piece("space", func() *node { return optional(text(" ")) })
}

func (b *builder) comma() *node { return seq(text(","), b.space()) }

// plain is what a JSON string holds as it is.
var plain = ranges{{' ', '"' - 1}, {'"' + 1, '\\' - 1}, {'\\' + 1, 0xd7ff}, {0xe000, unicode.MaxRune}}

// char is a character in a JSON string, a pair of escaped surrogates being one.
func (b *builder) char() *node {
	return b.piece("char", func() *node {
		hex := ranges{{'0', '9'}, {'A', 'F'}, {'a', 'f'}}
		code := func(first, second ranges) *node { return seq(oneOf(first), oneOf(second), repeat(oneOf(hex), 2, 2)) }
		d := ranges{{'D', 'D'}, {'d', 'd'}}
		high, low := ranges{{'8', '9'}, {'A', 'B'}, {'a', 'b'}}, ranges{{'C', 'F'}, {'c', 'f'}}
		unit := either(
			code(hex.and(d.not()), hex),
			code(d, ranges{{'0', '7'}}),
			seq(code(d, high), text(`\u`), code(d, low)),
		)
		return either(oneOf(plain), seq(text(`\`), either(oneOfText(`"\/bfnrt`), seq(text("u"), unit))))
	})
}

func (b *builder) string() *node {
	return b.piece("string", func() *node { return quoted(repeat(b.char(), 0, -1)) })
}

func quoted(inside *node) *node { return seq(text(`"`), inside, text(`"`)) }

func digits(low, high int) *node { return repeat(oneOf(ranges{{'0', '9'}}), low, high) }

func (b *builder) integer() *node {
	return b.piece("integer", func() *node {
		positive := seq(oneOf(ranges{{'1', '9'}}), digits(0, maxDigits-1))
		return either(text("0"), seq(optional(text("-")), positive))
	})
}

func (b *builder) number() *node {
	return b.piece("number", func() *node {
		whole := either(text("0"), seq(oneOf(ranges{{'1', '9'}}), digits(0, maxDigits-1)))
		exponent := seq(oneOfText("eE"), optional(oneOfText("+-")), digits(1, 2))
		return seq(optional(text("-")), whole, optional(seq(text("."), digits(1, maxDigits))), optional(exponent))
	})
}

func (b *builder) boolean() *node { return either(text("true"), text("false")) }

func (b *builder) value() *node {
	return b.piece("value", func() *node {
		return either(b.object(), b.array(), b.string(), b.number(), b.boolean(), text("null"))
	})
}

func (b *builder) object() *node {
	return b.piece("object", func() *node { return b.objectOf(b.value()) })
}

// objectOf is an object whose members all have such values.
func (b *builder) objectOf(value *node) *node {
	member := b.define("member", seq(b.string(), text(":"), b.space(), value))
	return seq(text("{"), optional(seq(member, repeat(seq(b.comma(), member), 0, -1))), text("}"))
}

func (b *builder) array() *node {
	return b.piece("array", func() *node {
		return seq(text("["), optional(seq(b.value(), repeat(seq(b.comma(), b.value()), 0, -1))), text("]"))
	})
}

// JSONObject is a grammar of any JSON object.
func JSONObject() string {
	b := newBuilder()
	gbnf, err := b.finish(b.object())
	if err != nil {
		panic(err) // nothing comes in
	}
	return gbnf
}

// escaped is a character as it stands in a JSON string: as it is, or escaped in one way.
func escaped(c rune) string {
	switch c {
	case '"', '\\':
		return `\` + string(c)
	case '\b':
		return `\b`
	case '\f':
		return `\f`
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	if c < ' ' {
		return fmt.Sprintf(`\u%04x`, c)
	}
	return string(c)
}

// quote is a text as a JSON string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		b.WriteString(escaped(c))
	}
	b.WriteByte('"')
	return b.String()
}

// escapedOneOf is a character out of ranges as it stands in a JSON string.
func escapedOneOf(r ranges) *node {
	all := []*node{oneOf(r.and(plain))}
	for _, s := range r {
		for c := s.low; c <= min(s.high, '\\'); c++ {
			if !plain.has(c) {
				all = append(all, text(escaped(c)))
			}
		}
	}
	return either(all...)
}
