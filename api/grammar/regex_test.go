package grammar

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

var patterns = []string{
	`abc`, `a|bc|`, `[a-c]+x?`, `(ab){2,3}`, `^a.c$`, `(?i)aB1k`, `(?i)[x-z]ß`, `\d{3}-\d{4}`, `\w+@\w+\.com`, `a*b*`, `(a|b)*c`, `[^a-c]`, `\.\\"`,
	`(?s)a.b`, `x{0,2}y{2,}`, `(?:a(?:b(?:c)?)?)?`, `[\]\-^]+`, `é+🦜`, `^(yes|no)$`, `\A(a|^b)(c$|d\z)`, `a{0}b`, `(a*)*b`, `(a?){3}`, `(a|b?|(c*d*)*)+x`, `\pL\PL\p{Greek}?`,
	`(?:^a|b)c`, `a{70}`, `a{3,150}b`, `(ab?){0,100}c`, `x{65,}`, `[^\n"]*`, `(?U)a+b`, `(?P<n>a)(?<m>b)`, `[[:alpha:]]\s\S`, ``, `^$`, `(^)a`,
}

// A text is accepted if and only if the regular expression matches it.
func TestRegex(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, pattern := range patterns {
		gbnf, err := FromRegex(pattern)
		g := must(t, gbnf, err)
		l := checkLlama(t, g)
		r := newGenerator(g, rng)
		whole := regexp.MustCompile(`\A(?:` + pattern + `)\z`)
		for i := range 200 {
			text := r.text(30)
			if !whole.MatchString(text) {
				t.Fatalf("%s does not match %q, which its grammar gives:\n%s", pattern, text, g)
			}
			near := spoilt(rng, text)
			if want := whole.MatchString(near); g.matches(near) != want || i%10 == 0 && l.follow(near) != want {
				t.Fatalf("%s: %q is %v by the pattern, not by its grammar\n%s", pattern, near, want, g)
			}
		}
	}
	for range 300 { // and patterns at random
		pattern := randomPattern(rng, 3)
		gbnf, err := FromRegex(pattern)
		if err != nil {
			continue // too ambiguous
		}
		g := must(t, gbnf, err)
		checkLlama(t, g)
		whole := regexp.MustCompile(`\A(?:` + pattern + `)\z`)
		for range 30 {
			text := strings.Repeat("abc", 5)[rng.IntN(3):][:rng.IntN(8)]
			if text = spoilt(rng, text); g.matches(text) != whole.MatchString(text) {
				t.Fatalf("%s, %q: the pattern says %v\n%s", pattern, text, whole.MatchString(text), g)
			}
		}
	}
}

func randomPattern(rng *rand.Rand, depth int) string {
	if depth == 0 {
		return []string{"a", "b", "c", "[ab]", ".", "", "(?i)A", "[^a]"}[rng.IntN(8)]
	}
	sub := func() string { return "(" + randomPattern(rng, depth-1) + ")" }
	switch rng.IntN(7) {
	case 0:
		return sub() + "*"
	case 1:
		return sub() + "?"
	case 2:
		return sub() + "{1,3}"
	case 3:
		return sub() + "|" + sub()
	case 4:
		return sub() + "+"
	}
	return sub() + sub() + sub()
}

func TestRegexRefuses(t *testing.T) {
	for want, all := range map[string][]string{
		"missing closing )":           {`(`, strings.Repeat("(", 500)},
		"unexpected )":                {`)`},
		"invalid or unsupported Perl": {`(?=a)`, `(?!a)b`},
		"invalid escape":              {`(a)\1`, `\u0041`},
		"invalid repeat count":        {`a{1,999999}`, `((a{100}){100}){100}`},
		"invalid UTF-8":               {"\xff"},
		"nests too deeply":            {strings.Repeat("(", 2000) + strings.Repeat(")", 2000)},
		"assertion":                   {`a\b`, `\Ba`, `a^b`, `a$b`, `(?m)^a$`, `(^a)*`, `(a$)+b`, `(a|b$)c`},
		"the limit is 8192":           {strings.Repeat("a", 9000)},
		"no answer is possible":       {`[^\x00-\x{10FFFF}]`, `\x00`, `a[\x00]+`},
		"character being read":        {strings.Repeat("a?", 1500)},
		"can begin in":                {strings.Repeat("(a*|b?)", 100)},
		"nested more than 64":         {strings.Repeat("(a|(", 100) + "b" + strings.Repeat(")*b)", 100)},
	} {
		for _, pattern := range all {
			_, err := FromRegex(pattern)
			refuses(t, err, want)
		}
	}
	for _, large := range []string{strings.Repeat(`\pL`, 1365), strings.Repeat(`(?i)\pL\PL`, 400), strings.Repeat("a{1000}", 500)} {
		gbnf, err := FromRegex(large)
		checkLlama(t, must(t, gbnf, err))
	}
}

func FuzzRegex(f *testing.F) {
	for _, p := range patterns {
		f.Add(p, "abc")
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		gbnf, err := FromRegex(pattern)
		if err != nil {
			refuses(t, err, "")
			return
		}
		g := must(t, gbnf, nil)
		again(t, g)
		if len(text) > 30 || len(pattern) > 60 || !utf8.ValidString(text) || strings.Contains(text, "\x00") {
			return
		}
		whole, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
		if err == nil && g.matches(text) != whole.MatchString(text) { // the pattern may leave something open, such as \Q
			t.Fatalf("%q, %q: the pattern says %v\n%s", pattern, text, whole.MatchString(text), g)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("root ::= \"a\" | [b-c]{2,3} x*\nx ::= (\"d\" | .)+ # y\n")
	f.Add("root ::= ws*\nws ::= ([ ]? \"\\x41\")*")
	f.Add("root ::= (a b?)* (\"\" | \"x\"){0,2}\na ::= b*\nb ::= [^\\n-\\]] | root \"y\"")
	f.Add(JSONObject())
	f.Fuzz(func(t *testing.T, gbnf string) {
		g, err := Parse(gbnf)
		if err != nil {
			refuses(t, err, "")
			return
		}
		again(t, g)
		checkLlama(t, g)
	})
}
