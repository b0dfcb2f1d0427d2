package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lorikeet/api"
	"lorikeet/backend"
	"lorikeet/backend/fake"
)

// A draining server refuses new work and ends what runs.
func TestDrain(t *testing.T) {
	b := body{"model": "red", "prompt": "abc", "max_tokens": 30, "temperature": 0, "stream": true}
	want := string(normal(serve(t).post(b).body))
	s, e := startGated(t, 1, loadTimeout)
	stream := bufio.NewReader(s.open(t.Context(), b).Body)
	first, err := stream.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s.Drain()
	for _, r := range []response{s.post(b), s.post(b.plus(body{"stream": false})), s.post(body{}), s.request(http.MethodGet, "/health", nil, nil), s.request(http.MethodGet, "/ready", nil, nil)} {
		checkError(t, r, http.StatusServiceUnavailable, "server_error", "shutting_down")
		if r.header.Get("Retry-After") != "5" || r.header.Get("Retry-After-Ms") != "5000" {
			t.Errorf("header %v", r.header)
		}
	}
	if r := s.request(http.MethodGet, "/v1/models", nil, nil); r.status != http.StatusOK {
		t.Errorf("models: status %d", r.status)
	}
	ended, giveUp := context.WithCancel(t.Context())
	giveUp()
	if err := s.Wait(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the wait for a stream that runs ended with %v", err)
	}
	waited := make(chan error)
	go func() { waited <- s.Wait(t.Context()) }()
	e.open()
	rest, err := io.ReadAll(stream)
	if got := string(normal([]byte(first + string(rest)))); err != nil || got != want {
		t.Errorf("%v: %s\nundisturbed: %s", err, got, want)
	}
	if err := <-waited; err != nil {
		t.Errorf("the wait for the stream ended with %v", err)
	}
}

// The engine is closed under a stream: the client is told, in the stream.
func TestEngineCloses(t *testing.T) {
	e := newEndless(1, backend.Event{Text: "x", Generated: 1})
	s := start(t, e, loadTimeout, Options{})
	stream := bufio.NewReader(s.open(t.Context(), body{"model": base, "prompt": "a"}).Body)
	first, err := stream.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	checkStreamError(t, first+string(rest), 1, "server_error", "shutting_down")
	checkError(t, s.post(body{"model": base, "prompt": "a"}), http.StatusServiceUnavailable, "server_error", "shutting_down")
	checkError(t, s.post(body{"model": "red", "prompt": "a"}), http.StatusServiceUnavailable, "server_error", "shutting_down")
}

// checkStreamError checks a stream that ends, after some chunks, with an error and
// [DONE].
func checkStreamError(t *testing.T, stream string, chunks int, typ, code string) {
	t.Helper()
	all := events(t, []byte(stream))
	if len(all) != chunks+1 {
		t.Fatalf("%d events instead of %d: %s", len(all), chunks+1, stream)
	}
	for _, e := range all[:chunks] {
		if strings.Contains(e, `"error"`) || !strings.Contains(e, `"finish_reason":null`) {
			t.Errorf("chunk %s", e)
		}
	}
	var members map[string]map[string]*string
	if err := json.Unmarshal([]byte(all[chunks]), &members); err != nil || len(members) != 1 || len(members["error"]) != 4 {
		t.Fatalf("%v: %s", err, all[chunks])
	}
	got := members["error"]
	if got["type"] == nil || *got["type"] != typ || (got["code"] == nil) != (code == "") || code != "" && *got["code"] != code {
		t.Errorf("%s, want %s %q", all[chunks], typ, code)
	}
}

// What an engine refuses, and what fails on the way.
func TestEngineErrors(t *testing.T) {
	piece := func(text string) backend.Event { return backend.Event{Text: text, Generated: 1} }
	tests := []struct {
		name       string
		err        error
		status     int // before the first event
		typ, code  string
		retryAfter string
	}{
		{"queue full", backend.ErrQueueFull, 429, "rate_limit_exceeded", "rate_limit_exceeded", "1"},
		{"lost", fmt.Errorf("submit: %w", backend.ErrLost), 503, "server_error", "engine_failed", ""},
		{"closed", fmt.Errorf("submit: %w", backend.ErrClosed), 503, "server_error", "shutting_down", "5"},
		{"too long", &backend.ContextLengthError{Limit: 8, Prompt: 7, Max: 2}, 400, "invalid_request_error", "context_length_exceeded", ""},
		{"grammar", &backend.GrammarError{Reason: "r"}, 400, "invalid_request_error", "invalid_grammar", ""},
		{"grammar, too ambiguous", fmt.Errorf("step: %w", backend.ErrGrammar), 400, "invalid_request_error", "grammar_too_complex", ""},
		{"decode", fmt.Errorf("step: /secret/model.gguf: %w", backend.ErrDecode), 500, "server_error", "", ""},
		{"no such slot", backend.ErrSlotRange, 500, "server_error", "", ""},
		{"slow reader", backend.ErrSlowReader, 408, "invalid_request_error", "slow_reader", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := &scripted{Engine: fake.New(256, 1)}
			s := start(t, e, loadTimeout, Options{})
			check := func(r response) {
				t.Helper()
				checkError(t, r, tt.status, tt.typ, tt.code)
				noRetry := ""
				if tt.status == http.StatusInternalServerError {
					noRetry = "false"
				}
				if r.header.Get("X-Should-Retry") != noRetry || r.header.Get("Retry-After") != tt.retryAfter || strings.Contains(string(r.body), "secret") {
					t.Errorf("header %v: %s", r.header, r.body)
				}
			}
			for _, stream := range []bool{false, true} {
				b := body{"model": "red", "prompt": []string{"a", "b"}, "n": 2, "stream": stream}
				e.refuse, e.events = tt.err, nil
				e.good = 0
				check(s.post(b))
				e.good = 3 // the last of four choices is refused
				check(s.post(b))
				if n := e.Stats().Running; n != 0 {
					t.Errorf("%d choices of a refused request go on", n)
				}
				e.refuse, e.events = nil, []backend.Event{{Err: tt.err}}
				e.good = 0
				check(s.post(b))
			}
			e.events = []backend.Event{piece("x"), piece("y"), {Err: tt.err}}
			check(s.post(body{"model": "red", "prompt": "a"}))
			r := s.post(body{"model": "red", "prompt": "a", "stream": true})
			if r.status != http.StatusOK || r.header.Get("Content-Type") != "text/event-stream; charset=utf-8" || strings.Contains(string(r.body), "secret") {
				t.Errorf("status %d, header %v: %s", r.status, r.header, r.body)
			}
			checkStreamError(t, string(r.body), 2, tt.typ, tt.code)

			e.good = 1
			s.complete(body{"model": "red", "prompt": "a"})
		})
	}
}

// One choice fails, or is not taken: the request fails, and the others, which would
// go on for hours, end with it.
func TestOneChoiceFails(t *testing.T) {
	e := newEndless(1)
	failing := &scripted{Engine: e.Engine, good: 3, events: []backend.Event{{Text: "x", Generated: 1}, {Err: backend.ErrDecode}}}
	s := start(t, failing, loadTimeout, Options{})
	b := body{"model": "red", "prompt": "a", "n": 4}
	checkError(t, s.post(b), http.StatusInternalServerError, "server_error", "")
	failing.good = 3
	checkStreamError(t, string(s.post(b.plus(body{"stream": true})).body), 1, "server_error", "")
	failing.good, failing.refuse = 3, backend.ErrQueueFull
	checkError(t, s.post(b), http.StatusTooManyRequests, "rate_limit_exceeded", "rate_limit_exceeded")
	if n := e.Stats().Running; n != 0 {
		t.Errorf("%d choices go on", n)
	}
}

// Broken adapters are told apart from missing ones, in every way of asking, and
// named by the file and tensor without the server's paths.
func TestBrokenAdapter(t *testing.T) {
	s := serve(t)
	for _, b := range []body{{"model": "broken"}, {"model": base + ":broken", "stream": true}, {"model": base, "lora": []body{{"name": "broken"}}}} {
		for range 2 { // the second is answered from memory
			e := checkError(t, s.post(b.plus(body{"prompt": "a"})), http.StatusBadRequest, "invalid_request_error", "adapter_unusable")
			for _, part := range []string{"adapter_model.safetensors", "layers.0.self_attn.q_proj.lora_A", "7 columns"} {
				if !strings.Contains(e.Message, part) {
					t.Errorf("%q does not name %s", e.Message, part)
				}
			}
		}
	}
	s.complete(body{"model": "red", "prompt": "a"})
}

// Retry-After has whole seconds, never too few; retry-after-ms is exact.
func TestRetryAfter(t *testing.T) {
	for wait, want := range map[time.Duration][2]string{
		0: {"", ""}, time.Millisecond: {"1", "1"}, 1500 * time.Millisecond: {"2", "1500"}, 2 * time.Second: {"2", "2000"},
	} {
		w := httptest.NewRecorder()
		writeError(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), api.Unavailable("c", wait, "m"))
		if got := [2]string{w.Header().Get("Retry-After"), w.Header().Get("Retry-After-Ms")}; got != want || w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %q, want %q", wait, got, want)
		}
	}
}

// unready is an engine that can't be expected to answer.
type unready struct {
	*fake.Engine
	err error
}

func (u *unready) Ready() error { return u.err }

func TestReady(t *testing.T) {
	for code, err := range map[string]error{"engine_failed": backend.ErrLost, "engine_stalled": fmt.Errorf("%w: no step for 2m", backend.ErrStalled)} {
		s := start(t, &unready{fake.New(64, 2), err}, loadTimeout, Options{})
		checkError(t, s.request(http.MethodGet, "/ready", nil, nil), http.StatusServiceUnavailable, "server_error", code)
		if r := s.request(http.MethodGet, "/health", nil, nil); r.status != http.StatusOK {
			t.Errorf("health: %d", r.status)
		}
	}
}
