package grammar

import (
	"math/big"
	"strconv"
	"strings"
)

// Between the parts of a value at most one blank, so that no model can go on with
// blanks for ever.
var (
	colon = sequence{literal(":"), repetition{literal(" "), 0, 1}}
	comma = sequence{literal(","), repetition{literal(" "), 0, 1}}
	digit = class{ranges: []span{{'0', '9'}}}
)

// anyValue is the schema of everything.
var anyValue = &value{kind: 't'}

func (c *converter) anything() node {
	return c.rule("any value", func() node {
		return alternatives{c.object(anyValue), c.list(anyValue, "$", 0, -1), c.text(), number(), literal("true"), literal("false"), literal("null")}
	})
}

func (c *converter) text() node {
	return c.rule("any string", func() node {
		return sequence{literal(`"`), repetition{c.char(), 0, -1}, literal(`"`)}
	})
}

// char is any character of a string.
func (c *converter) char() node {
	return c.rule("character", func() node {
		hex := class{ranges: []span{{'0', '9'}, {'a', 'f'}, {'A', 'F'}}}
		return alternatives{
			class{ranges: unescaped},
			sequence{literal(`\`), alternatives{class{ranges: []span{{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 'b'}, {'f', 'f'}, {'n', 'n'}, {'r', 'r'}, {'t', 't'}}}, sequence{literal("u"), repetition{hex, 4, 4}}}},
		}
	})
}

// object is an object of any members whose values follow a schema.
func (c *converter) object(of *value) node {
	m := sequence{c.text(), colon, c.visit(of, "$")}
	return sequence{literal("{"), repetition{sequence{m, repetition{sequence{comma, m}, 0, -1}}, 0, 1}, literal("}")}
}

func (c *converter) objectOf(s *value, at string) node {
	properties, required, additional := s.get("properties"), map[string]bool{}, s.get("additionalProperties")
	var members []member
	if properties != nil {
		if properties.kind != '{' {
			return c.fail(at+".properties", "expected an object")
		}
		members = append(members, properties.members...)
	}
	if r := s.get("required"); r != nil {
		for _, name := range r.items {
			if required[name.text] {
				continue
			}
			required[name.text] = true
			if properties == nil || properties.get(name.text) == nil {
				if additional != nil && additional.kind == 'f' {
					return c.fail(at+".required", "%.60q is no property, and no others are allowed", name.text)
				}
				members = append(members, member{name.text, orAny(additional)})
			}
		}
	}
	if len(members) == 0 {
		if additional != nil && additional.kind == 'f' || properties != nil && additional == nil {
			return literal("{}")
		}
		return c.object(orAny(additional))
	}
	// From the last member to the first: what may follow, if a member went before or not.
	var rest [2]node
	rest[0], rest[1] = sequence{}, sequence{}
	for i := len(members) - 1; i >= 0; i-- {
		m := members[i]
		one := sequence{literal(quoted(m.name)), colon, c.visit(m.value, at+".properties."+m.name)}
		var next [2]node
		for before := range next {
			name := at + " member " + strconv.Itoa(i) + " " + strconv.Itoa(before)
			with := sequence{one, rest[1]}
			if before == 1 {
				with = sequence{comma, one, rest[1]}
			}
			body := node(with)
			if !required[m.name] {
				body = alternatives{with, rest[before]}
			}
			if before == 1 && i == 0 {
				continue // nothing goes before the first one
			}
			next[before] = c.rule(name, func() node { return body })
		}
		rest = next
	}
	return sequence{literal("{"), rest[0], literal("}")}
}

func orAny(s *value) *value {
	if s == nil {
		return anyValue
	}
	return s
}

func (c *converter) arrayOf(s *value, at string) node {
	low, high := c.bounds(s, at, "minItems", "maxItems")
	items, prefix := s.get("items"), s.get("prefixItems")
	if items != nil && items.kind == '[' { // before draft 2020
		items, prefix = s.get("additionalItems"), items
	}
	if prefix == nil {
		if items != nil && items.kind == 'f' {
			return literal("[]")
		}
		return c.list(orAny(items), at+".items", low, high)
	}
	if low > len(prefix.items) && items != nil && items.kind == 'f' || high >= 0 && high < len(prefix.items) {
		return c.fail(at, "minItems and maxItems do not fit the %d items that are listed", len(prefix.items))
	}
	out := sequence{literal("[")}
	for i, item := range prefix.items {
		if i > 0 {
			out = append(out, comma)
		}
		out = append(out, c.visit(item, at+".prefixItems["+strconv.Itoa(i)+"]"))
	}
	if more := low - len(prefix.items); more > 0 {
		out = append(out, times(sequence{comma, c.visit(orAny(items), at+".items")}, more, more))
	}
	return append(out, literal("]"))
}

// list is an array of low to high items, high < 0 being any number.
func (c *converter) list(of *value, at string, low, high int) node {
	if high == 0 {
		return literal("[]")
	}
	item := c.visit(of, at)
	full := sequence{item, times(sequence{comma, item}, max(0, low-1), max(-1, high-1))}
	if low == 0 {
		return sequence{literal("["), repetition{full, 0, 1}, literal("]")}
	}
	return sequence{literal("["), full, literal("]")}
}

// bounds reads two numbers of things; high < 0 is any number.
func (c *converter) bounds(s *value, at, least, most string) (low, high int) {
	read := func(name string, otherwise int) int {
		v := s.get(name)
		if v == nil {
			return otherwise
		}
		n, err := strconv.Atoi(strings.TrimSuffix(v.text, ".0"))
		if v.kind != 'n' || err != nil || n < 0 || n > MaxElements {
			c.fail(at+"."+name, "expected a number from 0 to %d", MaxElements)
			return otherwise
		}
		return n
	}
	low, high = read(least, 0), read(most, -1)
	if high >= 0 && high < low {
		c.fail(at, "%s is below %s", most, least)
	}
	return low, high
}

const (
	// Without 29 February: not every year has one.
	date  = `\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))`
	clock = `([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)`
)

// Formats of strings that are followed; others say nothing.
var formats = map[string]string{
	"date":      date,
	"time":      clock,
	"date-time": date + "T" + clock,
	"uuid":      `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`,
	"ipv4":      `((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)`,
	"email":     `[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+`,
}

func (c *converter) stringOf(s *value, at string) node {
	pattern, format := s.get("pattern"), s.get("format")
	low, high := c.bounds(s, at, "minLength", "maxLength")
	search, expression := true, ""
	switch {
	case pattern != nil && pattern.kind != 's':
		return c.fail(at+".pattern", "expected a string")
	case pattern != nil:
		expression = pattern.text
	case format != nil && formats[format.text] != "":
		expression, search = formats[format.text], false
	default:
		if low == 0 && high < 0 {
			return c.text()
		}
		return sequence{literal(`"`), times(c.char(), low, high), literal(`"`)}
	}
	if low > 0 || high >= 0 || pattern != nil && format != nil && formats[format.text] != "" {
		return c.fail(at, "a pattern or format beside another limit of the string is not supported")
	}
	n, err := regex(expression, inString, search)
	if err != nil {
		return c.fail(at+".pattern", "%v", err)
	}
	return sequence{literal(`"`), n, literal(`"`)}
}

// Digits of a number, so that it ends.
const maxDigits = 18

func number() node {
	return sequence{repetition{literal("-"), 0, 1}, whole(), fraction(), repetition{exponent(), 0, 1}}
}

func whole() node {
	return alternatives{literal("0"), sequence{class{ranges: []span{{'1', '9'}}}, repetition{digit, 0, maxDigits - 1}}}
}

func fraction() node {
	return repetition{sequence{literal("."), repetition{digit, 1, maxDigits}}, 0, 1}
}

func exponent() node {
	return sequence{class{ranges: []span{{'e', 'e'}, {'E', 'E'}}}, repetition{class{ranges: []span{{'+', '+'}, {'-', '-'}}}, 0, 1}, repetition{digit, 1, 2}}
}

func (c *converter) numberOf(s *value, at string, integer bool) node {
	low := c.limit(s, at, "minimum", "exclusiveMinimum", 1, integer)
	high := c.limit(s, at, "maximum", "exclusiveMaximum", -1, integer)
	switch {
	case c.err != nil:
		return sequence{}
	case low != nil && high != nil && low.Cmp(high) > 0:
		return c.fail(at, "no number is at least %s and at most %s", low, high)
	case low == nil && high == nil && !integer:
		return number()
	}
	most := new(big.Int).Sub(new(big.Int).Exp(big.NewInt(10), big.NewInt(maxDigits), nil), big.NewInt(1))
	if low == nil {
		low = new(big.Int).Neg(most)
	}
	if high == nil {
		high = most
	}
	zero := new(big.Int)
	var out alternatives
	if high.Sign() >= 0 {
		out = append(out, magnitudes(bigger(low, zero), high, integer))
	}
	if low.Sign() < 0 {
		largest, least := new(big.Int).Neg(low), zero
		if high.Sign() < 0 {
			least = new(big.Int).Neg(high)
		} else if integer {
			least = big.NewInt(1) // no -0
		}
		out = append(out, sequence{literal("-"), magnitudes(least, largest, integer)})
	}
	return out
}

func bigger(a, b *big.Int) *big.Int {
	if a.Cmp(b) > 0 {
		return a
	}
	return b
}

// limit reads a bound; step leads from an exclusive one to the next integer.
func (c *converter) limit(s *value, at, keyword, exclusive string, step int64, integer bool) *big.Int {
	var bound *big.Int
	for _, name := range []string{keyword, exclusive} {
		v := s.get(name)
		if v == nil {
			continue
		}
		r, ok := new(big.Rat).SetString(v.text)
		switch {
		case v.kind != 'n' || len(v.text) > maxDigits+2 || strings.ContainsAny(v.text, "eE") || !ok:
			c.fail(at+"."+name, "expected a number of at most %d digits", maxDigits)
			return nil
		case !r.IsInt() || name == exclusive && !integer:
			c.fail(at+"."+name, "only whole numbers are supported as limits, and exclusive ones for integers only")
			return nil
		}
		n := new(big.Int).Set(r.Num())
		if name == exclusive {
			n.Add(n, big.NewInt(step))
		}
		if bound == nil || n.Cmp(bound)*int(step) > 0 {
			bound = n
		}
	}
	return bound
}

// magnitudes are the numbers from low to high, neither below 0, without a sign.
func magnitudes(low, high *big.Int, integer bool) node {
	if integer {
		return integers(low, high)
	}
	// A fraction may follow all but the last.
	zeros := repetition{sequence{literal("."), repetition{literal("0"), 1, maxDigits}}, 0, 1}
	last := sequence{literal(high.String()), zeros}
	if low.Cmp(high) == 0 {
		return last
	}
	return alternatives{sequence{integers(low, new(big.Int).Sub(high, big.NewInt(1))), fraction()}, last}
}

// integers are those from low to high as they are written, number of digits by number
// of digits.
func integers(low, high *big.Int) node {
	var out alternatives
	from, to := low.String(), high.String()
	for len(from) < len(to) {
		out = append(out, digits(from, strings.Repeat("9", len(from))))
		from = "1" + strings.Repeat("0", len(from))
	}
	return append(out, digits(from, to))
}

// digits are the texts of digits from low to high, both of one length.
func digits(low, high string) node {
	n := len(low) - 1
	switch {
	case low == high:
		return text(low)
	case low[0] == high[0]:
		return sequence{literal(low[:1]), digits(low[1:], high[1:])}
	}
	zeros, nines := strings.Repeat("0", n), strings.Repeat("9", n)
	first, last := rune(low[0]), rune(high[0])
	var out alternatives
	if low[1:] != zeros {
		out = append(out, sequence{literal(low[:1]), digits(low[1:], nines)})
		first++
	}
	if high[1:] != nines {
		last--
	}
	if first <= last {
		out = append(out, sequence{class{ranges: []span{{first, last}}}, repetition{digit, n, n}})
	}
	if high[1:] != nines {
		out = append(out, sequence{literal(high[:1]), digits(zeros, high[1:])})
	}
	return out
}
