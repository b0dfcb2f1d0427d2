package server

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"lorikeet/backend"
	"lorikeet/backend/fake"
)

// clock is a time that goes on when it is told to.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

// limited serves a key with limits and one without, on a clock that stands still.
func limited(t *testing.T, e backend.Engine, ofKey Limits, ofAdapter func(base, adapter string) Limits) (*running, *clock) {
	alice := key("alice-1")
	alice.Limits = ofKey
	s := start(t, e, loadTimeout, Options{Keys: []Key{alice, key("bob-1")}, AdapterLimits: ofAdapter})
	c := &clock{time.Unix(1_700_000_000, 0)}
	s.limits.now = c.now
	return s, c
}

// as asks for a completion with a key.
func (s *running) as(secret string, b body) response {
	s.t.Helper()
	return s.request(http.MethodPost, "/v1/completions", with(secret), s.encode(b))
}

// checkHeaders compares headers that are listed as name and value; "" is none.
func checkHeaders(t *testing.T, r response, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := r.header.Get(pairs[i]); got != pairs[i+1] {
			t.Errorf("%s is %q, want %q", pairs[i], got, pairs[i+1])
		}
	}
}

func TestRequestsPerMinute(t *testing.T) {
	s, c := limited(t, fake.New(256, 4), Limits{RequestsPerMinute: 2}, nil)
	ask := body{"model": "red", "prompt": "a"}
	bad := s.as("alice-1", body{"model": "nobody", "prompt": "a"}) // takes nothing
	checkHeaders(t, bad, "X-Ratelimit-Limit-Requests", "2", "X-Ratelimit-Remaining-Requests", "2", "X-Ratelimit-Reset-Requests", "0s", "X-Ratelimit-Limit-Tokens", "")
	for _, left := range []string{"1", "0"} {
		r := s.as("alice-1", ask)
		if r.status != http.StatusOK {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
		checkHeaders(t, r, "X-Ratelimit-Remaining-Requests", left)
	}
	r := s.as("alice-1", ask.plus(body{"stream": true}))
	e := checkError(t, r, http.StatusTooManyRequests, "rate_limit_exceeded", "rate_limit_exceeded")
	checkHeaders(t, r, "Retry-After", "30", "Retry-After-Ms", "30000", "X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "1m0s")
	if !strings.Contains(e.Message, "2 requests per minute") || strings.Contains(e.Message, "alice-1") {
		t.Errorf("message %q", e.Message)
	}
	checkHeaders(t, s.request(http.MethodGet, "/v1/models", with("alice-1"), nil), "X-Ratelimit-Remaining-Requests", "0")
	if r := s.as("bob-1", ask); r.status != http.StatusOK || r.header.Get("X-Ratelimit-Limit-Requests") != "" {
		t.Errorf("another key: status %d, %v", r.status, r.header)
	}
	c.Time = c.Add(30 * time.Second)
	if r := s.as("alice-1", ask); r.status != http.StatusOK {
		t.Errorf("after the wait: status %d: %s", r.status, r.body)
	}
	if r := s.as("alice-1", ask); r.status != http.StatusTooManyRequests {
		t.Errorf("one more: status %d", r.status)
	}
}

// Tokens are taken when they are used, a prompt once for all of its answers.
func TestTokensPerMinute(t *testing.T) {
	for _, stream := range []bool{false, true} {
		s, c := limited(t, fake.New(256, 4), Limits{TokensPerMinute: 60}, nil)
		ask := body{"model": "red", "prompt": []string{"abcdefghij", "abcdefghij"}, "n": 3, "max_tokens": 20, "temperature": 0, "ignore_eos": true, "add_special_tokens": false, "stream": stream}
		first := s.as("alice-1", ask) // 20 + 120 tokens of 60
		if first.status != http.StatusOK {
			t.Fatalf("status %d: %s", first.status, first.body)
		}
		checkHeaders(t, first, "X-Ratelimit-Limit-Tokens", "60", "X-Ratelimit-Remaining-Tokens", "60", "X-Ratelimit-Reset-Tokens", "0s", "X-Ratelimit-Limit-Requests", "")
		r := s.as("alice-1", ask)
		checkError(t, r, http.StatusTooManyRequests, "rate_limit_exceeded", "rate_limit_exceeded")
		checkHeaders(t, r, "Retry-After", "81", "Retry-After-Ms", "81000", "X-Ratelimit-Remaining-Tokens", "0", "X-Ratelimit-Reset-Tokens", "2m20s")
		c.Time = c.Add(81*time.Second - time.Millisecond)
		if r := s.as("alice-1", ask); r.status != http.StatusTooManyRequests {
			t.Errorf("a moment too early: status %d", r.status)
		}
		c.Time = c.Add(time.Millisecond)
		if r := s.as("alice-1", ask); r.status != http.StatusOK {
			t.Errorf("after the wait: status %d: %s", r.status, r.body)
		}
	}
}

// A request that the engine refuses takes no tokens.
func TestRefusedTakesNoTokens(t *testing.T) {
	s, _ := limited(t, fake.New(256, 4), Limits{TokensPerMinute: 60}, nil)
	if r := s.as("alice-1", body{"model": base, "prompt": strings.Repeat("a", 300)}); r.status != http.StatusBadRequest {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	checkHeaders(t, s.request(http.MethodGet, "/v1/models", with("alice-1"), nil), "X-Ratelimit-Remaining-Tokens", "60")
}

// A place is given back with the request, also when it fails or its client leaves.
func TestConcurrent(t *testing.T) {
	e := newEndless(4, backend.Event{Text: "x", Generated: 1})
	s, _ := limited(t, e, Limits{Concurrent: 1}, nil)
	ask := body{"model": "red", "prompt": "a", "stream": true}
	for range 3 {
		for _, bad := range []body{{"model": "broken"}, {"model": "nobody"}, {"prompt": strings.Repeat("a", 300)}, {"prompt": []int{9999}}} {
			if r := s.as("alice-1", ask.plus(bad)); r.status < 400 || r.status == http.StatusTooManyRequests {
				t.Fatalf("%v: status %d: %s", bad, r.status, r.body)
			}
			<-s.done
		}
		resp, err := s.send(t.Context(), http.MethodPost, "/v1/completions", with("alice-1"), s.encode(ask))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		r := s.as("alice-1", ask)
		checkError(t, r, http.StatusTooManyRequests, "rate_limit_exceeded", "rate_limit_exceeded")
		checkHeaders(t, r, "Retry-After", "1")
		<-s.done
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		<-s.done // its place is free
	}
}

// An adapter's limits hold for all keys together, and not for other adapters. Each
// header tells of whichever limit is nearest.
func TestAdapterLimits(t *testing.T) {
	s, _ := limited(t, fake.New(256, 4), Limits{RequestsPerMinute: 3}, func(_, adapter string) Limits {
		if adapter == "red" {
			return Limits{RequestsPerMinute: 2}
		}
		return Limits{}
	})
	checkHeaders(t, s.as("alice-1", body{"model": "red", "prompt": "a"}), "X-Ratelimit-Limit-Requests", "2", "X-Ratelimit-Remaining-Requests", "1")
	checkHeaders(t, s.as("bob-1", body{"model": base, "prompt": "a", "lora": []body{{"name": "blue"}, {"name": "red", "scale": 0.5}}}), "X-Ratelimit-Remaining-Requests", "0")
	for _, secret := range []string{"alice-1", "bob-1"} {
		r := s.as(secret, body{"model": base + ":red", "prompt": "a"})
		if e := checkError(t, r, http.StatusTooManyRequests, "rate_limit_exceeded", "rate_limit_exceeded"); !strings.Contains(e.Message, base+":red") {
			t.Errorf("message %q", e.Message)
		}
	}
	checkHeaders(t, s.as("alice-1", body{"model": "blue", "prompt": "a"}), "X-Ratelimit-Limit-Requests", "3", "X-Ratelimit-Remaining-Requests", "1") // what red refused took nothing
	if r := s.as("bob-1", body{"model": base, "prompt": "a"}); r.status != http.StatusOK {
		t.Errorf("the base: status %d: %s", r.status, r.body)
	}
}

// The time that a refusal tells is the longest of all limits that are reached.
func TestLongestWaitIsTold(t *testing.T) {
	s, _ := limited(t, fake.New(256, 4), Limits{RequestsPerMinute: 1, TokensPerMinute: 6}, func(string, string) Limits { return Limits{TokensPerMinute: 3} })
	ask := body{"model": "red", "prompt": "abcde", "max_tokens": 4, "temperature": 0, "ignore_eos": true, "add_special_tokens": false}
	if r := s.as("alice-1", ask); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	checkHeaders(t, s.as("alice-1", ask), "Retry-After", "140") // the adapter's 3 - 9 tokens
	checkHeaders(t, s.as("alice-1", ask.plus(body{"model": base})), "Retry-After", "60")
}

// A queue that is full tells of the limits, too.
func TestQueueFullTellsLimits(t *testing.T) {
	s, _ := limited(t, &scripted{Engine: fake.New(256, 4), refuse: backend.ErrQueueFull}, Limits{RequestsPerMinute: 5}, nil)
	r := s.as("alice-1", body{"model": base, "prompt": "a"})
	checkError(t, r, http.StatusTooManyRequests, "rate_limit_exceeded", "rate_limit_exceeded")
	checkHeaders(t, r, "X-Ratelimit-Remaining-Requests", "4", "X-Ratelimit-Reset-Requests", "12s", "Retry-After", "1")
}
