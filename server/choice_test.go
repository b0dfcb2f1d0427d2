package server

import (
	"testing"

	"lorikeet/api"
	"lorikeet/backend"
)

// Of the answers to each prompt the most likely ones come back, by the mean over their
// tokens, the best first.
func TestBest(t *testing.T) {
	c := &completion{req: &api.CompletionRequest{N: 2, BestOf: 3}}
	var all []api.Choice
	for _, logprobs := range [][]float32{{-1, -1}, {-0.5, -0.5, -0.5, -0.5, -0.5}, {-3}, {-2}, {-1}, {-0.1, -0.3}} {
		ch := &choice{req: c.req}
		for _, lp := range logprobs {
			ch.piece(backend.Event{Tokens: []backend.TokenInfo{{Logprob: lp}}})
		}
		c.choices = append(c.choices, ch)
		all = append(all, api.Choice{Text: string(rune('a' + len(all)))})
	}
	got := ""
	for i, choice := range c.best(all) {
		if choice.Index != i {
			t.Errorf("choice %d has index %d", i, choice.Index)
		}
		got += choice.Text
	}
	if got != "bafe" {
		t.Errorf("%q", got)
	}
}
