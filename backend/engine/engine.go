// Package engine serves one base model on llama.cpp: many sequences at once, each
// with its own adapter, in one step.
//
// One goroutine, the owner, locked to its thread, loads the model and makes every
// call on its context; it owns the KV cache and the content of slots (owner.go).
// Others reach it by channels and never wait for a step, nor does it wait for them: a
// reader whose event buffer is full is cut off.
//
//	Submit -> inbox -> sched.Queue, fair between adapters
//	       -> admit: a sequence id, a prefix of the cache, room (admit.go)
//	       -> sched.Plan -> llama.Decode (step.go)
//	       -> sample, text.Assembler, on all cores (sequence.go) -> Event
//
// Room in the cache is not set aside for answers that may never get as long as they
// may: when it is full, kept prefixes go first, then the youngest sequences, which are
// computed again later. package prefix keeps the account.
//
// A sequence whose grammar has to look at the whole vocabulary does so in a goroutine
// of its own while others go on; it joins the next step after that.
//
// An embedding is made of the hidden states of a prompt's tokens, which llama.cpp gives
// beside their logits in the steps that want them (embed.go).
//
// The engine knows slots, not adapters: what lies in a slot is the business of package
// adapters, which fills slots through FillSlot. It knows neither HTTP nor OpenAI.
package engine

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"lorikeet/backend"
	"lorikeet/backend/llama"
	"lorikeet/backend/memory"
)

// Params configure an engine. Zero values mean the defaults in brackets.
type Params struct {
	Path        string // the base, in GGUF
	Context     int    // tokens of one sequence at most [what the model was trained for, up to 4096]
	Sequences   int    // running at once [16, at most llama.MaxSequences]
	CacheTokens int    // room in the KV cache for all sequences and kept prefixes [4 x Context]
	StepTokens  int    // tokens in one step at most [512]
	Chunk       int    // prompt tokens of a step in which others generate, at most [StepTokens]
	// Stretch is how many times as long such a step may take as one without; Chunk
	// follows [2]. Where more prompts wait than sequences generate, it may take longer.
	Stretch     float64
	Queue       int // requests waiting for a sequence [256]
	QueueTokens int // of their prompts; a lone request may have more [32 x Context]
	Events      int // that a reader may lag behind before it is cut off [256]
	Threads     int // [the number of CPUs]

	GPULayers *int      // layers on GPUs; negative: all, and the output [all if the CUDA backend is there]
	Devices   []string  // GPUs to use [all]
	Split     []float64 // share of each of them [by free memory]
	Flash     *bool     // flash attention [if it can be computed]
	// Sizes of the base, so that one that can't fit is refused before it is loaded; nil:
	// it is not known whether it does.
	Sizes *memory.Model

	Slots   int      // adapters resident at once [16]; negative means no adapters
	Rank    int      // the largest rank that a slot holds [16]; on GPUs it is rounded up, see memory.PadRank
	Targets []string // matrices that adapters may change [DefaultTargets]

	// Element types of the KV cache and of the adapter pool [F32 if all of the
	// base's matrices are, else F16]. F32 takes twice the memory and is a little
	// more accurate.
	CacheType, PoolType *backend.DataType

	Pooling *backend.Pooling // of embeddings [what the base's file says, else the last token]
}

// DefaultTargets are the matrices of attention and feed-forward layers.
var DefaultTargets = []string{"attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}

// fillBytes is how much of a slot image is written between two steps, so that loads
// do not stall streams.
const fillBytes = 16 << 20

func (p *Params) setDefaults(trained int) {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&p.Context, min(trained, 4096))
	set(&p.Sequences, 16)
	set(&p.CacheTokens, 4*p.Context)
	set(&p.StepTokens, 512)
	set(&p.Queue, 256)
	set(&p.QueueTokens, 32*p.Context)
	set(&p.Events, 256)
	set(&p.Threads, runtime.NumCPU())
	set(&p.Slots, 16)
	set(&p.Rank, 16)
	if p.Targets == nil {
		p.Targets = DefaultTargets
	}
	if p.Stretch == 0 {
		p.Stretch = 2
	}
	p.CacheTokens = max(p.CacheTokens, p.Context)
	p.StepTokens = max(p.StepTokens, p.Sequences) // every sequence gets its token in a step
	set(&p.Chunk, p.StepTokens)
}

// checkTargets refuses configured targets that name no matrix of the base.
func (p *Params) checkTargets(pool backend.Pool) error {
	if pool.Slots < 2 {
		return nil
	}
	for _, t := range p.Targets {
		if !slices.Contains(DefaultTargets, t) && !slices.ContainsFunc(pool.Weights, func(w backend.Weight) bool {
			return w.Name == t+".weight" || strings.HasSuffix(w.Name, "."+t+".weight")
		}) {
			return fmt.Errorf("target %q names no matrix of the base that adapters can change (usual ones are %s)", t, strings.Join(DefaultTargets, ", "))
		}
	}
	return nil
}

// Engine is a backend.Engine on llama.cpp.
type Engine struct {
	params Params
	model  *llama.Model
	info   backend.ModelInfo

	onGPU        bool
	longestPiece int             // bytes
	ends         []backend.Token // of generation

	inbox        chan *sequence
	fills        chan *fill
	wake         chan struct{} // something was cancelled
	queued       atomic.Int64  // requests in inbox and queue
	queuedTokens atomic.Int64  // of their prompts

	mu      sync.RWMutex // held for reading while the model or the inbox is used from outside
	closed  bool
	lost    error // why the engine closes itself, if it does
	closing chan struct{}
	done    chan struct{} // the owner has ended and freed everything

	stats stats
}

var _ backend.Engine = (*Engine)(nil)

// New loads the base and starts the owner, which Close stops.
func New(p Params) (*Engine, error) {
	e := &Engine{
		params:  p,
		fills:   make(chan *fill),
		wake:    make(chan struct{}, 1),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
	started := make(chan error)
	go e.run(started)
	if err := <-started; err != nil {
		<-e.done
		return nil, fmt.Errorf("base %s: %w", p.Path, err)
	}
	return e, nil
}

// Info implements backend.Engine.
func (e *Engine) Info() backend.ModelInfo { return e.info }

// reason is why the engine is closed. mu is held.
func (e *Engine) reason() error {
	if e.lost != nil {
		return e.lost
	}
	return backend.ErrClosed
}

// ended is reason for those who do not hold mu.
func (e *Engine) ended() error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.reason()
}

// Tokenize implements backend.Engine.
func (e *Engine) Tokenize(text string, addSpecial bool) ([]backend.Token, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return nil, backend.ErrClosed
	}
	// A text that can't fit is not worth tokenizing, which takes a stack that grows with it.
	if least := len(text) / e.longestPiece; least > e.info.Context {
		return nil, &backend.ContextLengthError{Limit: e.info.Context, Prompt: least}
	}
	return e.model.Tokenize(text, addSpecial)
}

// Piece implements backend.Engine.
func (e *Engine) Piece(t backend.Token, special bool) []byte {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed || t < 0 || int(t) >= e.info.Vocabulary {
		return nil
	}
	return e.model.AppendPiece(nil, t, special)
}

// Submit implements backend.Engine.
func (e *Engine) Submit(ctx context.Context, r *backend.Request) (<-chan backend.Event, error) {
	if len(r.Prompt)+r.MaxTokens > e.info.Context {
		return nil, &backend.ContextLengthError{Limit: e.info.Context, Prompt: len(r.Prompt), Max: r.MaxTokens}
	}
	if r.Slot < 0 || r.Slot > 0 && r.Slot >= e.info.Pool.Slots {
		return nil, fmt.Errorf("%w: %d", backend.ErrSlotRange, r.Slot)
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return nil, e.reason()
	}
	s, err := newSequence(ctx, r, e)
	if err != nil {
		return nil, err
	}
	if !e.enqueue(len(r.Prompt)) {
		s.close()
		return nil, backend.ErrQueueFull
	}
	s.unwatch = context.AfterFunc(ctx, func() { // the owner looks at ctx between steps; this is for when it rests
		select {
		case e.wake <- struct{}{}:
		default:
		}
	})
	e.inbox <- s // as large as the queue, so there is room
	return s.events, nil
}

// enqueue counts a request in, unless the queue is full.
func (e *Engine) enqueue(tokens int) bool {
	waiting, waitingTokens := e.count(1, tokens)
	if waiting == 1 {
		e.stats.beat()
	}
	if waiting > int64(e.params.Queue) || waiting > 1 && waitingTokens > int64(e.params.QueueTokens) {
		e.dequeue(tokens)
		return false
	}
	return true
}

func (e *Engine) dequeue(tokens int) { e.count(-1, -tokens) }

// count adds to what waits, and returns what it comes to.
func (e *Engine) count(requests, tokens int) (waiting, waitingTokens int64) {
	return e.queued.Add(int64(requests)), e.queuedTokens.Add(int64(tokens))
}

// fill is one FillSlot under way.
type fill struct {
	ctx    context.Context
	slot   int
	image  []byte // what is left of it
	weight int    // the next to write
	done   chan error
}

// FillSlot implements backend.Engine.
func (e *Engine) FillSlot(ctx context.Context, slot int, image []byte) error {
	if slot <= 0 || slot >= e.info.Pool.Slots {
		return fmt.Errorf("%w: %d", backend.ErrSlotRange, slot)
	}
	if want := e.info.Pool.ImageSize(); len(image) != want {
		return fmt.Errorf("%w: %d bytes instead of %d", backend.ErrImageSize, len(image), want)
	}
	f := &fill{ctx: ctx, slot: slot, image: image, done: make(chan error, 1)}
	select {
	case e.fills <- f:
	case <-ctx.Done():
		return ctx.Err()
	case <-e.closing:
		return e.ended()
	}
	select {
	case err := <-f.done: // the owner looks at ctx: it must be through with the image
		return err
	case <-e.done:
		return e.ended()
	}
}

// Stats implements backend.Engine.
func (e *Engine) Stats() backend.Stats {
	s := e.stats.snapshot()
	s.Waiting, s.WaitingTokens = int(e.queued.Load()), int(e.queuedTokens.Load())
	s.CacheSize = e.params.CacheTokens
	return s
}

// Close implements backend.Engine.
func (e *Engine) Close() error {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.closing)
	}
	e.mu.Unlock()
	<-e.done
	return nil
}
