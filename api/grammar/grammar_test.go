package grammar

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// ends is where a match of n can end that begins at one of the places.
func (g *Grammar) ends(n node, s string, places []int) []int {
	var out []int
	switch n := n.(type) {
	case alternatives:
		for _, a := range n {
			out = append(out, g.ends(a, s, places)...)
		}
	case sequence:
		out = places
		for _, part := range n {
			out = g.ends(part, s, out)
		}
	case literal:
		for _, p := range places {
			if strings.HasPrefix(s[p:], string(n)) {
				out = append(out, p+len(n))
			}
		}
	case anything:
		return g.ends(class{negated: true}, s, places)
	case class:
		for _, p := range places {
			r, size := utf8.DecodeRuneInString(s[p:])
			if size > 0 && n.negated != slices.ContainsFunc(n.ranges, func(x span) bool { return x.low <= r && r <= x.high }) {
				out = append(out, p+size)
			}
		}
	case reference:
		if len(places) > 0 {
			out = g.ends(g.rules[n].body, s, places)
		}
	case repetition:
		if n.min == 0 {
			out = slices.Clone(places)
		}
		seen := map[string]bool{}
		for i := 1; (n.max < 0 || i <= n.max) && len(places) > 0; i++ {
			places = g.ends(n.of, s, places)
			if i >= n.min {
				if key := fmt.Sprint(places); n.max < 0 && seen[key] {
					break
				} else {
					seen[key] = true
				}
				out = append(out, places...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (g *Grammar) matches(s string) bool {
	return slices.Contains(g.ends(reference(0), s, []int{0}), len(s))
}

// random is a text that a node matches; with less fuel left, a shorter one.
func (g *Grammar) random(rng *rand.Rand, n node, fuel *int) string {
	*fuel--
	switch n := n.(type) {
	case alternatives:
		if *fuel < 0 { // the last ones are the simple ones in what is generated here
			return g.random(rng, n[len(n)-1-rng.IntN((len(n)+2)/3)], fuel)
		}
		return g.random(rng, n[rng.IntN(len(n))], fuel)
	case sequence:
		out := ""
		for _, part := range n {
			out += g.random(rng, part, fuel)
		}
		return out
	case literal:
		return string(n)
	case anything:
		return "."
	case class:
		for {
			r := rune(rng.IntN(0x250))
			if !n.negated {
				s := n.ranges[rng.IntN(len(n.ranges))]
				r = s.low + rune(rng.IntN(min(0x100, int(s.high-s.low)+1)))
			}
			if n.negated != slices.ContainsFunc(n.ranges, func(x span) bool { return x.low <= r && r <= x.high }) {
				return string(r)
			}
		}
	case reference:
		return g.random(rng, g.rules[n].body, fuel)
	case repetition:
		most := n.max
		if most < 0 {
			most = n.min + 3
		}
		times := n.min
		if *fuel > 0 {
			times += rng.IntN(min(most-n.min, 4) + 1)
		}
		out := ""
		for range times {
			out += g.random(rng, n.of, fuel)
		}
		return out
	}
	panic("a node of unknown type")
}

func parse(t *testing.T, gbnf string) *Grammar {
	t.Helper()
	g, err := Parse(gbnf)
	if err != nil {
		t.Fatalf("%.200q: %v", gbnf, err)
	}
	return g
}

func TestParse(t *testing.T) {
	tests := []struct {
		gbnf    string
		yes, no []string
	}{
		{`root ::= "a" | "b"`, []string{"a", "b"}, []string{"", "c", "ab"}},
		{"root ::= \"a\"\n | \"b\" |\n \"c\" # one of them\n", []string{"a", "b", "c"}, []string{""}},
		{"# first\n\nroot ::= x-1 x_2\r\nx-1 ::= [a-c]\nx_2 ::= [^a-c\\n]\n", []string{"az", "cé"}, []string{"aa", "a\n"}},
		{`root ::= ("a" ("b" | "c")?)+`, []string{"a", "ab", "aca"}, []string{"", "b"}},
		{`root ::= [0-9]{2} "-" [a-]{1,} . "x"{0,2}`, []string{"12-a.", "12---é", "12-a.xx"}, []string{"1-a.", "12-.xxx"}},
		{`root ::= "\x41\u00e9\U0001F99C\t\"\\\[\]\-"`, []string{"Aé🦜\t\"\\[]-"}, []string{"A"}},
		{`root ::= [\]\x5E\-a-b]+`, []string{"]^-ab"}, []string{"c"}},
		{"root ::= (\n \"a\"\n \"b\"\n)", []string{"ab"}, []string{"a"}},
		{`root ::= "" "a" ""`, []string{"a"}, []string{""}},
		{"root ::= ws \"x\" ws\nws ::= [ \\t]* ws2\nws2 ::= \" \"?", []string{"x", " x\t "}, []string{"xx"}},
		// What may be empty, repeated without end.
		{"root ::= ws* \"x\"\nws ::= [ ]*", []string{"x", "   x"}, []string{"y"}},
		{`root ::= ("a"?)+ "b"`, []string{"b", "ab", "aab"}, []string{"a"}},
		{`root ::= (("a" | "")* | "c"?)* "b"`, []string{"b", "acb", "caab"}, []string{"a"}},
		{"root ::= x* \"b\"\nx ::= y\ny ::= \"a\" |", []string{"b", "aab"}, []string{"a"}},
		{"root ::= \"(\" root \")\" | \"\"", []string{"", "()", "(())"}, []string{"("}},
	}
	for _, tt := range tests {
		g := parse(t, tt.gbnf)
		again := parse(t, g.String())
		for _, g := range []*Grammar{g, again} {
			for _, s := range tt.yes {
				if !g.matches(s) {
					t.Errorf("%q does not match %q", tt.gbnf, s)
				}
			}
			for _, s := range tt.no {
				if g.matches(s) {
					t.Errorf("%q matches %q", tt.gbnf, s)
				}
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	many := func(n int, f func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(f(i))
		}
		return b.String()
	}
	for want, gbnf := range map[string]string{
		"is not defined":              `root ::= x`,
		`rule "root" is not defined`:  `x ::= "a"`,
		"defined twice":               "root ::= \"a\"\nroot ::= \"b\"",
		"expected ::=":                `root "a"`,
		"expected the name of a rule": `"a"`,
		"expected )":                  `root ::= ("a"`,
		"the end of the rule":         `root ::= "a")`,
		`expected "`:                  `root ::= "a`,
		"expected ]":                  `root ::= [a`,
		"in []":                       `root ::= []`,
		"behind its beginning":        `root ::= [z-a]`,
		"number of a character":       `root ::= "\uD800"`,
		"an escaped character":        `root ::= "\q"`,
		"character of value 0":        `root ::= "\x00"`,
		"tokens can't be named":       `root ::= <think>`,
		"expected a number":           `root ::= "a"{}`,
		"expected }":                  `root ::= "a"{1`,
		"{2,1}":                       `root ::= "a"{2,1}`,
		"at most 2000 is allowed":     `root ::= "a"{1,999999}`,
		"nested more than 64 deep":    "root ::= " + strings.Repeat("(", 20000) + `"a"`,
		"repetitions are nested":      `root ::= "a"` + strings.Repeat("?", 20000),
		"at most 65536 are allowed":   "root ::= " + strings.Repeat("(", 70000),
		"more than 2000 rules":        "root ::= " + many(5000, func(i int) string { return fmt.Sprintf("r%d ", i) }),
		"more than 50000 elements":    "root ::= " + strings.Repeat("[a-z]{2000} ", 20),
		"begins with itself":          `root ::= root "a" | "b"`,
		`rule "x" begins with itself`: "root ::= \"a\" x\nx ::= y\ny ::= \"c\"? x \"b\" | \"d\"",
		"never ends":                  `root ::= "a" root`,
		"repeats without end":         `root ::= ("a"? "b"?)*`,
		"not valid UTF-8":             "root ::= \"\xff\"",
	} {
		_, err := Parse(gbnf)
		var refused *Error
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) || len(err.Error()) > 300 {
			t.Errorf("%.60q: got %v, want %q", gbnf, err, want)
		}
	}
	// Each rule twice in the one before.
	twice := "root ::= (r0)*\n" + many(60, func(i int) string { return fmt.Sprintf("r%d ::= r%d? | r%d*\n", i, i+1, i+1) }) + "r60 ::= \"x\"?"
	if _, err := Parse(twice); err == nil || !strings.Contains(err.Error(), "more than 20000 ways") {
		t.Errorf("2^60 ways: %v", err)
	}
	// Nullable through another rule: llama.cpp's own check lets it pass and loops.
	if g := parse(t, "root ::= b* \"x\"\nb ::= c\nc ::= \"\" | \"y\""); !g.matches("yyx") || g.matches("y") {
		t.Errorf("%s", g)
	}
	if _, err := Parse("root ::= b* \"x\"\nb ::= c\nc ::= \"\""); err == nil {
		t.Error("nothing, repeated without end, is accepted")
	}
}

func TestChoice(t *testing.T) {
	s, err := FromChoice([]string{"yes", `n"o\`, "vielleicht, ja 🦜"})
	if err != nil {
		t.Fatal(err)
	}
	g := parse(t, s)
	for text, want := range map[string]bool{"yes": true, `n"o\`: true, "vielleicht, ja 🦜": true, "ye": false, "": false} {
		if g.matches(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
	var large []string
	for i := range 10000 {
		large = append(large, fmt.Sprint("choice ", i))
	}
	for _, bad := range [][]string{nil, {""}, {"a", "\xff"}, {"\x00"}, large} {
		var refused *Error
		if _, err := FromChoice(bad); !errors.As(err, &refused) {
			t.Errorf("%d choices: %v", len(bad), err)
		}
	}
}

func TestRegex(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, pattern := range []string{
		`abc`, `a|bc|`, `[a-c]+x?`, `(ab){2,3}`, `^a.c$`, `(?i)aB1`, `\d{3}-\d{4}`, `\w+@\w+\.com`, `a*b*`, `(a|b)*c`, `[^a-c]`, `\.\\"`,
		`(?s)a.b`, `x{0,2}y{2,}`, `(?:a(?:b(?:c)?)?)?`, `[\]\-^]+`, `é+🦜`, `^(yes|no)$`, `a{0}b`, `(a*)*b`, `(a?){3}`,
	} {
		s, err := FromRegex(pattern)
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
			continue
		}
		g := parse(t, s)
		whole := regexp.MustCompile(`\A(?:` + pattern + `)\z`)
		for range 200 {
			fuel := 20
			text := g.random(rng, reference(0), &fuel)
			if !whole.MatchString(text) {
				t.Errorf("%s does not match %q, which its grammar gives", pattern, text)
			}
			// And texts that are nearly right.
			b := []rune(text)
			if len(b) > 0 {
				b[rng.IntN(len(b))] = []rune("abcxy1-.é\n")[rng.IntN(10)]
			}
			if near := string(b); g.matches(near) != whole.MatchString(near) {
				t.Errorf("%s: %q matches %v, its grammar %v", pattern, near, whole.MatchString(near), g.matches(near))
			}
		}
	}
	for _, pattern := range []string{`(`, `a\b`, `a^b`, `(?=a)`, `(a)\1`, `a{1,5000}`, `[^\x00-\x{10FFFF}]`, strings.Repeat("(", 5000), `((a{100}){100}){100}`, strings.Repeat("a?", 3000)} {
		var refused *Error
		if _, err := FromRegex(pattern); !errors.As(err, &refused) {
			t.Errorf("%.40q: %v", pattern, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("root ::= \"a\" | [b-c]{2,3} x*\nx ::= (\"d\" | .)+ # y\n")
	f.Add("root ::= ws*\nws ::= [ ]?")
	f.Fuzz(func(t *testing.T, gbnf string) {
		g, err := Parse(gbnf)
		if err != nil {
			var refused *Error
			if !errors.As(err, &refused) || len(err.Error()) > 300 {
				t.Fatal(err)
			}
			return
		}
		again, err := Parse(g.String())
		if err != nil {
			t.Fatalf("%q is written as %q: %v", gbnf, g, err)
		}
		if third, err := Parse(again.String()); err != nil || len(third.rules) != len(again.rules) {
			t.Fatalf("%q is written as %q, then as %q: %v", gbnf, again, third, err)
		}
	})
}

func FuzzRegex(f *testing.F) {
	f.Add(`(a|b)*[c-e]{2,3}\d?`, "abc")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		s, err := FromRegex(pattern)
		if err != nil {
			return
		}
		g, err := Parse(s)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if len(text) > 40 || len(pattern) > 60 || !utf8.ValidString(text) {
			return
		}
		whole, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
		if err == nil && g.matches(text) != whole.MatchString(text) {
			t.Fatalf("%q, %q: the expression says %v", pattern, text, whole.MatchString(text))
		}
	})
}
