package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/backend/enginetest"
)

const (
	demoModel = "../../demo/parrot.gguf"
	tinyModel = "../../tests/oracle/testdata/mqa/base.gguf" // random weights, context 256, F32
)

func open(t *testing.T, p engine.Params) backend.Engine {
	t.Helper()
	p.Threads = max(1, p.Threads) // more would spin, waiting for each other, where other tests want the CPUs too
	e, err := engine.New(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) backend.Engine { return open(t, engine.Params{Path: demoModel, Slots: 4}) })
}

// Small budgets change when things are computed, never what.
func TestConformanceWithSmallSteps(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) backend.Engine {
		return open(t, engine.Params{Path: demoModel, Slots: 4, StepTokens: 4, Sequences: 3, Chunk: 1, Context: 128, CacheTokens: 128})
	})
}

// long is a request that generates for at least 100 steps.
func long(t *testing.T, e backend.Engine) *backend.Request {
	t.Helper()
	for seed := range uint32(200) {
		r := enginetest.Prompt(t, e, "abc", 200)
		r.Sampling = backend.Sampling{Temperature: 2, TopP: 1, Seed: seed}
		if enginetest.Generate(t, e, r).Last.Generated >= 100 {
			return r
		}
	}
	t.Fatal("no seed gives a long answer")
	return nil
}

func TestQueueFull(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel, Sequences: 1, Queue: 2})
	r := long(t, e)
	ctx, cancel := context.WithCancel(t.Context())
	submit := func() (<-chan backend.Event, error) { return e.Submit(ctx, r) }
	running, err := submit()
	if err != nil {
		t.Fatal(err)
	}
	<-running // it has left the queue
	var waiting []<-chan backend.Event
	for range 2 {
		c, err := submit()
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, c)
	}
	if _, err := submit(); !errors.Is(err, backend.ErrQueueFull) {
		t.Errorf("one more: %v", err)
	}
	if st := e.Stats(); st.Waiting != 2 || st.Running != 1 {
		t.Errorf("%+v", st)
	}
	cancel()
	for _, c := range append(waiting, running) {
		if a := enginetest.Collect(t, c); !errors.Is(a.Last.Err, context.Canceled) {
			t.Errorf("ends with %+v", a.Last)
		}
	}
	if st := e.Stats(); st.Waiting != 0 || st.Running != 0 || st.CacheUsed != st.CacheKept {
		t.Errorf("after all: %+v", st)
	}
}

// Requests that fit the cache one by one, but not together, take turns.
func TestCacheIsShared(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel, CacheTokens: 256})
	r := long(t, e)
	want := enginetest.Generate(t, e, r).Text
	var channels []<-chan backend.Event
	for range 6 {
		c, err := e.Submit(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		channels = append(channels, c)
	}
	for i, c := range channels {
		if a := enginetest.Collect(t, c); a.Text != want || a.Last.Err != nil {
			t.Errorf("request %d: %q, %v; alone %q", i, a.Text, a.Last.Err, want)
		}
	}
}

// Who does not read is cut off; the others go on.
func TestSlowReader(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel, Events: 80})
	r := long(t, e)
	slow, err := e.Submit(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	want := enginetest.Generate(t, e, r) // as long as the slow one would be
	if want.Last.Err != nil {
		t.Fatalf("the one who reads ends with %v", want.Last.Err)
	}
	if a := enginetest.Collect(t, slow); !errors.Is(a.Last.Err, backend.ErrSlowReader) {
		t.Errorf("ends with %+v", a.Last)
	}
	if st := e.Stats(); st.Running != 0 || st.CacheUsed != st.CacheKept {
		t.Errorf("something is left: %+v", st)
	}
}

// Slots are filled while others generate: neither disturbs the other.
func TestFillsBesideGeneration(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel, Slots: 3})
	pool := e.Info().Pool
	if err := e.FillSlot(t.Context(), 1, enginetest.Image(pool, 1)); err != nil {
		t.Fatal(err)
	}
	r := long(t, e)
	r.Slot = 1
	want := enginetest.Generate(t, e, r).Text
	ended := make(chan struct{})
	var filler sync.WaitGroup
	fills := 0
	filler.Go(func() {
		for seed := uint32(2); ; seed++ {
			select {
			case <-ended:
				return
			default:
			}
			if err := e.FillSlot(context.Background(), 2+int(seed%2), enginetest.Image(pool, seed)); err != nil {
				t.Error(err)
				return
			}
			fills++
		}
	})
	for i := range 3 {
		if got := enginetest.Generate(t, e, r).Text; got != want {
			t.Errorf("answer %d: %q, undisturbed %q", i, got, want)
		}
	}
	close(ended)
	filler.Wait()
	if fills < 3 {
		t.Errorf("only %d fills beside 3 answers", fills)
	}
}

// Absurd numbers, from a client or from an adapter, end requests at most.
func TestAbsurdNumbers(t *testing.T) {
	e := open(t, engine.Params{Path: demoModel})
	question := enginetest.Prompt(t, e, "What colour is the sky?", 12)
	want := enginetest.Generate(t, e, question).Text
	for _, temperature := range []float32{1e-45, 1e-38, 1e-20, 1e-6, 1e-3} {
		r := *question
		r.Sampling = backend.Sampling{Temperature: temperature, TopP: 1}
		if a := enginetest.Generate(t, e, &r); a.Text != want {
			t.Errorf("temperature %g: %q, %v", temperature, a.Text, a.Last.Err)
		}
	}
	for _, p := range []float32{0, 1e-45} {
		r := *question
		r.Sampling = backend.Sampling{Temperature: 1, TopP: p, Seed: 1<<32 - 1}
		if a := enginetest.Generate(t, e, &r); a.Text != want {
			t.Errorf("top_p %g: %q, %v", p, a.Text, a.Last.Err)
		}
	}
	// An adapter of the largest finite weights: its activations overflow.
	image := make([]byte, e.Info().Pool.ImageSize())
	for i := range image {
		image[i] = []byte{0xff, 0x7b}[i%2]
	}
	if err := e.FillSlot(t.Context(), 1, image); err != nil {
		t.Fatal(err)
	}
	beside := enginetest.Prompt(t, e, "Count to twenty.", 100)
	beside.Sampling.IgnoreEOS = true
	undisturbed := enginetest.Generate(t, e, beside).Text
	for range 3 {
		events, err := e.Submit(t.Context(), beside)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { // they shared steps with it, and the cache
			if a := enginetest.Collect(t, events); a.Text != undisturbed {
				t.Errorf("beside it: %q, %v; undisturbed %q", a.Text, a.Last.Err, undisturbed)
			}
		}()
		absurd := *question
		absurd.Slot = 1
		if a := enginetest.Generate(t, e, &absurd); !errors.Is(a.Last.Err, backend.ErrDecode) {
			t.Errorf("the absurd adapter answers %q, %v", a.Text, a.Last.Err)
		}
		if a := enginetest.Generate(t, e, question); a.Text != want {
			t.Errorf("after it: %q, %v", a.Text, a.Last.Err)
		}
	}
}

// One seed is one text, this one too, which llama.cpp takes for none.
func TestSeedOfAllOnes(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel})
	r := enginetest.Prompt(t, e, "abc", 30)
	r.Sampling = backend.Sampling{Temperature: 1, TopP: 1, Seed: 1<<32 - 1}
	if a, b := enginetest.Generate(t, e, r).Text, enginetest.Generate(t, e, r).Text; a != b {
		t.Errorf("%q, %q", a, b)
	}
}

func TestLongTexts(t *testing.T) {
	e := open(t, engine.Params{Path: demoModel})
	for _, text := range []string{strings.Repeat("A", 6000), strings.Repeat("\n", 9000), strings.Repeat("x y ", 1500)} {
		enginetest.RoundTrip(t, e, text)
	}
	var tooLong *backend.ContextLengthError
	if _, err := e.Tokenize(strings.Repeat("A", 10<<20), false); !errors.As(err, &tooLong) {
		t.Errorf("10 MiB: %v", err)
	}
}

func TestTargets(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel, Targets: []string{"attn_q", "ffn_down"}})
	if n := len(e.Info().Pool.Weights); n != 2*e.Info().Layers {
		t.Errorf("%d weights in the pool", n)
	}
	for _, target := range []string{"q_proj", "token_embd", "output", ""} {
		if e, err := engine.New(engine.Params{Path: tinyModel, Targets: []string{target}}); err == nil || !strings.Contains(err.Error(), "names no matrix") {
			t.Errorf("target %q: %v", target, err)
			e.Close()
		}
	}
}

func TestNoSlots(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel, Slots: -1})
	if pool := e.Info().Pool; pool.Slots > 1 || len(pool.Weights) != 0 {
		t.Errorf("pool %+v", pool)
	}
	r := enginetest.Prompt(t, e, "abc", 4)
	if a := enginetest.Generate(t, e, r); a.Last.Err != nil {
		t.Error(a.Last.Err)
	}
	r.Slot = 1
	if _, err := e.Submit(t.Context(), r); !errors.Is(err, backend.ErrSlotRange) {
		t.Errorf("slot 1: %v", err)
	}
}

func TestLoadFailures(t *testing.T) {
	for _, path := range []string{"missing.gguf", "engine_test.go", "."} {
		if e, err := engine.New(engine.Params{Path: path}); err == nil {
			e.Close()
			t.Errorf("%s was loaded", path)
		}
	}
}
