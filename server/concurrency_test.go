package server

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// mixed is one of many requests that run together; they differ in model, prompt,
// length and sampling.
func mixed(i int) body {
	models := []string{base, base + ":red", "green", "blue", base + ":gold"}
	b := body{
		"model": models[i%len(models)], "prompt": fmt.Sprintf("request %d", i), "max_tokens": 20 + i, "seed": i, "stream": true,
		"stream_options": body{"include_usage": true},
	}
	if i%3 == 0 {
		b["temperature"] = 0
	}
	if i%4 == 0 {
		b["logprobs"] = 2
	}
	if i%7 == 0 {
		b["lora"] = []body{{"name": "red", "scale": 0.5}}
		b["model"] = base
	}
	return b
}

// Requests that run together stream, byte for byte, what each streams alone; also
// when the adapters outnumber the slots. No slot is filled while it is used.
func TestConcurrentStreams(t *testing.T) {
	const requests = 50
	alone := map[int]string{}
	quiet := serve(t)
	texts := map[string]bool{}
	for i := range requests {
		r := quiet.post(mixed(i))
		if r.status != http.StatusOK {
			t.Fatalf("request %d: status %d: %s", i, r.status, r.body)
		}
		alone[i] = string(normal(r.body))
		texts[alone[i]] = true
	}
	if len(texts) != requests {
		t.Fatalf("%d different answers to %d requests", len(texts), requests)
	}
	for _, slots := range []int{5, 4, 2, 1} {
		t.Run(fmt.Sprint(slots, " slots"), func(t *testing.T) {
			s := start(t, newGuarded(t, slots), loadTimeout, Options{})
			var all sync.WaitGroup
			begin := make(chan struct{})
			for i := range requests {
				all.Go(func() {
					<-begin
					r, err := s.send(t.Context(), http.MethodPost, "/v1/completions", nil, s.encode(mixed(i)))
					if err != nil {
						t.Error(err)
						return
					}
					if got := read(t, r); got != alone[i] {
						t.Errorf("request %d together: %s\nalone: %s", i, got, alone[i])
					}
				})
			}
			close(begin)
			all.Wait()
		})
	}
}

// Requests without stream, of several choices, together.
func TestConcurrentAnswers(t *testing.T) {
	s := start(t, newGuarded(t, 2), loadTimeout, Options{})
	ask := func(i int) string {
		b := mixed(i).plus(body{"stream": false, "stream_options": nil, "prompt": []string{"a", "b"}, "n": 3, "max_tokens": 10})
		r, err := s.send(t.Context(), http.MethodPost, "/v1/completions", nil, s.encode(b))
		if err != nil {
			t.Error(err)
			return ""
		}
		return read(t, r)
	}
	var alone [20]string
	for i := range alone {
		alone[i] = ask(i)
	}
	var all sync.WaitGroup
	for i := range alone {
		all.Go(func() {
			if got := ask(i); got != alone[i] {
				t.Errorf("request %d together: %s\nalone: %s", i, got, alone[i])
			}
		})
	}
	all.Wait()
}
