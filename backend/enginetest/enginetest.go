// Package enginetest holds the tests that every backend.Engine passes.
package enginetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"lorikeet/backend"
)

// Run tests the engines that open makes. Each has a context of at least 128 tokens
// and a pool of at least 2 slots beside slot 0.
func Run(t *testing.T, open func(t *testing.T) backend.Engine) {
	tests := []struct {
		name string
		test func(*testing.T, backend.Engine)
	}{
		{"Tokens", testTokens},
		{"Generate", testGenerate},
		{"PromptLogprobs", testPromptLogprobs},
		{"Stop", testStop},
		{"Seed", testSeed},
		{"Least", testLeast},
		{"BadWords", testBadWords},
		{"SpecialText", testSpecialText},
		{"Embed", testEmbed},
		{"Refusals", testRefusals},
		{"Slots", testSlots},
		{"Concurrent", testConcurrent},
		{"Cancel", testCancel},
		{"Close", testClose},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := open(t)
			defer e.Close()
			tt.test(t, e)
		})
	}
}

// Answer is everything that a request's events said.
type Answer struct {
	Text   string
	Tokens []backend.TokenInfo
	Prompt []backend.TokenInfo
	Last   backend.Event
}

// Collect reads events to the end and checks their order.
func Collect(t testing.TB, events <-chan backend.Event) Answer {
	t.Helper()
	var a Answer
	ended := false
	for ev := range events {
		if ended {
			t.Fatal("an event after the last one")
		}
		a.Text += ev.Text
		a.Tokens = append(a.Tokens, ev.Tokens...)
		a.Prompt = append(a.Prompt, ev.Prompt...)
		a.Last = ev
		ended = ev.Finish != "" || ev.Err != nil
	}
	if !ended {
		t.Fatal("closed without a last event")
	}
	return a
}

// Prompt is a request that answers greedily.
func Prompt(t testing.TB, e backend.Engine, text string, maxTokens int) *backend.Request {
	t.Helper()
	tokens, err := e.Tokenize(text, true)
	if err != nil {
		t.Fatal(err)
	}
	return &backend.Request{Prompt: tokens, MaxTokens: maxTokens, Logprobs: -1}
}

// Generate submits a request and collects its answer.
func Generate(t testing.TB, e backend.Engine, r *backend.Request) Answer {
	t.Helper()
	events, err := e.Submit(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return Collect(t, events)
}

// RoundTrip checks that the pieces of a text's tokens are the text.
func RoundTrip(t testing.TB, e backend.Engine, text string) {
	t.Helper()
	tokens, err := e.Tokenize(text, false)
	if err != nil {
		t.Fatal(err)
	}
	var back []byte
	for _, tok := range tokens {
		back = append(back, e.Piece(tok, false)...)
	}
	if string(back) != text {
		t.Errorf("%.100q (%d bytes) comes back as %.100q (%d)", text, len(text), back, len(back))
	}
}

func testTokens(t *testing.T, e backend.Engine) {
	for _, text := range []string{"hello", "", "Grüße 🦜\n\ttabs  and spaces"} {
		RoundTrip(t, e, text)
	}
	for _, id := range []backend.Token{-1, backend.Token(e.Info().Vocabulary)} {
		if e.Piece(id, true) != nil {
			t.Errorf("token %d has a piece", id)
		}
	}
}

func testGenerate(t *testing.T, e backend.Engine) {
	r := Prompt(t, e, "What colour is the sky?", 12)
	plain := Generate(t, e, r)
	if plain.Last.Err != nil || plain.Last.Generated < 1 || plain.Last.Generated > 12 || plain.Tokens != nil || plain.Prompt != nil {
		t.Errorf("plain: %+v", plain)
	}
	r.Logprobs = 2
	scored := Generate(t, e, r)
	if scored.Text != plain.Text || len(scored.Tokens) != scored.Last.Generated {
		t.Errorf("with logprobs: %q of %d tokens, %d scored; without: %q", scored.Text, scored.Last.Generated, len(scored.Tokens), plain.Text)
	}
	var b strings.Builder
	for _, i := range scored.Tokens {
		b.WriteString(i.Text)
		if !i.Scored || i.Logprob > 0 || len(i.Top) != 2 || i.Top[0].ID != i.ID || i.Top[0].Logprob != i.Logprob {
			t.Errorf("greedy token is not the best: %+v", i)
		}
	}
	if b.String() != scored.Text {
		t.Errorf("tokens give %q, the text is %q", b.String(), scored.Text)
	}
}

func testPromptLogprobs(t *testing.T, e backend.Engine) {
	r := Prompt(t, e, "What colour is the sky?", 0)
	r.Logprobs, r.PromptLogprobs = 0, true
	a := Generate(t, e, r)
	if a.Text != "" || a.Last.Generated != 0 || a.Last.Finish != backend.FinishLength || len(a.Prompt) != len(r.Prompt) {
		t.Fatalf("got %+v", a)
	}
	for i, info := range a.Prompt {
		if info.ID != r.Prompt[i] || info.Scored != (i > 0) {
			t.Errorf("prompt token %d: %+v", i, info)
		}
	}
	// Appending what is generated to the prompt scores it the same.
	r.MaxTokens = 4
	generated := Generate(t, e, r)
	long := *r
	long.MaxTokens = 0
	for _, i := range generated.Tokens {
		long.Prompt = append(slices.Clone(long.Prompt), i.ID)
	}
	rescored := Generate(t, e, &long)
	for i, g := range generated.Tokens {
		if d := rescored.Prompt[len(r.Prompt)+i].Logprob - g.Logprob; d > 0.02 || d < -0.02 {
			t.Errorf("token %d: %v generated, %v as prompt", i, g.Logprob, rescored.Prompt[len(r.Prompt)+i].Logprob)
		}
	}
}

func testStop(t *testing.T, e backend.Engine) {
	r := Prompt(t, e, "What colour is the sky?", 12)
	whole := Generate(t, e, r).Text
	stop := string([]rune(whole)[2:4])
	r.Stop = []string{"never occurs", stop}
	a := Generate(t, e, r)
	want, _, _ := strings.Cut(whole, stop)
	if a.Text != want || a.Last.Finish != backend.FinishStop {
		t.Errorf("stop %q: got %q, %s; the whole is %q", stop, a.Text, a.Last.Finish, whole)
	}
}

func testSeed(t *testing.T, e backend.Engine) {
	draw := func(seed uint32) string {
		r := Prompt(t, e, "What", 24)
		r.Sampling = backend.Sampling{Temperature: 1.5, TopP: 1, Seed: seed}
		return Generate(t, e, r).Text
	}
	if a, b := draw(1), draw(1); a != b {
		t.Errorf("one seed, two texts: %q, %q", a, b)
	}
	if a, b := draw(1), draw(2); a == b {
		t.Errorf("two seeds, one text: %q", a)
	}
}

func testRefusals(t *testing.T, e backend.Engine) {
	r := Prompt(t, e, "x", e.Info().Context)
	var tooLong *backend.ContextLengthError
	if _, err := e.Submit(context.Background(), r); !errors.As(err, &tooLong) || tooLong.Limit != e.Info().Context {
		t.Errorf("too long: %v", err)
	}
	for _, slot := range []int{-1, e.Info().Pool.Slots} {
		r := Prompt(t, e, "x", 1)
		r.Slot = slot
		if _, err := e.Submit(context.Background(), r); !errors.Is(err, backend.ErrSlotRange) {
			t.Errorf("submit to slot %d: %v", slot, err)
		}
	}
	pool := e.Info().Pool
	image := make([]byte, pool.ImageSize())
	for _, slot := range []int{-1, 0, pool.Slots} {
		if err := e.FillSlot(context.Background(), slot, image); !errors.Is(err, backend.ErrSlotRange) {
			t.Errorf("fill slot %d: %v", slot, err)
		}
	}
	if err := e.FillSlot(context.Background(), 1, image[1:]); !errors.Is(err, backend.ErrImageSize) {
		t.Errorf("fill with a short image: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.FillSlot(ctx, 1, image); !errors.Is(err, context.Canceled) {
		t.Errorf("fill, cancelled: %v", err)
	}
}

// Image is a slot image whose content depends on seed, strong enough to change
// every distribution.
func Image(p backend.Pool, seed uint32) []byte {
	image := make([]byte, p.ImageSize())
	x := seed*2654435761 + 1
	for i := 0; i < len(image); i += p.Type.Size() {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		// ±1/16 in either type: exponent and sign only.
		if p.Type == backend.F16 {
			image[i+1] = 0x2c | byte(x&0x80)
		} else {
			image[i+3], image[i+2] = 0x3d|byte(x&0x80), 0x80
		}
	}
	return image
}

func testSlots(t *testing.T, e backend.Engine) {
	r := Prompt(t, e, "What colour is the sky?", 8)
	r.Logprobs = 0
	r.NoCache = true // what comes from the cache was computed in other steps, and differs in the last bits
	logprobs := func(slot int) []float32 {
		r.Slot = slot
		var out []float32
		for _, i := range Generate(t, e, r).Tokens {
			out = append(out, float32(i.ID), i.Logprob)
		}
		return out
	}
	base := logprobs(0)
	if !slices.Equal(logprobs(1), base) {
		t.Error("an empty slot changes the answer")
	}
	fill := func(slot int, seed uint32) {
		if err := e.FillSlot(context.Background(), slot, Image(e.Info().Pool, seed)); err != nil {
			t.Fatal(err)
		}
	}
	fill(1, 1)
	fill(2, 2)
	one, two := logprobs(1), logprobs(2)
	if slices.Equal(one, base) || slices.Equal(two, base) || slices.Equal(one, two) {
		t.Error("slots make no difference")
	}
	if !slices.Equal(logprobs(1), one) || !slices.Equal(logprobs(0), base) {
		t.Error("A, B, A: the second A differs")
	}
	fill(1, 2)
	if !slices.Equal(logprobs(1), two) {
		t.Error("a slot filled anew does not answer as its content does elsewhere")
	}
}

func testConcurrent(t *testing.T, e backend.Engine) {
	prompts := []string{"What colour is the sky?", "What does the cow say?", "Count to ten.", "x", "What is the capital of Norway?"}
	want := make([]string, len(prompts))
	for i, p := range prompts {
		want[i] = Generate(t, e, Prompt(t, e, p, 16)).Text
	}
	var channels []<-chan backend.Event
	for range 8 {
		for _, p := range prompts {
			events, err := e.Submit(context.Background(), Prompt(t, e, p, 16))
			if err != nil {
				t.Fatal(err)
			}
			channels = append(channels, events)
		}
	}
	for i, c := range channels {
		if got := Collect(t, c).Text; got != want[i%len(prompts)] {
			t.Errorf("request %d: %q, alone %q", i, got, want[i%len(prompts)])
		}
	}
}

func testCancel(t *testing.T, e backend.Engine) {
	ctx, cancel := context.WithCancel(context.Background())
	r := Prompt(t, e, "Count to twenty.", 100)
	r.Sampling = backend.Sampling{Temperature: 2, TopP: 1, Seed: 3}
	events, err := e.Submit(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	<-events
	cancel()
	if a := Collect(t, events); a.Last.Err != nil && !errors.Is(a.Last.Err, context.Canceled) {
		t.Errorf("ends with %v", a.Last.Err)
	}
	// Cancelled before it was submitted: it ends all the same.
	events, err = e.Submit(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if a := Collect(t, events); !errors.Is(a.Last.Err, context.Canceled) {
		t.Errorf("ends with %v", a.Last.Err)
	}
}

func testClose(t *testing.T, e backend.Engine) {
	r := Prompt(t, e, "Count to twenty.", 100)
	r.Sampling = backend.Sampling{Temperature: 2, TopP: 1, Seed: 3}
	events, err := e.Submit(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if a := Collect(t, events); a.Last.Err != nil && !errors.Is(a.Last.Err, backend.ErrClosed) {
		t.Errorf("ends with %v", a.Last.Err)
	}
	if _, err := e.Submit(context.Background(), r); !errors.Is(err, backend.ErrClosed) {
		t.Errorf("submit: %v", err)
	}
	if err := e.FillSlot(context.Background(), 1, make([]byte, e.Info().Pool.ImageSize())); !errors.Is(err, backend.ErrClosed) {
		t.Errorf("fill: %v", err)
	}
}
