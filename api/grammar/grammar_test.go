package grammar

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct {
		gbnf    string
		yes, no []string
	}{
		{`root ::= "a" | "b"`, []string{"a", "b"}, []string{"", "c", "ab"}},
		{"root ::= \"a\"\n | \"b\" |\n \"c\" # one of them\n", []string{"a", "b", "c"}, []string{""}},
		{"# first\n\nroot ::= x-1 x_2\r\nx-1 ::= [a-c]\nx_2 ::= [^a-c\\n]\n", []string{"az", "cé"}, []string{"aa", "a\n"}},
		{"root ::= (\n \"a\"\n | #\n \"b\")\n\"\" ::= \"\"", nil, nil},
		{"root\t::=\n  \"a\"", []string{"a"}, nil},
		{`root ::= ("a" ("b" | "c")?)+`, []string{"a", "ab", "aca"}, []string{"", "b"}},
		{`root ::= [0-9]{2} "-" [a-]{1,} . "x"{0,2}`, []string{"12-a.", "12---é", "12-a.xx", "12-a\nx"}, []string{"1-a.", "12-.xxx"}},
		{`root ::= "ab"{ 2 , 3 }`, []string{"abab", "ababab"}, []string{"ab", "abb"}},
		{`root ::= "\x41\u00e9\U0001F99C\t\"\\\[\]\-"`, []string{"Aé🦜\t\"\\[]-"}, []string{"A"}},
		{`root ::= [^"\\\x00-\x1F]* [\]\[^-]`, []string{"a b]", "-", "x^"}, []string{"\n]", "\"]"}},
		{`root ::= [--a] [+--]`, []string{"-+", "a,", "_-"}, []string{"+-"}},
		{`root ::= "" | "a" ()`, []string{"", "a"}, []string{"aa"}},
		{`root ::= "é"* [ß-ü]`, []string{"éü", "ß"}, []string{"é\xc3"}},
		{"root ::= root2 | root2 root\nroot2 ::= \"a\"", []string{"a", "aaa"}, []string{""}},
		{"root ::= (ws item)*\nws ::= [ \\t]*\nitem ::= \"x\"", []string{"", " x\tx", "xx"}, []string{" "}},
		{"root ::= \"x\" ws* \"y\"\nws ::= \" \"? | \"\\n\"*", []string{"xy", "x \n  y"}, []string{"x", "x\ty"}},
		{`root ::= ("a"? "b"?){2} "."`, []string{".", "ab.", "abab.", "ba."}, []string{"aaa.", "baba."}},
		{"root ::= a* \"x\"\na ::= b c\nb ::= \"\" | \"y\"\nc ::= b \"\"", []string{"x", "yyyx"}, []string{"y"}},
		{"root ::= \"a\" | \"b\" dead\ndead ::= \"c\" dead", []string{"a"}, []string{"b", "bc"}},
		{"root ::= nothing \"a\" nothing*\nnothing ::= \"\" | nothing2\nnothing2 ::= \"\"{3}", []string{"a"}, []string{""}},
		{"root ::= \"a\" | unused2\nunused ::= unused \"x\"\nunused2 ::= \"b\"", []string{"a", "b"}, []string{"x"}},
	}
	for _, tt := range tests {
		if tt.yes == nil && tt.no == nil {
			if _, err := Parse(tt.gbnf); err == nil {
				t.Errorf("%q is accepted", tt.gbnf)
			}
			continue
		}
		g := parse(t, tt.gbnf)
		again(t, g)
		l := checkLlama(t, g)
		for want, texts := range map[bool][]string{true: tt.yes, false: tt.no} {
			for _, text := range texts {
				if g.matches(text) != want || l.follow(text) != want {
					t.Errorf("%s\n%q: %v, llama.cpp %v", g, text, g.matches(text), l.follow(text))
				}
			}
		}
	}
}

// again checks that the normal form is read as the same grammar.
func again(t testing.TB, g *Grammar) {
	t.Helper()
	h, err := Parse(g.String())
	if err != nil {
		t.Fatalf("%.2000s\n%v", g, err)
	}
	if !reflect.DeepEqual(g, h) {
		t.Fatalf("%.2000s\nis read as\n%.2000s", g, h)
	}
}

func TestNormalForm(t *testing.T) {
	for gbnf, want := range map[string]string{
		"root ::= ((\"a\" ((\"b\")) [c]))\n":        "root ::= \"abc\"\n",
		`root ::= "a" | "b" | "a" | ("c"|"d")`:      "root ::= \"a\" | \"b\" | \"c\" | \"d\"\n",
		`root ::= [c-da-b^-] .`:                     "root ::= [\\x2D\\x5Ea-d] [\\x01-\\uD7FF\\uE000-\\U0010FFFF]\n",
		"root ::= x x\nx ::= y_1\ny_1 ::= \"é\\n\"": "root ::= x x\nx ::= y-1\ny-1 ::= \"é\\n\"\n",
		`root ::= ("a"*)* ("b"+)? ("c"{2})*`:        "root ::= \"a\"* \"b\"* (\"c\"{2})*\n",
		"root ::= x*\nx ::= \"a\"? \"b\"":           "root ::= x*\nx ::= \"a\"? \"b\"\n",
		"root ::= x*\nx ::= \"a\"? y\ny ::= \"b\"*": "root ::= x-nonempty*\ny ::= \"b\"*\nx-nonempty ::= \"a\" y | y-nonempty\ny-nonempty ::= \"b\"+\n",
	} {
		g, err := Parse(gbnf)
		if err != nil || g.String() != want {
			t.Errorf("%s\n%s %v\nwant\n%s", gbnf, g, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for want, all := range map[string][]string{
		`there is no rule "root"`:           {``, "x ::= \"a\"", "# root ::= \"a\""},
		"is defined twice":                  {"root ::= \"a\"\nroot ::= \"b\"", "root ::= a-b\na-b ::= \"a\"\na_b ::= \"b\""},
		`rule "x" is not defined`:           {`root ::= x`, "root ::= \"a\"\ny ::= x"},
		"line 2: expected the end":          {"root ::= \"a\"\nx ::= )"},
		"expected the name of a rule":       {"root ::= \"a\"\n::= \"b\"", "root ::= \"a\"\n\"b\""},
		"expected ::=":                      {"root \"a\"", "root", "root :: = \"a\""},
		`expected ", got the end`:           {`root ::= "a`, `root ::= "`},
		"expected ], got the end":           {`root ::= [a`, `root ::= [a-`},
		"expected )":                        {`root ::= ("a"`, "root ::= (((\"a\"))"},
		"tokens":                            {`root ::= <think>`, `root ::= !<[5]>`, `root ::= "a" <[12]>`},
		"something to repeat":               {`root ::= *`, `root ::= "a" | +`, `root ::= {2}`},
		"escapes":                           {`root ::= "\q"`, `root ::= [\d]`},
		"an escaped character":              {`root ::= "\`},
		"hexadecimal digits":                {`root ::= "\x4"`, `root ::= "\u12g4"`, `root ::= [\U00110000]`, `root ::= "\UFFFFFFFF"`},
		"not 0 or a surrogate":              {`root ::= "\x00"`, `root ::= "\uD83E"`},
		"that some character is in":         {`root ::= []`, `root ::= [^]`, `root ::= [\x00]`, `root ::= [^\x00-\U0010FFFF]`, `root ::= [\uD800-\uDFFF]`},
		"does not end before its beginning": {`root ::= [z-a]`},
		"at most 2000 repetitions":          {`root ::= "a"{1,999999}`, `root ::= "a"{2001}`, `root ::= "a"{99999999999999999999}`},
		"that is not {5,2}":                 {`root ::= "a"{5,2}`},
		"a number":                          {`root ::= "a"{,2}`, `root ::= "a"{x}`},
		"} behind a repetition":             {`root ::= "a"{1`, `root ::= "a"{1;2}`},
		"not valid UTF-8":                   {"root ::= \"\xff\"", "root ::= \"a\"\x00"},
		"the limit is 65536":                {strings.Repeat(" ", MaxSize) + "root ::= \"a\""},
		"nested more than 64 deep":          {"root ::= " + strings.Repeat("(", 60000), "root ::= " + strings.Repeat("(", 65) + "\"a\"" + strings.Repeat(")", 65), "root ::= \"a\"" + strings.Repeat("{2}", 70)},
		"more than 2000 rules":              {"root ::= \"a\"\n" + many(5000, func(i int) string { return fmt.Sprintf("r%d::=x\n", i) })},
		"the limit is 100":                  {"root ::= \"a\"\n" + strings.Repeat("n", 101) + " ::= \"b\""},
		"more than 50000 elements":          {`root ::= "abcdefghijklmnopqrstuvwxyz"{2000}`, `root ::= [a-z0-9]{2000} [a-z0-9]{2000} [a-z0-9]{2000} [a-z0-9]{0,2000} [a-z0-9]{0,2000} [a-z0-9]{0,2000}`},
		"in normal form":                    {"root ::= " + strings.Repeat(".", 10000)},
		"is left-recursive":                 {`root ::= root "a" | "b"`, "root ::= a\na ::= b \"x\" | \"y\"\nb ::= \"z\"? a", "root ::= a \"x\"\na ::= b* root | \"y\"\nb ::= \"z\"", "root ::= \"x\" | ((root) \"y\")"},
		"no answer is possible":             {`root ::= "a" root`, "root ::= a\na ::= b\nb ::= a", "root ::= b* root\nb ::= \"x\""},
		"rewritten":                         {"root ::= (" + strings.Repeat(`"a"?`, 3000) + ")*"},
		"without a character being read": {
			"root ::= r0\n" + many(1000, func(i int) string { return fmt.Sprintf("r%d ::= r%d \"x\" | \"y\"\n", i, i+1) }) + "r1000 ::= \"z\"",
			"root ::= e0 \"y\"\n" + many(20, func(i int) string { return fmt.Sprintf("e%d ::= e%d e%d\n", i, i+1, i+1) }) + "e20 ::= \"x\"?",
			"root ::= \"x\" (\"y\" " + strings.Repeat(`"x"? `, 1000) + ")",
			"root ::= a{0,2000}\na ::= b{0,20}\nb ::= c{0,20} \nc ::= d e e e e\nd ::= e e e e e e\ne ::= f f f f f f f\nf ::= g g g g g g g\ng ::= \"x\"?",
		},
		"can begin in": {
			"root ::= r0\n" + many(60, func(i int) string { return fmt.Sprintf("r%d ::= r%d \"x\" | r%d \"y\"\n", i, i+1, i+1) }) + "r60 ::= \"z\"",
			"root ::= " + strings.Repeat("n ", 100) + "\nn ::= \"a\"? | \"b\"?",
			"root ::= \"x\" " + strings.Repeat("n ", 100) + "\nn ::= \"a\"? | \"b\"?",
		},
	} {
		for _, gbnf := range all {
			if _, err := Parse(gbnf); err == nil {
				t.Errorf("%.80q is accepted", gbnf)
			} else {
				refuses(t, err, want)
			}
		}
	}
}

// Grammars at the limits are accepted, and llama.cpp can lay them out.
func TestParseAccepts(t *testing.T) {
	for _, gbnf := range []string{
		"root ::= " + strings.Repeat("(\"x\" | ", 64) + "\"a\"" + strings.Repeat(")", 64),
		"root ::= " + strings.Repeat("(\"x\" ", 64) + "\"a\"" + strings.Repeat(")*", 64),
		`root ::= "a"{2000} [a-c]{0,2000}`,
		"root ::= r0\n" + many(1999, func(i int) string { return fmt.Sprintf("r%d ::= \"a\" r%d\n", i, (i+1)%1999) })[len("r0 ::= \"a\" r1\n"):] + "r0 ::= \"b\" | r1",
		"root ::= " + strings.Repeat(`"x"? `, 200),
		"root ::= x{0,2000}\nx ::= a{0,2000}\na ::= b{0,2000}\nb ::= \"\" | \"z\"", // 2000³ calls deep as it is
		"root ::= " + strings.Repeat(`ab_c | `, 9000) + "\"y\"\nab_c ::= \"z\"",
	} {
		g := parse(t, gbnf)
		again(t, g)
		l := checkLlama(t, g)
		if l.follow("zz"); l.deepest > MaxChain || l.calls > 3*MaxWays {
			t.Errorf("%.80q: %d calls, %d deep", gbnf, l.calls, l.deepest)
		}
	}
}

func TestChoice(t *testing.T) {
	yes := []string{"yes", `n"o\`, "vielleicht, ja 🦜", "vielleicht", "no", ""}
	gbnf, err := FromChoice(append(yes, yes...))
	g := must(t, gbnf, err)
	for _, text := range yes {
		if !g.matches(text) {
			t.Errorf("%q is missing", text)
		}
	}
	for _, text := range []string{"ye", "yess", "vielleicht,", "n"} {
		if g.matches(text) {
			t.Errorf("%q is allowed", text)
		}
	}
	var all []string
	for i := range 4000 {
		all = append(all, fmt.Sprint("choice ", i*i))
	}
	gbnf, err = FromChoice(all)
	l := checkLlama(t, must(t, gbnf, err))
	for _, text := range all[3900:] {
		if l.calls = 0; !l.follow(text) || l.follow(text+"0") && !contains(all, text+"0") {
			t.Errorf("%q", text)
		}
		if l.calls > 1000 { // not all choices at every step
			t.Errorf("%d calls", l.calls)
		}
	}
	long := strings.Repeat("é", MaxSize/10)
	gbnf, err = FromChoice([]string{long, long + "!"})
	checkLlama(t, must(t, gbnf, err))
	var nested []string
	for i := range 300 {
		nested = append(nested, strings.Repeat("a", i))
	}
	gbnf, err = FromChoice(nested)
	checkLlama(t, must(t, gbnf, err))

	for want, bad := range map[string][]string{
		"no choices": nil, "choice 1 is not valid": {"a", "\xff"}, "choice 0 is not valid": {"\x00"}, "more than 65536 bytes": {long, long, long, long, long, long},
	} {
		_, err := FromChoice(bad)
		refuses(t, err, want)
	}
}

func contains(all []string, s string) bool {
	for _, a := range all {
		if a == s {
			return true
		}
	}
	return false
}
