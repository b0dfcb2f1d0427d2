package text

import (
	"strings"
	"testing"
	"unicode/utf8"

	"lorikeet/backend"
)

// feed adds pieces until one stops the text, and returns what came out.
func feed(a *Assembler, pieces ...string) (parts []string, tokens []string, stopped bool) {
	collect := func(text string, infos []backend.TokenInfo) {
		if text != "" {
			parts = append(parts, text)
		}
		for _, i := range infos {
			tokens = append(tokens, i.Text)
		}
	}
	for _, p := range pieces {
		text, infos, stop := a.Add([]byte(p), backend.TokenInfo{})
		collect(text, infos)
		if stop {
			return parts, tokens, true
		}
	}
	collect(a.Flush())
	return parts, tokens, false
}

func TestAssembler(t *testing.T) {
	tests := []struct {
		name    string
		stop    []string
		pieces  []string
		parts   string // joined by |
		tokens  string
		stopped bool
	}{
		{"plain", nil, []string{"ab", "c"}, "ab|c", "ab|c", false},
		{"a character in pieces is held", nil, []string{"a", "\xf0\x9f", "\xa6\x9c", "b"}, "a|🦜|b", "a|\xf0\x9f|\xa6\x9c|b", false},
		{"half a character at the end is replaced", nil, []string{"a\xf0\x9f"}, "a|\uFFFD\uFFFD", "a\xf0\x9f", false},
		{"bytes that can't be text are replaced at once", nil, []string{"a\xff", "b"}, "a\uFFFD|b", "a\xff|b", false},
		{"stop string", []string{"END"}, []string{"one END two"}, "one ", "one ", true},
		{"stop over pieces is held back", []string{"END"}, []string{"one", " E", "N", "D", "x"}, "one| ", "one| ", true},
		{"what looked like a stop is released", []string{"END"}, []string{"E", "N", "x"}, "ENx", "E|N|x", false},
		{"the earliest of two", []string{"cd", "bc"}, []string{"abcd"}, "a", "a", true},
		{"stop at once", []string{"\n"}, []string{"\nx"}, "", "", true},
		{"overlapping prefix", []string{"aab"}, []string{"a", "a", "a", "b"}, "a", "a", true},
		{"held at the end is flushed", []string{"END"}, []string{"x", "EN"}, "x|EN", "x|EN", false},
		{"tokens without text", nil, []string{"", "a", ""}, "a", "|a|", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parts, tokens, stopped := feed(NewAssembler(tt.stop, false, true, 0), tt.pieces...)
			if got := strings.Join(parts, "|"); got != tt.parts {
				t.Errorf("parts %q, want %q", got, tt.parts)
			}
			if got := strings.Join(tokens, "|"); got != tt.tokens {
				t.Errorf("tokens %q, want %q", got, tt.tokens)
			}
			if stopped != tt.stopped {
				t.Errorf("stopped %v", stopped)
			}
		})
	}
}

// FuzzAssembler compares with cutting the whole text at once.
func TestStopWithinTheLeastTokens(t *testing.T) {
	for _, tt := range []struct {
		stop  string
		parts string
	}{
		{"b", "a|b|c"},      // the second one ends it
		{"ab", "ab|c|b|cd"}, // never again
		{"bc", "a"},         // begins in the least tokens, and is completed after them
	} {
		parts, _, stopped := feed(NewAssembler([]string{tt.stop}, false, false, 2), "a", "b", "c", "b", "cd")
		if got := strings.Join(parts, "|"); got != tt.parts || stopped != (tt.stop != "ab") {
			t.Errorf("stop %q: %q, stopped %v; want %q", tt.stop, got, stopped, tt.parts)
		}
	}
}

func FuzzAssembler(f *testing.F) {
	f.Add("one END two", "END", uint8(3))
	f.Add("aaab🦜aab", "aab", uint8(1))
	f.Fuzz(func(t *testing.T, whole, stop string, size uint8) {
		if stop == "" || !utf8.ValidString(whole) || !utf8.ValidString(stop) {
			return
		}
		var pieces []string
		for rest := whole; rest != ""; {
			n := min(int(size)%5+1, len(rest))
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		parts, _, stopped := feed(NewAssembler([]string{stop}, false, false, 0), pieces...)
		want, _, found := strings.Cut(whole, stop)
		if got := strings.Join(parts, ""); got != want || stopped != found {
			t.Errorf("got %q, %v; want %q, %v", got, stopped, want, found)
		}
		for _, p := range parts {
			if !utf8.ValidString(p) {
				t.Errorf("part %q cuts a character", p)
			}
		}
	})
}
