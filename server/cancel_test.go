package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"

	"lorikeet/backend"
)

// A client that leaves frees its sequences before the handler returns, in prefill
// and in decode, streaming or not. The engine would take hours to end by itself.
func TestClientLeaves(t *testing.T) {
	for _, stream := range []bool{false, true} {
		for _, begun := range []bool{false, true} {
			t.Run(fmt.Sprintf("stream %v, first token %v", stream, begun), func(t *testing.T) {
				e := newEndless(1)
				if begun {
					e.first = []backend.Event{{Text: "x", Generated: 1}}
				}
				s := start(t, e, loadTimeout, Options{})
				b := body{"model": "red", "prompt": []string{"a", "b"}, "n": 2, "stream": stream}
				for range 3 {
					ctx, leave := context.WithCancel(t.Context())
					left := make(chan error, 1)
					read := make(chan struct{}) // closed when the client has seen enough
					go func() {
						resp, err := s.send(ctx, http.MethodPost, "/v1/completions", nil, s.encode(b))
						if err == nil {
							defer resp.Body.Close() // not before it is to leave: closing leaves, too
							_, err = bufio.NewReader(resp.Body).ReadString('\n')
						}
						close(read)
						left <- err
						<-ctx.Done()
					}()
					for range 4 {
						<-e.submitted
					}
					if n := e.Stats().Running; n != 4 {
						t.Errorf("%d requests in the engine instead of 4", n)
					}
					if stream && begun {
						<-read
					}
					leave()
					<-s.done
					if n := e.Stats().Running; n != 0 {
						t.Errorf("%d requests go on without their client", n)
					}
					if err := <-left; (err == nil) != (stream && begun) {
						t.Errorf("the client got %v", err)
					}
				}
			})
		}
	}
}

// One client's leaving does not touch another's stream on the same slot.
func TestOthersGoOn(t *testing.T) {
	b := body{"model": "red", "prompt": "abc", "max_tokens": 30, "temperature": 0, "stream": true}
	want := string(normal(serve(t).post(b).body))
	s, e := startGated(t, 1, loadTimeout)
	ctx, leave := context.WithCancel(t.Context())
	type begun struct {
		first string
		rest  io.Reader
	}
	var stay []begun
	for i := range 6 {
		of := t.Context()
		if i%2 == 0 {
			of = ctx
		}
		r := bufio.NewReader(s.open(of, b).Body)
		first, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if i%2 != 0 {
			stay = append(stay, begun{first, r})
		}
	}
	leave()
	for range 3 {
		<-s.done
	}
	e.open()
	for _, b := range stay {
		rest, err := io.ReadAll(b.rest)
		if got := string(normal([]byte(b.first + string(rest)))); err != nil || got != want {
			t.Errorf("%v: %s\nalone: %s", err, got, want)
		}
	}
}
