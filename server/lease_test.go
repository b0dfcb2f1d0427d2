package server

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"lorikeet/backend/fake"
)

// With its only slot in use, a request for another adapter is told to come back; the
// stream that uses the slot does not notice; afterwards the other is served.
func TestSlotInUse(t *testing.T) {
	quiet := serve(t)
	red := body{"model": base + ":red", "prompt": "abc", "max_tokens": 30, "temperature": 0, "stream": true}
	blue := body{"model": base + ":blue", "prompt": "abc", "max_tokens": 30, "temperature": 0}
	redAlone, blueAlone := string(normal(quiet.post(red).body)), string(normal(quiet.post(blue).body))

	s, e := startGated(t, 1, 20*time.Millisecond)
	stream := s.open(t.Context(), red)
	events := bufio.NewReader(stream.Body)
	first, err := events.ReadString('\n')
	if err != nil || stream.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v: %s", stream.StatusCode, err, first)
	}
	for range 3 {
		r := s.post(blue)
		checkError(t, r, http.StatusServiceUnavailable, "server_error", "adapter_load_timeout")
		if after, ms := r.header.Get("Retry-After"), r.header.Get("Retry-After-Ms"); after != "2" || ms != "2000" {
			t.Errorf("Retry-After %q, retry-after-ms %q", after, ms)
		}
		s.complete(blue.plus(body{"model": base})) // the base needs no slot
	}
	// The adapter in the slot is shared while it is held.
	held := s.complete(blue.plus(body{"model": "red", "max_tokens": 1}))
	if want := quiet.complete(blue.plus(body{"model": "red", "max_tokens": 1})); held.Choices[0].Text != want.Choices[0].Text {
		t.Errorf("red beside its stream: %q, alone %q", held.Choices[0].Text, want.Choices[0].Text)
	}

	e.open()
	rest, err := io.ReadAll(events)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(normal([]byte(first + string(rest)))); got != redAlone {
		t.Errorf("the stream: %s\nalone: %s", got, redAlone)
	}
	// A client that comes back is served, at the latest when the load has gone on.
	r := s.post(blue)
	for r.status == http.StatusServiceUnavailable {
		checkError(t, r, http.StatusServiceUnavailable, "server_error", "adapter_load_timeout")
		r = s.post(blue)
	}
	if got := string(normal(r.body)); got != blueAlone {
		t.Errorf("blue: %s\nalone: %s", got, blueAlone)
	}
}

// A client that leaves while it waits for a slot is let go at once, and takes none
// when one is free.
func TestLeavesWhileWaiting(t *testing.T) {
	s, e := startGated(t, 1, loadTimeout)
	stream := s.open(t.Context(), body{"model": "red", "prompt": "abc", "temperature": 0})
	if _, err := bufio.NewReader(stream.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	<-s.arrived
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := s.send(ctx, http.MethodPost, "/v1/completions", nil, s.encode(body{"model": "blue", "prompt": "abc"}))
		left <- err
	}()
	<-s.arrived
	leave()
	if err := <-left; err == nil {
		t.Error("an answer although red holds the slot")
	}
	<-s.done // of blue; red waits for its gate
	e.open()
	<-s.done
	for _, model := range []string{"green", "blue", "red"} {
		s.complete(body{"model": model, "prompt": "abc"})
	}
}

// Requests that fail behind the lease give it back: on one slot, the next adapter
// is loaded.
func TestFailuresReleaseSlots(t *testing.T) {
	s := start(t, fake.New(256, 1), loadTimeout, Options{})
	for _, model := range []string{"red", "blue", "red"} {
		for _, bad := range []body{{"prompt": strings.Repeat("a", 300)}, {"prompt": []int{9999}}, {"prompt": "a", "max_tokens": 1000, "n": 5, "stream": true}} {
			if r := s.post(bad.plus(body{"model": model})); r.status != http.StatusBadRequest {
				t.Errorf("status %d: %s", r.status, r.body)
			}
		}
		s.complete(body{"model": model, "prompt": "a"})
	}
}
