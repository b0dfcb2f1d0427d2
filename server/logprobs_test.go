package server

import (
	"bytes"
	"math"
	"reflect"
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/fake"
)

// Two tokens of equal text are one entry, the likelier; what can't happen is -9999.
func TestTopLogprobs(t *testing.T) {
	infinite := float32(math.Inf(-1))
	e := &scripted{Engine: fake.New(256, 1), events: []backend.Event{{
		Text: "aa", Generated: 2, Finish: backend.FinishStop,
		Tokens: []backend.TokenInfo{
			// A stop string has cut these; what is left of them looks like another token.
			{ID: 'x', Text: "a", Logprob: -3, Scored: true, Top: []backend.TopToken{{ID: 'a', Logprob: -1}, {ID: 'b', Logprob: -2}}},
			{ID: 'y', Text: "a", Logprob: -1, Scored: true, Top: []backend.TopToken{{ID: 'y', Logprob: -1}, {ID: 'a', Logprob: -2}}},
			{ID: fake.EOS, Logprob: infinite, Scored: true, Top: []backend.TopToken{{ID: 0x80, Logprob: 0}, {ID: 'c', Logprob: infinite}}},
		},
	}}}
	s := start(t, e, loadTimeout, Options{})
	b := body{"model": base, "prompt": "p", "logprobs": 2}
	got := s.complete(b).Choices[0].Logprobs
	number := func(x float64) *float64 { return &x }
	want := &logprobs{
		Tokens:        []string{"a", "a", "<eos>"},
		TokenLogprobs: []*float64{number(-3), number(-1), number(-9999)},
		TopLogprobs:   []map[string]float64{{"a": -1, "b": -2}, {"y": -1, "a": -1}, {`bytes:\x80`: 0, "c": -9999, "<eos>": -9999}},
		TextOffset:    []int{0, 1, 2},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if raw := s.post(b).body; !bytes.Contains(raw, []byte(`[-3,-1,-9999.0]`)) {
		t.Errorf("on the wire: %s", raw)
	}
}
