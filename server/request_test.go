package server

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"lorikeet/api"
	"lorikeet/backend"
	"lorikeet/backend/fake"
)

// recorder keeps the requests that reach the fake.
type recorder struct {
	*fake.Engine
	mu  sync.Mutex
	got []*backend.Request
}

func (e *recorder) Submit(ctx context.Context, r *backend.Request) (<-chan backend.Event, error) {
	e.mu.Lock()
	e.got = append(e.got, r)
	e.mu.Unlock()
	return e.Engine.Submit(ctx, r)
}

// take returns the requests since the last take.
func (e *recorder) take() []*backend.Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	got := e.got
	e.got = nil
	return got
}

// Every field reaches the engine as it was sent, and changes nothing else.
func TestFieldsReachEngine(t *testing.T) {
	e := &recorder{Engine: fake.New(256, 1)}
	s := start(t, e, loadTimeout, Options{})
	type request = backend.Request
	tests := []struct {
		members string
		change  func(*request)
	}{
		{`"user":"u"`, func(*request) {}},
		{`"prompt":[5,6]`, func(r *request) { r.Prompt = []backend.Token{5, 6} }},
		{`"add_special_tokens":false`, func(r *request) { r.Prompt = r.Prompt[1:] }},
		{`"max_tokens":3`, func(r *request) { r.MaxTokens = 3 }},
		{`"temperature":0.5`, func(r *request) { r.Sampling.Temperature = 0.5 }},
		{`"top_k":40`, func(r *request) { r.Sampling.TopK = 40 }},
		{`"top_k":-1`, func(*request) {}},
		{`"top_p":0.5`, func(r *request) { r.Sampling.TopP = 0.5 }},
		{`"min_p":0.25`, func(r *request) { r.Sampling.MinP = 0.25 }},
		{`"typical_p":0.75`, func(r *request) { r.Sampling.TypicalP = 0.75 }},
		{`"seed":8`, func(r *request) { r.Sampling.Seed = 8 }},
		{`"repetition_penalty":1.5`, func(r *request) { r.Sampling.RepetitionPenalty = 1.5 }},
		{`"presence_penalty":-0.5`, func(r *request) { r.Sampling.PresencePenalty = -0.5 }},
		{`"frequency_penalty":0.5`, func(r *request) { r.Sampling.FrequencyPenalty = 0.5 }},
		{`"logit_bias":{"100":-1.5,"9":100}`, func(r *request) {
			r.Sampling.LogitBias = []backend.TokenBias{{Token: 9, Bias: 100}, {Token: 100, Bias: -1.5}}
		}},
		{`"min_tokens":4`, func(r *request) { r.Sampling.MinTokens = 4 }},
		{`"ignore_eos":true`, func(r *request) { r.Sampling.IgnoreEOS = true }},
		{`"allowed_token_ids":[7,257]`, func(r *request) { r.Sampling.Allowed = []backend.Token{7, 257} }},
		{`"stop":["x",""]`, func(r *request) { r.Stop = []string{"x"} }},
		{`"stop_token_ids":[0,257]`, func(r *request) { r.StopTokens = []backend.Token{0, 257} }},
		{`"include_stop_str_in_output":true`, func(r *request) { r.IncludeStop = true }},
		{`"cache_prompt":false`, func(r *request) { r.NoCache = true }},
		{`"logprobs":2`, func(r *request) { r.Logprobs = 2 }},
		{`"logprobs":0,"echo":true`, func(r *request) { r.Logprobs, r.PromptLogprobs = 0, true }},
		{`"guided_choice":["a","b"]`, func(r *request) { r.Sampling.Grammar = grammarOf(t, `"guided_choice":["a","b"]`) }},
		{`"response_format":{"type":"json_object"}`, func(r *request) { r.Sampling.Grammar = grammarOf(t, `"structured_outputs":{"json_object":true}`) }},
	}
	for _, tt := range tests {
		t.Run(tt.members, func(t *testing.T) {
			b := `{"model":"lab/fake","prompt":"abc","seed":7,` + tt.members + `}`
			if r := s.request(http.MethodPost, "/v1/completions", nil, []byte(b)); r.status != http.StatusOK {
				t.Fatalf("status %d: %s", r.status, r.body)
			}
			want := &request{
				Prompt: []backend.Token{fake.BOS, 'a', 'b', 'c'}, MaxTokens: 16, Logprobs: -1,
				Sampling: backend.Sampling{Temperature: 1, TopP: 1, TypicalP: 1, RepetitionPenalty: 1, Seed: 7},
			}
			tt.change(want)
			if got := e.take(); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
				t.Errorf("got  %+v\nwant %+v", got[0], want)
			}
		})
	}
}

// grammarOf is the GBNF that package api makes of a field.
func grammarOf(t *testing.T, members string) string {
	t.Helper()
	r, err := api.DecodeCompletion([]byte(`{"model":"m","prompt":"p",` + members + `}`))
	if err != nil || !strings.Contains(r.Grammar, "root ::=") {
		t.Fatalf("%v: %+v", err, r)
	}
	return r.Grammar
}

// The choices of a prompt differ in their seed only.
func TestChoicesDifferInSeed(t *testing.T) {
	e := &recorder{Engine: fake.New(256, 1)}
	s := start(t, e, loadTimeout, Options{})
	s.complete(body{"model": base, "prompt": []string{"a", "b"}, "n": 3, "seed": 4294967295, "top_k": 3, "logit_bias": body{"5": 1}})
	got := e.take()
	if len(got) != 6 {
		t.Fatalf("%d requests", len(got))
	}
	for i, r := range got {
		want := *got[i/3*3]
		want.Sampling.Seed = []uint32{1<<32 - 1, 0, 1}[i%3]
		if !reflect.DeepEqual(r, &want) || r.Prompt[1] != backend.Token("ab"[i/3]) {
			t.Errorf("request %d: %+v", i, r)
		}
	}
}

// Tokens outside the vocabulary are refused before anything is computed, in every
// field that takes some.
func TestVocabulary(t *testing.T) {
	e := &recorder{Engine: fake.New(256, 1)}
	s := start(t, e, loadTimeout, Options{})
	for _, field := range []string{"prompt", "stop_token_ids", "allowed_token_ids", "logit_bias"} {
		of := func(id int) body {
			b := body{"model": "red", "prompt": "a", "max_tokens": 1}
			if field == "logit_bias" {
				id, err := json.Marshal(id)
				if err != nil {
					t.Fatal(err)
				}
				return b.plus(body{field: body{string(id): 1}})
			}
			return b.plus(body{field: []int{0, id}})
		}
		s.complete(of(257))
		if len(e.take()) != 1 {
			t.Errorf("%s: not one request", field)
		}
		for _, id := range []int{258, 1<<31 - 1} {
			got := checkError(t, s.post(of(id)), http.StatusBadRequest, "invalid_request_error", "invalid_token_id")
			if got.Param == nil || *got.Param != field || !strings.Contains(got.Message, "258") {
				t.Errorf("%s: %+v", field, got)
			}
		}
		if n := len(e.take()); n != 0 {
			t.Errorf("%s: %d requests with unknown tokens", field, n)
		}
	}
}

// caching answers with one token and tells how much of each prompt was cached, in the
// order of the requests.
type caching struct {
	*fake.Engine
	cached []int
}

func (e *caching) Submit(context.Context, *backend.Request) (<-chan backend.Event, error) {
	events := make(chan backend.Event, 2)
	events <- backend.Event{Text: "x", Generated: 1, Cached: e.cached[0]}
	events <- backend.Event{Generated: 1, Cached: e.cached[0], Finish: backend.FinishStop}
	close(events)
	e.cached = e.cached[1:]
	return events, nil
}

// A prompt counts once, n choices or not: what its first choice found in the cache.
func TestCachedTokens(t *testing.T) {
	tests := []struct {
		members body
		cached  []int
		want    int
	}{
		{body{"prompt": "abc"}, []int{0}, 0},
		{body{"prompt": "abc"}, []int{4}, 4},
		{body{"prompt": "abc", "n": 3}, []int{2, 4, 4}, 2},
		{body{"prompt": []string{"abc", "de"}, "n": 2}, []int{1, 4, 2, 3}, 3},
	}
	e := &caching{Engine: fake.New(256, 1)}
	s := start(t, e, loadTimeout, Options{})
	for _, tt := range tests {
		b := tt.members.plus(body{"model": base})
		e.cached = slices.Clone(tt.cached)
		whole := s.complete(b)
		e.cached = slices.Clone(tt.cached)
		chunks := s.stream(b.plus(body{"stream_options": body{"include_usage": true}}))
		for _, usage := range []*api.Usage{whole.Usage, chunks[len(chunks)-1].Usage} {
			if usage.PromptTokensDetails.CachedTokens != tt.want {
				t.Errorf("%v of %v: %+v, want %d", tt.cached, tt.members, usage, tt.want)
			}
		}
	}
}
