// Package fake is a deterministic engine without llama.cpp, to test what stands
// above backend. Its tokens are bytes, and the next one is a function of the
// tokens before it and of the slot's content, within what the request allows; of
// what shapes a distribution it honours the seed only, and it knows no grammars. It
// passes the same conformance tests (backend/enginetest) as backend/engine. Its
// embeddings are a function of the same, and of the version. It keeps no KV cache and
// plans no steps.
package fake

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"sync"
	"time"

	"lorikeet/backend"
	"lorikeet/backend/text"
)

// Tokens beside the 256 bytes.
const (
	BOS backend.Token = 256 + iota
	EOS
	vocabulary
)

// Infill are three of the bytes: control characters.
var Infill = backend.Infill{Prefix: 1, Suffix: 2, Middle: 3}

// Engine is the fake. Use New.
type Engine struct {
	// StepTime is how long a token takes; 0 is no time at all.
	StepTime time.Duration

	info backend.ModelInfo

	mu      sync.Mutex
	slots   map[int]uint64 // hash of the image
	closed  bool
	running int

	stop context.Context
	end  context.CancelFunc
	wg   sync.WaitGroup
}

var _ backend.Engine = (*Engine)(nil)

// New makes an engine with a pool of two weights.
func New(contextLength, slots int) *Engine {
	e := &Engine{
		info: backend.ModelInfo{
			Architecture: "llama", Fingerprint: "fake", Parameters: 1, Context: contextLength, Vocabulary: int(vocabulary),
			Layers: 1, Heads: 2, KVHeads: 1, BOS: BOS, EOS: EOS, Infill: Infill, Embedding: 8, Pooling: backend.PoolLast,
			Pool: backend.Pool{Slots: slots + 1, Rank: 16, Type: backend.F32, Weights: []backend.Weight{
				{Name: "blk.0.attn_q.weight", In: 8, Out: 8}, {Name: "blk.0.attn_k.weight", In: 8, Out: 4},
			}},
		},
		slots: map[int]uint64{},
	}
	e.stop, e.end = context.WithCancel(context.Background())
	return e
}

// Info implements backend.Engine.
func (e *Engine) Info() backend.ModelInfo { return e.info }

// Tokenize implements backend.Engine.
func (e *Engine) Tokenize(s string, addSpecial bool) ([]backend.Token, error) {
	var out []backend.Token
	if addSpecial {
		out = append(out, BOS)
	}
	for i := range len(s) {
		out = append(out, backend.Token(s[i]))
	}
	return out, nil
}

// Piece implements backend.Engine.
func (e *Engine) Piece(t backend.Token, special bool) []byte {
	switch {
	case t >= 0 && t < 256:
		return []byte{byte(t)}
	case t == BOS && special:
		return []byte("<bos>")
	case t == EOS && special:
		return []byte("<eos>")
	case t == BOS || t == EOS:
		return []byte{}
	}
	return nil
}

// FillSlot implements backend.Engine.
func (e *Engine) FillSlot(ctx context.Context, slot int, image []byte) error {
	if slot <= 0 || slot >= e.info.Pool.Slots {
		return fmt.Errorf("%w: %d", backend.ErrSlotRange, slot)
	}
	if want := e.info.Pool.ImageSize(); len(image) != want {
		return fmt.Errorf("%w: %d bytes instead of %d", backend.ErrImageSize, len(image), want)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	h := fnv.New64a()
	h.Write(image)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return backend.ErrClosed
	}
	e.slots[slot] = h.Sum64()
	return nil
}

// Submit implements backend.Engine.
func (e *Engine) Submit(ctx context.Context, r *backend.Request) (<-chan backend.Event, error) {
	if len(r.Prompt)+r.MaxTokens > e.info.Context {
		return nil, &backend.ContextLengthError{Limit: e.info.Context, Prompt: len(r.Prompt), Max: r.MaxTokens}
	}
	if r.Slot < 0 || r.Slot >= max(1, e.info.Pool.Slots) {
		return nil, fmt.Errorf("%w: %d", backend.ErrSlotRange, r.Slot)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, backend.ErrClosed
	}
	e.running++
	g := &generation{e: e, r: r, slot: e.slots[r.Slot], events: make(chan backend.Event, 64)}
	e.wg.Go(func() { g.run(ctx) })
	return g.events, nil
}

// PinMemory implements backend.Engine.
func (e *Engine) PinMemory([]byte) {}

// UnpinMemory implements backend.Engine.
func (e *Engine) UnpinMemory([]byte) {}

// Ready implements backend.Engine.
func (e *Engine) Ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return backend.ErrClosed
	}
	return nil
}

// Stats implements backend.Engine.
func (e *Engine) Stats() backend.Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return backend.Stats{Running: e.running}
}

// Close implements backend.Engine.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.end()
	e.wg.Wait()
	return nil
}

// generation is one request, run by its own goroutine, which ends with it.
type generation struct {
	e      *Engine
	r      *backend.Request
	slot   uint64
	events chan backend.Event
}

func (g *generation) run(ctx context.Context) {
	last := g.generate(ctx)
	g.e.mu.Lock()
	g.e.running--
	g.e.mu.Unlock()
	defer close(g.events)
	if last.Err == nil {
		select {
		case g.events <- last:
			return
		case <-g.e.stop.Done():
			last = backend.Event{Err: backend.ErrClosed, Generated: last.Generated}
		}
	}
	for { // nobody may read any more: an error takes the place of an older event
		select {
		case g.events <- last:
			return
		default:
		}
		select {
		case <-g.events:
		default:
		}
	}
}

func (g *generation) generate(ctx context.Context) backend.Event {
	h := fnv.New64a()
	if g.r.SlotFrom == 0 {
		fmt.Fprint(h, g.slot)
	} else {
		fmt.Fprint(h, 0) // the prompt begins with the base
	}
	if g.r.Sampling.Temperature > 0 {
		fmt.Fprint(h, "seed", g.r.Sampling.Seed)
	}
	var prompt []backend.TokenInfo
	for i, t := range g.r.Prompt {
		if i > 0 && i == g.r.SlotFrom && g.slot != 0 {
			fmt.Fprint(h, g.slot)
		}
		if g.r.PromptLogprobs {
			prompt = append(prompt, g.info(t, h.Sum64(), i > 0))
		}
		fmt.Fprint(h, t, " ")
	}
	if g.r.Embed {
		fmt.Fprint(h, g.r.Version)
		return backend.Event{Embedding: g.embedding(h.Sum64()), Finish: backend.FinishStop}
	}
	if g.r.MaxTokens == 0 {
		return backend.Event{Prompt: prompt, Finish: backend.FinishLength}
	}
	out := text.NewAssembler(g.r.Stop, g.r.IncludeStop, g.r.Logprobs >= 0, g.r.Sampling.MinTokens)
	var answer []backend.Token
	for n := 1; ; n++ {
		if err := g.step(ctx); err != nil {
			return backend.Event{Err: err, Generated: n - 1}
		}
		state := h.Sum64()
		t, ok := g.choose(state, answer)
		answer = append(answer, t)
		if !ok {
			return backend.Event{Err: backend.ErrDecode, Generated: n - 1}
		}
		fmt.Fprint(h, t, " ")
		ev := backend.Event{Prompt: prompt, Generated: n}
		prompt = nil
		var stopped bool
		ended := t == EOS || slices.Contains(g.r.StopTokens, t)
		piece := g.e.Piece(t, g.r.SpecialText)
		if ended && !g.r.IncludeStop {
			piece = nil
		}
		ev.Text, ev.Tokens, stopped = out.Add(piece, g.info(t, state, true))
		if stopped {
			ev.Finish = backend.FinishStop
			return ev
		}
		if ended || n == g.r.MaxTokens {
			rest, tokens := out.Flush()
			ev.Text += rest
			ev.Tokens = append(ev.Tokens, tokens...)
			ev.Finish = backend.FinishLength
			if ended {
				ev.Finish = backend.FinishStop
			}
			return ev
		}
		select {
		case g.events <- ev:
		case <-ctx.Done():
			return backend.Event{Err: ctx.Err(), Generated: n}
		case <-g.e.stop.Done():
			return backend.Event{Err: backend.ErrClosed, Generated: n}
		}
	}
}

// embedding is the vector of a state, of a length other than 1.
func (g *generation) embedding(state uint64) []float32 {
	v := make([]float32, g.e.info.Embedding)
	for i := range v {
		v[i] = float32(int8(state>>(8*i))) + 0.5
	}
	return v
}

// completes tells whether a token after the answer completes one of the bad words.
func completes(words [][]backend.Token, answer []backend.Token, t backend.Token) bool {
	return slices.ContainsFunc(words, func(w []backend.Token) bool {
		last := len(w) - 1
		return last >= 0 && w[last] == t && len(answer) >= last && slices.Equal(answer[len(answer)-last:], w[:last])
	})
}

// choose is the token after a state and an answer: a biased one with ±100 is forced or
// banned, lesser biases do nothing. ok is false if the request allows none.
func (g *generation) choose(state uint64, answer []backend.Token) (t backend.Token, ok bool) {
	s := &g.r.Sampling
	noEnd := len(answer) < s.MinTokens
	may := func(t backend.Token) bool {
		return (s.Allowed == nil || slices.Contains(s.Allowed, t)) && (t != EOS || !s.IgnoreEOS) &&
			(!noEnd || t != EOS && !slices.Contains(g.r.StopTokens, t)) && !completes(s.BadWords, answer, t) && !slices.Contains(s.LogitBias, backend.TokenBias{Token: t, Bias: -100})
	}
	for _, b := range s.LogitBias {
		if b.Bias == 100 && may(b.Token) {
			return b.Token, true
		}
	}
	if t = next(state); may(t) {
		return t, true
	}
	var others []backend.Token
	for t := range vocabulary {
		if may(t) {
			others = append(others, t)
		}
	}
	if len(others) == 0 {
		return 0, false
	}
	return others[state%uint64(len(others))], true
}

// step takes a step's time, or ends early with a reason.
func (g *generation) step(ctx context.Context) error {
	if g.e.StepTime > 0 {
		t := time.NewTimer(g.e.StepTime)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		case <-g.e.stop.Done():
		}
	}
	if g.e.stop.Err() != nil {
		return backend.ErrClosed
	}
	return ctx.Err()
}

// next is the most likely token after a state: a letter mostly, EOS now and then.
func next(state uint64) backend.Token {
	if state%97 == 0 {
		return EOS
	}
	return backend.Token("abcdefghijklmnopqrstuvwxyz ,.\n"[state%30])
}

// info scores a token after a state: the most likely one has 1/2, the others share
// the rest.
func (g *generation) info(t backend.Token, state uint64, scored bool) backend.TokenInfo {
	i := backend.TokenInfo{ID: t, Text: string(g.e.Piece(t, g.r.SpecialText)), Scored: scored}
	if !scored {
		return i
	}
	best := next(state)
	rest := float32(math.Log(0.5 / float64(vocabulary-1)))
	i.Logprob = rest
	if t == best {
		i.Logprob = float32(math.Log(0.5))
	}
	for k := 0; k < g.r.Logprobs; k++ {
		if k == 0 {
			i.Top = append(i.Top, backend.TopToken{ID: best, Logprob: float32(math.Log(0.5))})
			continue
		}
		if id := backend.Token(k - 1); id != best {
			i.Top = append(i.Top, backend.TopToken{ID: id, Logprob: rest})
		}
	}
	return i
}
