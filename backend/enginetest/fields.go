package enginetest

import (
	"slices"
	"strings"
	"testing"

	"lorikeet/backend"
)

// ids are the tokens of an answer.
func ids(a Answer) []backend.Token {
	var out []backend.Token
	for _, i := range a.Tokens {
		out = append(out, i.ID)
	}
	return out
}

// What would end the answer does not before it has the least number of tokens; then
// it does, whatever else the request forbids.
func testLeast(t *testing.T, e backend.Engine) {
	r := Prompt(t, e, "What colour is the sky?", 12)
	r.Logprobs = 0
	whole := Generate(t, e, r)
	text := []rune(whole.Text)
	r.Stop = []string{string(text[1:3])}
	if short := Generate(t, e, r); short.Text != string(text[:1]) {
		t.Fatalf("stop %q: %q", r.Stop, short.Text)
	}
	r.Sampling.MinTokens = 8
	if a := Generate(t, e, r); a.Last.Generated < 8 || !strings.HasPrefix(a.Text, string(text[:4])) {
		t.Errorf("stop %q within the first 8 tokens: %q, %+v", r.Stop, a.Text, a.Last)
	}
	// A token that always comes, and is a stop token.
	r.Stop, r.Sampling.MinTokens = nil, 2
	last := ids(whole)[0]
	r.StopTokens = []backend.Token{last}
	r.Sampling.IgnoreEOS = true
	r.Sampling.LogitBias = []backend.TokenBias{{Token: last, Bias: 100}}
	if a := Generate(t, e, r); a.Last.Generated != 3 || a.Last.Finish != backend.FinishStop {
		t.Errorf("a stop token after 2 tokens without an end: %+v", a.Last)
	}
}

func testBadWords(t *testing.T, e backend.Engine) {
	r := Prompt(t, e, "What colour is the sky?", 12)
	r.Logprobs = 0
	whole := ids(Generate(t, e, r))
	answer := func(words ...[]backend.Token) []backend.Token {
		r.Sampling.BadWords = words
		return ids(Generate(t, e, r))
	}
	if got := answer(whole[:1]); len(got) == 0 || slices.Contains(got, whole[0]) {
		t.Errorf("without %d: %v", whole[0], got)
	}
	if got := answer(whole[:3], []backend.Token{0, 1}); len(got) < 3 || !slices.Equal(got[:2], whole[:2]) || got[2] == whole[2] {
		t.Errorf("without %v: %v, with them %v", whole[:3], got, whole)
	}
	// What begins in the prompt is no word, nor is one that comes in another order.
	prompt := r.Prompt[len(r.Prompt)-1]
	if got := answer([]backend.Token{prompt, whole[0]}, []backend.Token{}, append(slices.Clone(whole), whole[0])); !slices.Equal(got, whole) {
		t.Errorf("with words that do not occur: %v, without %v", got, whole)
	}
}

func testSpecialText(t *testing.T, e backend.Engine) {
	bos, eos := e.Info().BOS, e.Info().EOS
	if bos == backend.NoToken || eos == backend.NoToken {
		t.Fatalf("BOS %d, EOS %d", bos, eos)
	}
	name, end := string(e.Piece(bos, true)), string(e.Piece(eos, true))
	for _, tt := range []struct {
		forced        backend.Token
		special, stop bool
		want          string
	}{
		{bos, false, false, ""},
		{bos, true, false, name + name},
		{eos, true, false, ""},
		{eos, false, true, ""},
		{eos, true, true, end},
	} {
		r := Prompt(t, e, "x", 2)
		r.Logprobs, r.SpecialText, r.IncludeStop = 0, tt.special, tt.stop
		r.Sampling.LogitBias = []backend.TokenBias{{Token: tt.forced, Bias: 100}}
		a := Generate(t, e, r)
		var tokens strings.Builder
		for _, i := range a.Tokens {
			tokens.WriteString(i.Text)
		}
		if a.Text != tt.want || tokens.String() != tt.want || ids(a)[0] != tt.forced {
			t.Errorf("%+v: %q, tokens %q", tt, a.Text, tokens.String())
		}
	}
}

func testEmbed(t *testing.T, e backend.Engine) {
	embed := func(text string, slot int) []float32 {
		r := Prompt(t, e, text, 0)
		r.Embed, r.Slot, r.NoCache = true, slot, true
		a := Generate(t, e, r)
		if a.Last.Err != nil || a.Last.Finish != backend.FinishStop || a.Text != "" || a.Last.Generated != 0 || len(a.Last.Embedding) != e.Info().Embedding {
			t.Errorf("%q: %+v", text, a.Last)
		}
		return a.Last.Embedding
	}
	const text = "What colour is the sky?"
	sky := embed(text, 0)
	if slices.Equal(sky, embed("What colour is the sea?", 0)) {
		t.Error("two texts, one embedding")
	}
	if err := e.FillSlot(t.Context(), 1, Image(e.Info().Pool, 1)); err != nil {
		t.Fatal(err)
	}
	if slices.Equal(sky, embed(text, 1)) {
		t.Error("the slot makes no difference")
	}
	if !slices.Equal(sky, embed(text, 0)) || !slices.Equal(sky, embed(text, 2)) {
		t.Error("the base, and an empty slot, give another embedding the second time")
	}
}
