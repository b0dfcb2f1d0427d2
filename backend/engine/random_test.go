package engine_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/backend/enginetest"
)

// randomRequest is one of many kinds, always the same for a seed. Every third has a
// prompt that others begin with, too.
func randomRequest(seed uint64, slots int) *backend.Request {
	rng := rand.New(rand.NewPCG(seed, 9))
	slot := rng.IntN(slots + 1)
	r := &backend.Request{
		Prompt: prompt(rng.IntN(6), 1+rng.IntN(90)), MaxTokens: rng.IntN(40), Logprobs: -1,
		Slot: slot, Version: []string{"", "a", "b", "c"}[slot], Sampling: backend.Sampling{TopP: 1},
	}
	if rng.IntN(3) > 0 {
		r.Prompt = append(r.Prompt, prompt(int(seed), 1+rng.IntN(20))...)
	}
	if slot > 0 && rng.IntN(4) == 0 {
		r.SlotFrom = rng.IntN(len(r.Prompt))
	}
	if rng.IntN(3) == 0 {
		r.Logprobs = rng.IntN(3)
		r.PromptLogprobs = rng.IntN(2) == 0
	}
	s := &r.Sampling
	switch rng.IntN(8) {
	case 0:
		*s = backend.Sampling{Temperature: 1.5, TopP: 0.9, TopK: 20, Seed: rng.Uint32()}
	case 1:
		*s = backend.Sampling{Temperature: 1, TopP: 1, MinP: 0.05, Seed: rng.Uint32(), FrequencyPenalty: 1, RepetitionPenalty: 1.2}
	case 2:
		s.IgnoreEOS = true
	case 3:
		s.Grammar = `root ::= [ -~]*`
	case 4:
		s.Grammar, s.GrammarAfter = `root ::= [a-m] [0-9]*`, []string{"a", "e", "i", "m"}
	case 5:
		for range 100 {
			s.BadWords = append(s.BadWords, []backend.Token{rng.Int32N(250)}, []backend.Token{rng.Int32N(250), rng.Int32N(250)})
		}
	}
	if rng.IntN(6) == 0 {
		r.Embed, r.MaxTokens, r.PromptLogprobs = true, 0, false
	}
	if rng.IntN(3) == 0 {
		r.Stop = []string{"a", "zz"}
	}
	return r
}

// Hundreds of requests that come and go at once, in a cache and in steps that are too
// small for them, each answer as it answers alone.
func TestRandomRequests(t *testing.T) {
	const slots, requests = 3, 300
	p := engine.Params{Path: tinyModel, Slots: slots, Queue: 2 * requests, QueueTokens: 1 << 20}
	alone := open(t, p)
	p.Sequences, p.CacheTokens, p.Context, p.StepTokens, p.Chunk, p.Events = 24, 300, 256, 48, 20, 512
	crowded := open(t, p)
	for slot := 1; slot <= slots; slot++ {
		fill(t, alone, slot, uint32(slot))
		fill(t, crowded, slot, uint32(slot))
	}
	want := make([]enginetest.Answer, requests)
	for i := range want {
		r := *randomRequest(uint64(i), slots)
		r.NoCache = true
		want[i] = enginetest.Generate(t, alone, &r)
	}
	var clients sync.WaitGroup
	for i := range requests {
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 10))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			leaves := -1 // after so many events
			if rng.IntN(5) == 0 {
				leaves = rng.IntN(10)
			}
			var choices []<-chan backend.Event
			for range 1 + max(0, rng.IntN(12)-9) { // some want several answers
				events, err := crowded.Submit(ctx, randomRequest(uint64(i), slots))
				if err != nil {
					t.Error(err)
					return
				}
				choices = append(choices, events)
			}
			for _, events := range choices {
				var got enginetest.Answer
				for n := 0; ; n++ {
					if n == leaves {
						cancel()
					}
					ev, open := <-events
					if !open {
						break
					}
					got.Text += ev.Text
					got.Tokens = append(got.Tokens, ev.Tokens...)
					got.Prompt = append(got.Prompt, ev.Prompt...)
					got.Last = ev
				}
				switch {
				case leaves >= 0 && errors.Is(got.Last.Err, context.Canceled):
				case got.Last.Err != nil:
					t.Errorf("request %d: %v", i, got.Last.Err)
				default:
					compare(t, i, got, want[i])
				}
			}
		})
	}
	clients.Wait()
	st := crowded.Stats()
	if st.Running != 0 || st.Waiting != 0 || st.WaitingTokens != 0 || st.CacheUsed != st.CacheKept || st.CacheUsed > 300 {
		t.Errorf("something is left: %+v", st)
	}
	if st.Steps[backend.ModeMixed] == 0 || st.MaxSlotsPerStep != slots+1 || st.PrefixHits == 0 || st.Preemptions == 0 {
		t.Errorf("the crowd was not as it should be: %+v", st)
	}
	t.Logf("%+v", st)
}

// compare allows the last bits of log-probabilities to differ.
func compare(t *testing.T, i int, got, want enginetest.Answer) {
	t.Helper()
	if got.Text != want.Text || got.Last.Finish != want.Last.Finish || got.Last.Generated != want.Last.Generated {
		t.Errorf("request %d: %q, %+v\nalone %q, %+v", i, got.Text, got.Last, want.Text, want.Last)
	}
	same := func(a, b backend.TokenInfo) bool {
		return a.ID == b.ID && a.Text == b.Text && near(a.Logprob, b.Logprob)
	}
	if !slices.EqualFunc(got.Last.Embedding, want.Last.Embedding, near) {
		t.Errorf("request %d: embedding %v\nalone %v", i, got.Last.Embedding, want.Last.Embedding)
	}
	if !slices.EqualFunc(got.Tokens, want.Tokens, same) || !slices.EqualFunc(got.Prompt, want.Prompt, same) {
		t.Errorf("request %d: tokens %+v, prompt %+v\nalone %+v, %+v", i, got.Tokens, got.Prompt, want.Tokens, want.Prompt)
	}
}
