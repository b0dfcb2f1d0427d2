package engine

import (
	"fmt"
	"log/slog"
	"runtime"
	"slices"

	"lorikeet/backend"
	"lorikeet/backend/llama"
	"lorikeet/backend/sched"
)

// owner is the state of the goroutine that owns the model's context.
type owner struct {
	*Engine
	ctx *llama.Context

	waiting []*sequence // in order of arrival
	running []*sequence // in order of admission
	filling []*fill
	freeIDs []int
	room    int // tokens of the cache that are not set aside

	// Used again in every step.
	plan  []sched.Sequence
	step  sched.Step
	first []int // batch position of each share
}

// run is the owner's goroutine, from loading the model to freeing it.
func (e *Engine) run(started chan<- error) {
	runtime.LockOSThread()
	defer close(e.done)
	o := &owner{Engine: e}
	defer o.free()
	if err := o.load(); err != nil {
		started <- err
		return
	}
	started <- nil
	for o.receive() {
		o.dropCancelled()
		o.admit()
		o.fillSlots()
		o.decode()
	}
	o.endAll(backend.ErrClosed)
}

func (o *owner) load() error {
	fp, err := fingerprint(o.params.Path)
	if err != nil {
		return err
	}
	if o.model, err = llama.LoadModel(o.params.Path, llama.ModelParams{GPULayers: o.params.GPULayers}); err != nil {
		return err
	}
	if err := o.model.Generates(); err != nil {
		return err
	}
	o.info = o.model.Info()
	o.longestPiece = o.model.LongestPiece()
	o.params.setDefaults(o.info.Context)
	p := o.params
	typ := backend.F16
	if o.model.AllF32() {
		typ = backend.F32
	}
	if p.CacheType == nil {
		p.CacheType = &typ
	}
	if p.PoolType == nil {
		p.PoolType = &typ
	}
	o.ctx, err = o.model.NewContext(llama.ContextParams{
		CacheTokens: p.CacheTokens, StepTokens: p.StepTokens, Sequences: p.Sequences, Threads: p.Threads,
		CacheType: *p.CacheType, OnGPU: p.GPULayers != 0,
		Pool: llama.PoolParams{Slots: max(0, p.Slots) + 1, Rank: p.Rank, Type: *p.PoolType, Targets: p.Targets},
	})
	if err != nil {
		return err
	}
	if err := o.params.checkTargets(o.ctx.Pool()); err != nil {
		return err
	}
	if err := o.warmUp(); err != nil {
		return err
	}
	o.info.Fingerprint, o.info.Context, o.info.Pool = fp, p.Context, o.ctx.Pool()
	o.inbox = make(chan *sequence, p.Queue)
	o.room = p.CacheTokens
	for id := range p.Sequences {
		o.freeIDs = append(o.freeIDs, id)
	}
	return nil
}

// warmUp computes a small step in each mode, so that a model that can't be
// computed fails at start, and finds out which weights adapters can change.
func (o *owner) warmUp() error {
	modes := []backend.Mode{backend.ModeNone}
	if o.ctx.Pool().Slots > 1 {
		modes = append(modes, backend.ModeUniform, backend.ModeMixed)
	}
	for _, mode := range modes {
		slots := map[backend.Mode][2]int{backend.ModeUniform: {1, 1}, backend.ModeMixed: {0, 1}}[mode]
		o.ctx.Clear()
		for pos, slot := range slots {
			o.ctx.Add(0, pos, 0, slot, true)
		}
		if err := o.ctx.Decode(mode); err != nil {
			return fmt.Errorf("warm up, mode %s: %w", mode, err)
		}
		o.ctx.ForgetAll(false)
	}
	if len(modes) > 1 {
		if dropped := o.ctx.DropUnusedWeights(); len(dropped) > 0 {
			slog.Warn("adapters can't change some weights of this architecture", "base", o.params.Path, "weights", dropped)
		}
	}
	return nil
}

func (o *owner) free() {
	if o.ctx != nil {
		o.ctx.Close()
	}
	if o.model != nil {
		o.model.Close()
	}
}

// receive takes in what others have sent, waiting only if there is nothing to do.
// It returns false when the engine is closing.
func (o *owner) receive() bool {
	if len(o.running)+len(o.waiting)+len(o.filling) == 0 {
		select {
		case s := <-o.inbox:
			o.waiting = append(o.waiting, s)
		case f := <-o.fills:
			o.filling = append(o.filling, f)
		case <-o.wake:
		case <-o.closing:
			return false
		}
	}
	for {
		select {
		case s := <-o.inbox:
			o.waiting = append(o.waiting, s)
		case f := <-o.fills:
			o.filling = append(o.filling, f)
		case <-o.closing:
			return false
		default:
			return true
		}
	}
}

func (o *owner) dropCancelled() {
	o.waiting = slices.DeleteFunc(o.waiting, func(s *sequence) bool {
		err := s.ctx.Err()
		if err != nil {
			o.queued.Add(-1)
			s.end(backend.Event{Err: err})
		}
		return err != nil
	})
	o.running = slices.DeleteFunc(o.running, func(s *sequence) bool {
		err := s.ctx.Err()
		if err != nil {
			o.retire(s, backend.Event{Err: err})
		}
		return err != nil
	})
}

// admit gives waiting requests a sequence, in order, as long as there are ids and
// the cache has room for all that each may need: what runs always finishes.
func (o *owner) admit() {
	n := 0
	for _, s := range o.waiting {
		if len(o.freeIDs) == 0 || s.reserve > o.room {
			break
		}
		s.id = o.freeIDs[len(o.freeIDs)-1]
		o.freeIDs = o.freeIDs[:len(o.freeIDs)-1]
		o.room -= s.reserve
		o.running = append(o.running, s)
		n++
	}
	o.waiting = slices.Delete(o.waiting, 0, n)
	o.stats.running.Add(int64(n))
	o.queued.Add(int64(-n))
}

// retire frees what a running sequence holds and sends its last event. The caller
// takes it out of running.
func (o *owner) retire(s *sequence, last backend.Event) {
	o.ctx.Forget(s.id)
	o.freeIDs = append(o.freeIDs, s.id)
	o.room += s.reserve
	o.stats.running.Add(-1)
	o.stats.cache.Add(-int64(s.past))
	s.end(last)
}

// fillSlots writes a bounded piece of the waiting slot images.
func (o *owner) fillSlots() {
	budget := fillBytes
	for len(o.filling) > 0 && budget > 0 {
		f := o.filling[0]
		pool := &o.info.Pool
		if err := f.ctx.Err(); err != nil {
			f.done <- err
			o.filling = slices.Delete(o.filling, 0, 1)
			continue
		}
		if f.weight < len(pool.Weights) {
			n := pool.ImageBytes(pool.Weights[f.weight])
			o.ctx.SetSlotWeight(f.weight, f.slot, f.image[:n])
			f.image = f.image[n:]
			f.weight++
			budget -= n
		}
		if f.weight == len(pool.Weights) {
			f.done <- nil
			o.filling = slices.Delete(o.filling, 0, 1)
		}
	}
}

// decode plans and computes one step, and hands out what came of it.
func (o *owner) decode() {
	if len(o.running) == 0 {
		return
	}
	o.plan = o.plan[:0]
	for _, s := range o.running {
		o.plan = append(o.plan, sched.Sequence{Slot: s.req.Slot, Pending: s.pending(), Prompt: s.inPrompt()})
	}
	sched.Plan(o.plan, sched.Budget{Tokens: o.params.StepTokens, Chunk: o.params.Chunk}, &o.step)

	o.ctx.Clear()
	o.first = o.first[:0]
	at := 0
	for _, sh := range o.step.Shares {
		o.first = append(o.first, at)
		o.running[sh.Sequence].add(o.ctx, sh.Tokens)
		at += sh.Tokens
	}
	err := o.ctx.Decode(o.step.Mode)
	o.stats.step(&o.step)
	if err != nil {
		slog.Error("a step failed", "err", err, "mode", o.step.Mode.String(), "tokens", o.step.Tokens)
		o.endStep(func(int, *sequence) (backend.Event, bool) {
			return backend.Event{Err: fmt.Errorf("%w: %w", backend.ErrDecode, err)}, true
		})
		return
	}
	if !o.finite() {
		o.wipe()
		return
	}
	o.endStep(func(share int, s *sequence) (backend.Event, bool) {
		if s.generated == 0 && s.req.PromptLogprobs {
			s.scorePrompt(o.ctx, o.model, o.first[share], o.step.Shares[share].Tokens)
		}
		if s.output < 0 {
			return backend.Event{}, false
		}
		return s.advance(o.ctx, o.model)
	})
}

// finite tells whether the step gave numbers wherever a token is to be chosen.
func (o *owner) finite() bool {
	for _, sh := range o.step.Shares {
		if s := o.running[sh.Sequence]; s.output >= 0 && !o.ctx.Finite(s.output) {
			return false
		}
	}
	return true
}

// wipe ends all running requests after a step whose numbers are not finite, as an
// adapter of absurd weights makes them. All sequences share the cache's memory, and
// such a number reaches them through it, so none can go on.
func (o *owner) wipe() {
	slog.Error("a step gave numbers that are not finite: all running requests are ended", "mode", o.step.Mode.String(), "sequences", len(o.running))
	for _, s := range o.running {
		o.retire(s, backend.Event{Err: fmt.Errorf("%w: its numbers are not finite", backend.ErrDecode)})
	}
	o.running = o.running[:0]
	o.ctx.ForgetAll(true)
}

// endStep calls f for each sequence of the step, and retires those that end.
func (o *owner) endStep(f func(share int, s *sequence) (last backend.Event, ended bool)) {
	for i, sh := range o.step.Shares {
		s := o.running[sh.Sequence]
		if last, ended := f(i, s); ended {
			o.retire(s, last)
			o.running[sh.Sequence] = nil
		}
	}
	o.running = slices.DeleteFunc(o.running, func(s *sequence) bool { return s == nil })
}

func (o *owner) endAll(err error) {
	for _, s := range o.running {
		o.retire(s, backend.Event{Err: err})
	}
	for len(o.inbox) > 0 { // nothing comes in any more
		o.waiting = append(o.waiting, <-o.inbox)
	}
	for _, s := range o.waiting {
		s.end(backend.Event{Err: err})
	}
	for _, f := range o.filling {
		f.done <- err
	}
}
