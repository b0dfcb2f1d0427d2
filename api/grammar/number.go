package grammar

import (
	"strconv"
	"strings"
)

// decimal is a number as it is written without exponent.
type decimal struct {
	negative bool
	whole    string // digits; "0", or without leading zeros
	fraction string // digits, without trailing zeros
}

// maxExponent is beyond what float64 holds.
const maxExponent = 400

// parseDecimal reads a JSON number; ok is false for one that is absurdly large or small.
func parseDecimal(s string) (d decimal, ok bool) {
	s, d.negative = strings.CutPrefix(s, "-")
	mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	e := 0
	if exponent != "" {
		var err error
		if e, err = strconv.Atoi(exponent); err != nil || e > maxExponent || e < -maxExponent {
			return d, false
		}
	}
	d.whole, d.fraction, _ = strings.Cut(mantissa, ".")
	if e > 0 {
		d.fraction += strings.Repeat("0", max(0, e-len(d.fraction)))
		d.whole, d.fraction = d.whole+d.fraction[:e], d.fraction[e:]
	} else if e < 0 {
		d.whole = strings.Repeat("0", max(0, -e-len(d.whole))) + d.whole
		at := len(d.whole) + e
		d.whole, d.fraction = d.whole[:at], d.whole[at:]+d.fraction
	}
	d.fraction = strings.TrimRight(d.fraction, "0")
	if d.whole = strings.TrimLeft(d.whole, "0"); d.whole == "" {
		d.whole = "0"
	}
	if d.isZero() {
		d.negative = false
	}
	return d, true
}

func (d decimal) isZero() bool { return d.whole == "0" && d.fraction == "" }

func (d decimal) String() string {
	s := d.whole
	if d.fraction != "" {
		s += "." + d.fraction
	}
	if d.negative {
		return "-" + s
	}
	return s
}

func (d decimal) compare(o decimal) int {
	switch {
	case d.negative != o.negative:
		if d.negative {
			return -1
		}
		return 1
	case d.negative:
		d, o = o, d
	}
	if len(d.whole) != len(o.whole) {
		return len(d.whole) - len(o.whole)
	}
	if c := strings.Compare(d.whole, o.whole); c != 0 {
		return c
	}
	return strings.Compare(d.fraction, o.fraction)
}

// bound is a limit of a number; nil is none.
type bound struct {
	decimal
	exclusive bool
}

// allows tells whether a number is within a lower and an upper bound.
func allows(low, high *bound, d decimal) bool {
	if low != nil {
		if c := d.compare(low.decimal); c < 0 || c == 0 && low.exclusive {
			return false
		}
	}
	if high != nil {
		if c := d.compare(high.decimal); c > 0 || c == 0 && high.exclusive {
			return false
		}
	}
	return true
}

// maxBoundDigits are the digits of a bound, before the point and behind it: enough for
// 64-bit integers.
const maxBoundDigits = 20

// between is a number within bounds, written without an exponent. The bounds are kept
// exactly.
func between(low, high *bound, fraction bool) (*node, *Error) {
	for _, b := range []*bound{low, high} {
		if b != nil && len(b.fraction) > maxBoundDigits {
			return nil, errorf("a limit has more than %d decimals", maxBoundDigits)
		}
	}
	if low != nil && len(low.whole) > maxBoundDigits {
		if !low.negative {
			return nil, errorf("a limit has more than %d digits", maxBoundDigits)
		}
		low = nil // less than whatever is written
	}
	if high != nil && len(high.whole) > maxBoundDigits {
		if high.negative {
			return nil, errorf("a limit has more than %d digits", maxBoundDigits)
		}
		high = nil
	}
	zero := decimal{whole: "0"}
	var all []*node
	if high == nil || !high.negative {
		from := &bound{decimal: zero}
		if low != nil && !low.negative {
			from = low
		}
		all = append(all, magnitude(from, high, fraction))
	}
	if low == nil || low.negative {
		from := &bound{decimal: zero, exclusive: true} // no -0
		if high != nil && high.negative {
			from = high
		}
		all = append(all, seq(text("-"), magnitude(from, low, fraction)))
	}
	return either(all...), nil
}

// magnitude is a number from low up to high, if that is not nil, signs aside.
func magnitude(low, high *bound, fraction bool) *node {
	w := walker{low: low, high: high, decimals: max(maxDigits, len(low.fraction)+1)}
	shortest, longest := len(low.whole), max(maxDigits, len(low.whole))
	if high != nil {
		longest = len(high.whole)
		w.decimals = max(w.decimals, len(high.fraction))
	}
	if !fraction {
		w.decimals = 0
	}
	if shortest > longest {
		return never
	}
	w.length = shortest
	all := []*node{w.from(0, true, high != nil && shortest == longest)}
	if between := longest; shortest < longest {
		w.length = longest
		if high != nil {
			between--
			all = append(all, w.from(0, false, true))
		}
		if shortest < between {
			all = append(all, seq(oneOf(ranges{{'1', '9'}}), digits(shortest, between-1), w.free(longest)))
		}
	}
	return either(all...)
}

// walker walks the digits of numbers that have as many before the point as length says,
// and at most as many behind it as decimals says.
type walker struct {
	low, high        *bound
	length, decimals int
}

// from is what can follow i digits, which are those of low, or high, or both.
func (w *walker) from(i int, atLow, atHigh bool) *node {
	if !atLow && !atHigh {
		return w.free(i)
	}
	var all []*node
	low, high := w.low.whole+w.low.fraction, ""
	if atHigh {
		high = w.high.whole + w.high.fraction
	}
	if i >= w.length && (!atLow || i >= len(low) && !w.low.exclusive) && (!atHigh || i < len(high) || !w.high.exclusive) {
		all = append(all, empty)
	}
	if i == w.length+w.decimals {
		return either(all...)
	}
	digit := func(s string) rune {
		if i < len(s) {
			return rune(s[i])
		}
		return '0'
	}
	point := empty
	if i == w.length {
		point = text(".")
	}
	next := func(least, most rune, atLow, atHigh bool) {
		if least <= most {
			all = append(all, seq(point, oneOf(ranges{{least, most}}), w.from(i+1, atLow, atHigh)))
		}
	}
	least, most := '0', '9'
	if i == 0 && w.length > 1 {
		least = '1'
	}
	if atLow {
		least = digit(low)
	}
	if atHigh {
		most = digit(high)
	}
	switch {
	case atLow && atHigh && least == most:
		next(least, most, true, true)
		return either(all...)
	case least > most:
		return either(all...)
	}
	if atLow {
		next(least, least, true, false)
		least++
	}
	if atHigh {
		next(most, most, false, true)
		most--
	}
	next(least, most, false, false)
	return either(all...)
}

// free is what can follow i digits that are within the bounds whatever follows.
func (w *walker) free(i int) *node {
	if i > w.length {
		return digits(0, w.length+w.decimals-i)
	}
	n := digits(w.length-i, w.length-i)
	if w.decimals > 0 {
		n = seq(n, optional(seq(text("."), digits(1, w.decimals))))
	}
	return n
}
