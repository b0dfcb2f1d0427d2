// Package grammar turns what clients ask an answer to look like into GBNF, the
// grammars that llama.cpp's sampler follows: from GBNF itself ([Parse]), a choice of
// texts ([FromChoice]), a regular expression ([FromRegex]), a JSON schema
// ([FromSchema]), or for any JSON object ([JSONObject]).
//
// llama.cpp's parser and matcher recurse without bounds, and its check for left
// recursion overlooks what is empty by way of another rule. So nothing of a client's
// reaches it as it is: a grammar is read here into a small tree, brought into a normal
// form that means the same, measured as llama.cpp will lay it out, and written anew.
// Whatever comes in is answered within milliseconds.
//
// The package follows no grammar and knows no vocabulary. A grammar by which one text
// can be read in ever more ways the longer it grows is let pass: only following it
// shows whether that matters, and whoever follows it has to limit the time.
package grammar

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of what is accepted.
const (
	MaxSize       = 64 << 10 // bytes of what a client sends, and of the GBNF that it becomes
	MaxPattern    = 8 << 10  // bytes of a regular expression, or of all in a schema: \pL has three, and 650 ranges
	MaxDepth      = 64       // of groups in one another, and of JSON values
	MaxRules      = 2000
	MaxName       = 100     // bytes of a rule's name, which llama.cpp copies for every group
	MaxRepetition = 2000    // in {m,n}; llama.cpp has the same limit
	MaxElements   = 50_000  // of llama.cpp's rules, repetitions written out
	MaxChain      = 256     // rules entered one after the other without a character read: llama.cpp recurses
	MaxWays       = 20_000  // steps to find what characters can come next
	maxScan       = 2 << 20 // elements that llama.cpp's check for left recursion looks at
)

// Error says why something can't be used, for the client that sent it: the place, and
// the limit if there is one.
type Error struct {
	Reason        string
	leftRecursive string // the name of such a rule, if that is why
}

const maxReason = 300

func (e *Error) Error() string { return e.Reason }

// errorf makes an Error of bounded length, whatever the input holds.
func errorf(format string, args ...any) *Error {
	s := strings.ToValidUTF8(fmt.Sprintf(format, args...), "\uFFFD")
	if len(s) > maxReason {
		n := maxReason - len("…")
		for !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n] + "…"
	}
	return &Error{Reason: s}
}

// beginning is that of what a client sent.
func beginning(s string) string {
	const limit = 40
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

func brief(s string) string { return fmt.Sprintf("%q", beginning(s)) }

// Grammar is a grammar in normal form that has passed all checks.
type Grammar struct{ rules []rule } // root first

type rule struct {
	name string
	body *node
}

const root = "root"

// String is the grammar as GBNF for llama.cpp. Parse reads it into an equal one.
func (g *Grammar) String() string {
	var b strings.Builder
	for _, r := range g.rules {
		b.WriteString(r.name)
		b.WriteString(" ::= ")
		r.body.write(&b)
		b.WriteByte('\n')
	}
	return b.String()
}

// index is where each rule is. The last one counts if a name is there twice.
func index(rules []rule) map[string]int {
	at := make(map[string]int, len(rules))
	for i, r := range rules {
		at[r.name] = i
	}
	return at
}
