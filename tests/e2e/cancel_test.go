package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"testing"

	"lorikeet/backend/engine"
	"lorikeet/backend/enginetest"
	"lorikeet/tests/testserver"
)

// longAnswer is a request that generates at least 100 tokens.
func longAnswer(t *testing.T, s *testserver.Server) body {
	t.Helper()
	for seed := range 100 {
		req := body{"model": "mqa", "prompt": "abc", "max_tokens": 220, "temperature": 2, "seed": seed}
		if c := s.Complete(req); c.Usage.CompletionTokens >= 100 {
			<-s.Done
			return req
		}
		<-s.Done
	}
	t.Fatal("no seed gives a long answer")
	return nil
}

// A client that leaves in the midst of a stream frees its sequence, its room in the
// cache and its place in a slot.
func TestDisconnect(t *testing.T) {
	s := testserver.Start(t, "mqa", engine.Params{Path: "../oracle/testdata/mqa/base.gguf", Slots: 1}, nil)
	req := longAnswer(t, s)
	before := s.Engine.Stats()
	req["stream"] = true
	data, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		ctx, leave := context.WithCancel(context.Background())
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/completions", bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		leave()
		resp.Body.Close()
		<-s.Done // the handler has returned
		if st := s.Engine.Stats(); st.Running != 0 || st.Waiting != 0 || st.CacheUsed != st.CacheKept {
			t.Fatalf("something is left: %+v", st)
		}
	}
	st := s.Engine.Stats()
	var steps uint64
	for m := range st.Steps {
		steps += st.Steps[m] - before.Steps[m]
	}
	t.Logf("20 streams of at least 100 tokens, left at once: %d steps", steps)
	if steps >= 20*100 {
		t.Errorf("%d steps: the sequences ran on to their ends", steps)
	}
}

// The engine computes at most the step that is under way after a request was
// cancelled.
func TestCancelWithinOneStep(t *testing.T) {
	s := testserver.Start(t, "mqa", engine.Params{Path: "../oracle/testdata/mqa/base.gguf"}, nil)
	seed := uint32(longAnswer(t, s)["seed"].(int))
	steps := func() (n uint64) {
		for _, k := range s.Engine.Stats().Steps {
			n += k
		}
		return n
	}
	for range 20 {
		r := enginetest.Prompt(t, s.Engine, "abc", 220)
		r.Sampling.Temperature, r.Sampling.TopP, r.Sampling.Seed = 2, 1, seed
		ctx, cancel := context.WithCancel(context.Background())
		events, err := s.Engine.Submit(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		<-events
		cancel()
		after := steps()
		a := enginetest.Collect(t, events)
		if n := steps() - after; n > 1 {
			t.Fatalf("%d steps after the cancellation", n)
		}
		if a.Last.Err == nil {
			t.Fatal("ran to its end")
		}
	}
}
