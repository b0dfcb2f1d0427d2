package server

import (
	"strconv"
	"unicode/utf8"

	"lorikeet/api"
	"lorikeet/backend"
)

// logprobList makes OpenAI's parallel lists; it counts characters over the pieces
// of an answer, so that a stream's offsets are those of the whole.
type logprobList struct {
	engine     backend.Engine
	top        int    // how many likely tokens are told
	ids        bool   // tokens are named by their ids
	characters int    // so far, without begun
	begun      string // what may become a character
}

func (l *logprobList) list(groups ...[]backend.TokenInfo) *api.Logprobs {
	out := &api.Logprobs{Tokens: []string{}, TokenLogprobs: []*api.Logprob{}, TopLogprobs: []map[string]*api.Logprob{}, TextOffset: []int{}}
	for _, infos := range groups {
		for _, i := range infos {
			l.add(out, i)
		}
	}
	return out
}

func (l *logprobList) add(out *api.Logprobs, i backend.TokenInfo) {
	name := l.name(i)
	out.Tokens = append(out.Tokens, name)
	out.TextOffset = append(out.TextOffset, l.offset(i.Text))
	if !i.Scored {
		out.TokenLogprobs = append(out.TokenLogprobs, nil)
		out.TopLogprobs = append(out.TopLogprobs, nil)
		return
	}
	lp := api.Logprob(i.Logprob)
	out.TokenLogprobs = append(out.TokenLogprobs, &lp)
	top := make(map[string]*api.Logprob, len(i.Top)+1)
	put := func(name string, lp api.Logprob) {
		if old := top[name]; old == nil || *old < lp {
			top[name] = &lp
		}
	}
	for _, t := range i.Top[:min(l.top, len(i.Top))] {
		put(l.name(backend.TokenInfo{ID: t.ID}), api.Logprob(t.Logprob))
	}
	put(name, lp)
	out.TopLogprobs = append(out.TopLogprobs, top)
}

// name shows a token: its text as far as it belongs to the answer, or the name of
// a special token.
func (l *logprobList) name(i backend.TokenInfo) string {
	switch {
	case l.ids:
		return "token_id:" + tokenID(i.ID)
	case i.Text == "":
		return api.TokenText(l.engine.Piece(i.ID, true))
	}
	return api.TokenText([]byte(i.Text))
}

func tokenID(t backend.Token) string { return strconv.Itoa(int(t)) }

// offset is the character at which text begins; if it begins inside one, that one.
// A byte that is no part of a character counts as one: it is shown as U+FFFD.
func (l *logprobList) offset(text string) int {
	at := l.characters
	if text != "" && utf8.RuneStart(text[0]) {
		at += len(l.begun) // nothing will come of it
	}
	rest := l.begun + text
	for utf8.FullRuneInString(rest) {
		_, size := utf8.DecodeRuneInString(rest)
		rest = rest[size:]
		l.characters++
	}
	l.begun = rest
	return at
}

// appendLogprobs joins the lists of two pieces of a choice.
func appendLogprobs(a, b *api.Logprobs) *api.Logprobs {
	if a == nil || b == nil {
		return b
	}
	a.Tokens = append(a.Tokens, b.Tokens...)
	a.TokenLogprobs = append(a.TokenLogprobs, b.TokenLogprobs...)
	a.TopLogprobs = append(a.TopLogprobs, b.TopLogprobs...)
	a.TextOffset = append(a.TextOffset, b.TextOffset...)
	return a
}
