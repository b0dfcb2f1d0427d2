package engine_test

import (
	"fmt"
	"slices"
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/backend/enginetest"
)

// fill puts an image that depends on seed into a slot.
func fill(t *testing.T, e backend.Engine, slot int, seed uint32) {
	t.Helper()
	if err := e.FillSlot(t.Context(), slot, enginetest.Image(e.Info().Pool, seed)); err != nil {
		t.Fatal(err)
	}
}

// prompt is n tokens that depend on seed.
func prompt(seed, n int) []backend.Token {
	tokens := make([]backend.Token, n)
	for i := range tokens {
		tokens[i] = backend.Token(3 + (seed*31+i*7+i*i*seed)%200)
	}
	return tokens
}

// computed is the number of tokens that an engine has computed.
func computed(e backend.Engine) int {
	n := uint64(0)
	for _, t := range e.Stats().Tokens {
		n += t
	}
	return int(n)
}

func TestSecondTurn(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel})
	r := &backend.Request{Prompt: prompt(1, 60), MaxTokens: 8, Logprobs: 0}
	first := enginetest.Generate(t, e, r)
	if first.Last.Cached != 0 {
		t.Errorf("the first turn finds %d tokens", first.Last.Cached)
	}
	second := *r
	second.Prompt = slices.Clone(r.Prompt)
	for _, i := range first.Tokens {
		second.Prompt = append(second.Prompt, i.ID)
	}
	second.Prompt = append(second.Prompt, 7, 8, 9)
	before := computed(e)
	got := enginetest.Generate(t, e, &second)
	// All but the last token of the answer, which was never computed.
	if want := 60 + len(first.Tokens) - 1; got.Last.Cached != want {
		t.Errorf("the second turn finds %d tokens, not %d", got.Last.Cached, want)
	}
	if n := computed(e) - before; n != 1+3+got.Last.Generated-1 {
		t.Errorf("the second turn computes %d tokens for %d", n, got.Last.Generated)
	}
	fresh := second
	fresh.NoCache = true
	if want := enginetest.Generate(t, e, &fresh); want.Text != got.Text || want.Last.Cached != 0 {
		t.Errorf("%q with the cache, %q without (%d cached)", got.Text, want.Text, want.Last.Cached)
	}
}

// A prefix belongs to one adapter version.
func TestPrefixesOfVersions(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel, Slots: 3})
	fill(t, e, 1, 1)
	fill(t, e, 2, 2)
	r := &backend.Request{Prompt: prompt(1, 40), MaxTokens: 6, Logprobs: -1}
	cached := func(slot int, version string) int {
		t.Helper()
		with := *r
		with.Slot, with.Version = slot, version
		got := enginetest.Generate(t, e, &with)
		with.NoCache = true
		if want := enginetest.Generate(t, e, &with).Text; got.Text != want {
			t.Errorf("slot %d, version %q: %q, uncached %q", slot, version, got.Text, want)
		}
		return got.Last.Cached
	}
	for i, tt := range []struct {
		slot    int
		version string
		want    int
	}{
		{0, "", 0}, {1, "a", 0}, {2, "b", 0}, // none from each other
		{0, "", 39}, {1, "a", 39}, {2, "b", 39},
		{1, "", 0}, {1, "", 0}, // nobody knows what it is
	} {
		if got := cached(tt.slot, tt.version); got != tt.want {
			t.Errorf("%d: slot %d, version %q finds %d tokens, not %d", i, tt.slot, tt.version, got, tt.want)
		}
	}
	// The slot gets another version: nothing of the old one answers.
	fill(t, e, 1, 3)
	if got := cached(1, "c"); got != 0 {
		t.Errorf("a new version finds %d tokens", got)
	}
	// The old version comes back in another slot: its prefixes are still good.
	fill(t, e, 3, 1)
	if got := cached(3, "a"); got != 39 {
		t.Errorf("a version in another slot finds %d tokens", got)
	}
}

// Tokens before SlotFrom are the base's, in the cache and in what they compute.
func TestSlotFrom(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel, Slots: 2})
	fill(t, e, 1, 1)
	tokens := prompt(1, 40)
	logprobs := func(slot, from int) enginetest.Answer {
		return enginetest.Generate(t, e, &backend.Request{
			Prompt: tokens, Slot: slot, Version: []string{"", "a"}[slot], SlotFrom: from, NoCache: true, Logprobs: 0, PromptLogprobs: true,
		})
	}
	base, all, late := logprobs(0, 0), logprobs(1, 0), logprobs(1, 25)
	for i := 1; i < 40; i++ {
		same := near(late.Prompt[i].Logprob, base.Prompt[i].Logprob)
		if i <= 25 && !same {
			t.Errorf("position %d: %v, base %v", i, late.Prompt[i].Logprob, base.Prompt[i].Logprob)
		}
		if i > 26 && (same || near(late.Prompt[i].Logprob, all.Prompt[i].Logprob)) {
			t.Errorf("position %d is as the base's or as with the adapter from the beginning: %v", i, late.Prompt[i].Logprob)
		}
	}
	// The base's prefix serves the adapter, as far as it goes.
	r := &backend.Request{Prompt: tokens, MaxTokens: 6, Logprobs: -1}
	enginetest.Generate(t, e, r)
	r.Slot, r.Version, r.SlotFrom = 1, "a", 25
	got := enginetest.Generate(t, e, r)
	if got.Last.Cached != 25 {
		t.Errorf("finds %d tokens of the base's", got.Last.Cached)
	}
	r.NoCache = true
	if want := enginetest.Generate(t, e, r).Text; want != got.Text {
		t.Errorf("%q with the base's prefix, %q without", got.Text, want)
	}
}

func near(a, b float32) bool { return a-b < 1e-3 && b-a < 1e-3 }

// Several answers to one prompt compute it once.
func TestPromptIsComputedOnce(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel, Chunk: 16, StepTokens: 32})
	r := &backend.Request{Prompt: prompt(1, 100), MaxTokens: 5, Logprobs: -1}
	var channels []<-chan backend.Event
	for range 5 {
		c, err := e.Submit(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		channels = append(channels, c)
	}
	generated, uncached := 0, 0
	for _, c := range channels {
		a := enginetest.Collect(t, c)
		generated += a.Last.Generated
		uncached += 100 - a.Last.Cached
	}
	// Each computes the last token; up to 7 more are not worth waiting for.
	if n := computed(e); uncached < 104 || uncached > 104+4*7 || n != uncached+generated-5 {
		t.Errorf("%d tokens of prompts computed, %d in all for %d generated", uncached, n, generated)
	}
}

// When the cache is full, sequences take turns; none fails, none comes out different.
func TestPreemption(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel, CacheTokens: 256, Context: 256, Slots: 2})
	fill(t, e, 1, 1)
	var requests []*backend.Request
	var want []string
	for i := range 8 {
		r := &backend.Request{Prompt: prompt(i, 20+i), MaxTokens: 200, Logprobs: -1, Slot: i % 2, Version: []string{"", "a"}[i%2]}
		r.Sampling.IgnoreEOS = true
		if i%3 == 0 {
			r.Sampling = backend.Sampling{Temperature: 1, TopP: 1, Seed: uint32(i), IgnoreEOS: true}
		}
		requests = append(requests, r)
		want = append(want, enginetest.Generate(t, e, r).Text)
	}
	var channels []<-chan backend.Event
	for _, r := range requests {
		c, err := e.Submit(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		channels = append(channels, c)
	}
	for i, c := range channels {
		if a := enginetest.Collect(t, c); a.Last.Err != nil || a.Last.Generated != 200 || a.Text != want[i] {
			t.Errorf("request %d: %d tokens, %v\n%q, alone\n%q", i, a.Last.Generated, a.Last.Err, a.Text, want[i])
		}
	}
	if st := e.Stats(); st.Preemptions == 0 || st.CacheUsed > 256 || st.Running != 0 || st.Waiting != 0 || st.WaitingTokens != 0 {
		t.Errorf("%+v", st)
	}
}

// More sequences than ids are left for kept ones.
func TestManySequences(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel, Sequences: 256, CacheTokens: 8192, Queue: 1000})
	var channels []<-chan backend.Event
	for i := range 600 {
		c, err := e.Submit(t.Context(), &backend.Request{Prompt: append([]backend.Token{backend.Token(3 + i%97)}, prompt(i, 9)...), MaxTokens: 4, Logprobs: -1})
		if err != nil {
			t.Fatal(err)
		}
		channels = append(channels, c)
	}
	texts := map[string]string{}
	for i, c := range channels {
		a := enginetest.Collect(t, c)
		if a.Last.Err != nil {
			t.Fatal(a.Last.Err)
		}
		texts[fmt.Sprint(i)] = a.Text
	}
	for _, i := range []int{0, 255, 256, 599} {
		r := &backend.Request{Prompt: append([]backend.Token{backend.Token(3 + i%97)}, prompt(i, 9)...), MaxTokens: 4, Logprobs: -1, NoCache: true}
		if want := enginetest.Generate(t, e, r).Text; texts[fmt.Sprint(i)] != want {
			t.Errorf("request %d: %q, alone %q", i, texts[fmt.Sprint(i)], want)
		}
	}
}

func TestQueueTokens(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel, Sequences: 1, QueueTokens: 50})
	r := long(t, e)
	running, err := e.Submit(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	<-running // it has left the queue
	wait := func(n int) error {
		_, err := e.Submit(t.Context(), &backend.Request{Prompt: prompt(1, n), MaxTokens: 1, Logprobs: -1})
		return err
	}
	if err := wait(100); err != nil {
		t.Errorf("a lone prompt that is too long for the queue: %v", err)
	}
	if err := wait(1); err == nil {
		t.Error("the queue takes another one behind it")
	}
}
