// Package text turns a stream of token pieces into text that can be sent: it
// never cuts a character, and holds back what may become a stop string.
//
// It is used by engines, one [Assembler] per sequence. It knows no vocabulary.
package text

import (
	"bytes"
	"unicode/utf8"

	"lorikeet/backend"
)

// Assembler collects the pieces of one answer. The zero value is not usable.
type Assembler struct {
	stop    []string
	include bool                // a stop string is part of the answer
	held    []byte              // not yet released
	pending []backend.TokenInfo // tokens whose text begins in held, or has no text
	ends    []int               // for each pending token, where its text ends in held
	keep    bool                // whether tokens are collected at all
	holding int                 // so many more tokens complete no stop string
}

// NewAssembler makes an assembler that ends the text before the first of the
// stop strings, or behind it if includeStop is set; one that is complete within the
// first minTokens tokens does not count. Unless keepTokens is set, no tokens are
// returned beside the text.
func NewAssembler(stop []string, includeStop, keepTokens bool, minTokens int) *Assembler {
	return &Assembler{stop: stop, include: includeStop, keep: keepTokens, holding: minTokens}
}

// Add appends a token's piece. It returns the text that can now be sent, with the
// tokens it came from, and whether a stop string was completed; then the rest is
// dropped and nothing may be added.
func (a *Assembler) Add(piece []byte, t backend.TokenInfo) (text string, tokens []backend.TokenInfo, stopped bool) {
	from := len(a.held)
	a.held = append(a.held, piece...)
	if a.keep {
		t.Text = string(piece)
		a.pending = append(a.pending, t)
		a.ends = append(a.ends, len(a.held))
	}
	if a.holding > 0 {
		a.holding--
	} else if at := a.findStop(from); at >= 0 {
		text, tokens = a.release(at, true)
		return text, tokens, true
	}
	text, tokens = a.release(a.safe(), false)
	return text, tokens, false
}

// Flush returns everything that is still held; each byte that is
// no part of a character becomes U+FFFD.
func (a *Assembler) Flush() (string, []backend.TokenInfo) {
	return a.release(len(a.held), false)
}

// findStop returns where the text ends because of the stop string that begins
// first, or -1, given that nothing before from completes one.
func (a *Assembler) findStop(from int) int {
	first, end := -1, -1
	for _, s := range a.stop {
		start := max(0, from-len(s)+1)
		if i := bytes.Index(a.held[start:], []byte(s)); i >= 0 && (first < 0 || start+i < first) {
			first = start + i
			end = first
			if a.include {
				end += len(s)
			}
		}
	}
	return end
}

// safe returns how many held bytes can be released: up to the last whole
// character, and up to where a stop string may have begun.
func (a *Assembler) safe() int {
	n := len(a.held)
	for _, s := range a.stop {
		for k := min(len(s)-1, len(a.held)); k > 0; k-- {
			if s[:k] == string(a.held[len(a.held)-k:]) { // compares in place
				n = min(n, len(a.held)-k)
				break
			}
		}
	}
	return wholeCharacters(a.held, n)
}

// wholeCharacters moves n back to before a character that the end of b may have
// cut. Bytes that can't become a character stay.
func wholeCharacters(b []byte, n int) int {
	for i := n - 1; i >= max(0, n-utf8.UTFMax+1); i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:n]) {
				return i
			}
			break
		}
	}
	return n
}

// release takes the first n held bytes, and the tokens whose text ends in them.
// With cut set, n is the end of the answer: a token whose text begins before n
// belongs to it, shortened, and those behind are dropped.
func (a *Assembler) release(n int, cut bool) (string, []backend.TokenInfo) {
	text := string(a.held[:n])
	if !utf8.ValidString(text) {
		text = string([]rune(text)) // a U+FFFD for each byte that is no part of a character
	}
	k := 0
	for k < len(a.pending) && a.ends[k] <= n {
		k++
	}
	if cut && k < len(a.pending) {
		if t := &a.pending[k]; a.ends[k]-len(t.Text) < n {
			t.Text = t.Text[:n-(a.ends[k]-len(t.Text))]
			k++
		}
	}
	var tokens []backend.TokenInfo
	if k > 0 {
		tokens = append(tokens, a.pending[:k]...)
		a.pending = append(a.pending[:0], a.pending[k:]...)
		a.ends = append(a.ends[:0], a.ends[k:]...)
	}
	for i := range a.ends {
		a.ends[i] -= n
	}
	a.held = append(a.held[:0], a.held[n:]...)
	return text, tokens
}
