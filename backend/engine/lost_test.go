package engine

import (
	"context"
	"errors"
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/llama"
	"lorikeet/demo"
)

// Where ggml would end the process, as at an error of a GPU, the requests in flight get
// an error that says so, later ones too, and nothing hangs.
func TestLostDevice(t *testing.T) {
	path, done, err := demo.Model()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	e, err := New(Params{Path: path, Threads: 1, Sequences: 1})
	if err != nil {
		t.Fatal(err)
	}
	// An assertion of ggml refuses to look at a slot behind the pool's end.
	behind := e.info.Pool.Slots + 1000
	e.info.Pool.Slots = behind + 1
	submit := func(ctx context.Context, slot int, version string) (<-chan backend.Event, error) {
		return e.Submit(ctx, &backend.Request{Prompt: []backend.Token{1, 2, 3}, Slot: slot, Version: version, MaxTokens: 500, Logprobs: -1})
	}
	// One runs while the other two are queued; when it leaves, the bad one is next.
	ctx, leave := context.WithCancel(t.Context())
	first, err := submit(ctx, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	<-first
	bad, err := submit(t.Context(), behind, "bad")
	if err != nil {
		t.Fatal(err)
	}
	queued, err := submit(t.Context(), 0, "")
	if err != nil {
		t.Fatal(err)
	}
	leave()
	for _, tt := range []struct {
		name   string
		events <-chan backend.Event
		want   error
	}{{"the bad one", bad, backend.ErrDecode}, {"the one that is queued", queued, backend.ErrLost}} {
		var last backend.Event
		for last = range tt.events {
		}
		t.Logf("%s: %v", tt.name, last.Err)
		if !errors.Is(last.Err, tt.want) {
			t.Errorf("%s: %v", tt.name, last.Err)
		}
	}
	<-e.done
	if _, err := submit(t.Context(), 0, ""); !errors.Is(err, backend.ErrLost) || !errors.Is(err, llama.ErrLost) {
		t.Errorf("later: %v", err)
	}
	if err := e.FillSlot(t.Context(), 1, make([]byte, e.info.Pool.ImageSize())); !errors.Is(err, backend.ErrLost) {
		t.Errorf("a slot: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}
