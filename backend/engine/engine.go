// Package engine serves one base model on llama.cpp: many sequences at once, each
// with its own adapter, in one step.
//
// One goroutine, the owner, locked to its thread, loads the model and makes every
// call on its context; it owns the KV cache, the slots' content and the samplers
// (loop.go). Others reach it by channels and never wait for a step, nor does it
// wait for them: a reader whose event buffer is full is cut off.
//
//	Submit -> inbox -> waiting -> admit (sequence id, room in the cache)
//	       -> sched.Plan -> llama.Decode -> sample -> text.Assembler -> Event
//
// It knows slots, not adapters: what lies in a slot is the business of package
// adapters, which fills slots through FillSlot. It knows neither HTTP nor OpenAI.
package engine

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"lorikeet/backend"
	"lorikeet/backend/llama"
	"lorikeet/backend/sched"
)

// Params configure an engine. Zero values mean the defaults in brackets.
type Params struct {
	Path        string // the base, in GGUF
	Context     int    // tokens of one sequence at most [what the model was trained for, up to 4096]
	Sequences   int    // running at once [16, at most llama.MaxSequences]
	CacheTokens int    // room in the KV cache for all sequences [4 x Context]
	StepTokens  int    // tokens in one step at most [512]
	Chunk       int    // prompt tokens of a step in which others generate [128]
	Queue       int    // requests waiting for a sequence [256]
	Events      int    // that a reader may lag behind before it is cut off [256]
	Threads     int    // [the number of CPUs]
	GPULayers   int    // layers on the GPU; negative means all

	Slots   int      // adapters resident at once [16]; negative means no adapters
	Rank    int      // the largest rank that a slot holds [16]
	Targets []string // matrices that adapters may change [DefaultTargets]

	// Element types of the KV cache and of the adapter pool [F32 if all of the
	// base's matrices are, else F16]. F32 takes twice the memory and is a little
	// more accurate.
	CacheType, PoolType *backend.DataType
}

// DefaultTargets are the matrices of attention and feed-forward layers.
var DefaultTargets = []string{"attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}

// fillBytes is how much of a slot image is written between two steps, so that loads
// do not stall streams.
const fillBytes = 4 << 20

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
	set(&p.Chunk, 128)
	set(&p.Queue, 256)
	set(&p.Events, 256)
	set(&p.Threads, runtime.NumCPU())
	set(&p.Slots, 16)
	set(&p.Rank, 16)
	if p.Targets == nil {
		p.Targets = DefaultTargets
	}
	p.CacheTokens = max(p.CacheTokens, p.Context)
	p.StepTokens = max(p.StepTokens, p.Sequences) // every sequence gets its token in a step
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

	longestPiece int // bytes

	inbox  chan *sequence
	fills  chan *fill
	wake   chan struct{} // something was cancelled
	queued atomic.Int64  // in inbox and waiting

	mu      sync.RWMutex // held for reading while the model or the inbox is used from outside
	closed  bool
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
		return nil, backend.ErrClosed
	}
	if e.queued.Add(1) > int64(e.params.Queue) {
		e.queued.Add(-1)
		return nil, backend.ErrQueueFull
	}
	s := newSequence(ctx, r, e.params.Events)
	s.unwatch = context.AfterFunc(ctx, func() { // the owner looks at ctx between steps; this is for when it rests
		select {
		case e.wake <- struct{}{}:
		default:
		}
	})
	e.inbox <- s // as large as the queue, so there is room
	return s.events, nil
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
		return backend.ErrClosed
	}
	select {
	case err := <-f.done: // the owner looks at ctx: it must be through with the image
		return err
	case <-e.done:
		return backend.ErrClosed
	}
}

// Stats implements backend.Engine.
func (e *Engine) Stats() backend.Stats {
	s := e.stats.snapshot()
	s.Waiting = int(e.queued.Load())
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

// fingerprint identifies a base by its size, its first bytes, which hold the header,
// and samples of its weights: to read all of them would take long.
func fingerprint(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", errors.Unwrap(err) // without the path: New names it
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	if st.IsDir() {
		return "", fmt.Errorf("is a folder, not a GGUF file")
	}
	h := sha256.New()
	_ = binary.Write(h, binary.LittleEndian, st.Size())
	if _, err := io.CopyN(h, f, 8<<20); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	const samples, size = 256, 16 << 10
	buf := make([]byte, size)
	for i := range int64(samples) {
		n, err := f.ReadAt(buf, st.Size()*i/samples)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		h.Write(buf[:n])
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), nil
}

// stats is written by the owner and read by anyone.
type stats struct {
	steps, tokens  [backend.NumModes]atomic.Uint64
	maxSlots       atomic.Int64
	running, cache atomic.Int64 // what has ended is taken off before its last event
}

func (s *stats) step(step *sched.Step) {
	s.cache.Add(int64(step.Tokens))
	s.steps[step.Mode].Add(1)
	s.tokens[step.Mode].Add(uint64(step.Tokens))
	if n := int64(step.Slots); n > s.maxSlots.Load() {
		s.maxSlots.Store(n)
	}
}

func (s *stats) snapshot() backend.Stats {
	out := backend.Stats{
		MaxSlotsPerStep: int(s.maxSlots.Load()),
		Running:         int(s.running.Load()),
		CacheUsed:       int(s.cache.Load()),
	}
	for m := range out.Steps {
		out.Steps[m], out.Tokens[m] = s.steps[m].Load(), s.tokens[m].Load()
	}
	return out
}
