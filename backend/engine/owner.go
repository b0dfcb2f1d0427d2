package engine

import (
	"fmt"
	"log/slog"
	"runtime"
	"slices"

	"lorikeet/backend"
	"lorikeet/backend/llama"
	"lorikeet/backend/memory"
	"lorikeet/backend/prefix"
	"lorikeet/backend/sched"
)

// owner is the state of the goroutine that owns the model's context.
type owner struct {
	*Engine
	ctx   *llama.Context
	cache *prefix.Tree
	crew  *crew
	// isolated says that attention reads no cell of another sequence, so that numbers
	// that are not finite stay where they came up. share says that sequences may share
	// the beginning of their cells.
	isolated, share bool

	queue   sched.Queue[*sequence]
	running []*sequence // in order of admission
	filling []*fill
	pace    sched.Pace

	slow       chan *sequence // whose slow choice is made
	slowly     int            // choices under way
	slowPlaces chan struct{}  // taken by those that compute
	idle       bool           // the last step had nothing to compute

	// Used again in every step.
	ready []*sequence // those of running that a step can go on with
	plan  []sched.Sequence
	step  sched.Step
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
	o.idle = true
	for o.lost == nil && o.receive() {
		o.stats.beat()
		o.dropCancelled()
		o.admit()
		o.fillSlots()
		if o.lost == nil {
			o.decode()
		}
	}
	o.endAll(o.close())
}

// lose makes the owner end after this round: the device has failed.
func (o *owner) lose(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lost = fmt.Errorf("%w: %w", backend.ErrLost, err)
}

// close makes the engine take in nothing more, also where nobody asked for it, and
// returns the reason.
func (o *owner) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.closed = true
		close(o.closing)
	}
	return o.reason()
}

func (o *owner) load() error {
	fp, err := fingerprint(o.params.Path)
	if err != nil {
		return err
	}
	where, err := o.params.Place()
	if err != nil {
		return err
	}
	gpu := len(where.Devices) > 0
	o.onGPU = gpu
	if o.model, err = llama.LoadModel(o.params.Path, where); err != nil {
		return err
	}
	if err := o.model.Generates(); err != nil {
		return err
	}
	o.info = o.model.Info()
	if o.params.Pooling != nil {
		o.info.Pooling = *o.params.Pooling
	}
	o.longestPiece = o.model.LongestPiece()
	o.ends = o.model.EndsOfGeneration()
	o.params.setDefaults(o.info.Context)
	o.params.setTypes(o.model.AllF32())
	o.params.Rank = memory.PadRank(o.params.Rank, *o.params.PoolType, gpu)
	p := o.params
	params := llama.ContextParams{
		CacheTokens: p.CacheTokens, StepTokens: p.StepTokens, Sequences: p.Sequences, Threads: p.Threads,
		KeyType: *p.CacheType, ValueType: *p.CacheType, Flash: p.flash(gpu),
		Pool: llama.PoolParams{Slots: max(0, p.Slots) + 1, Rank: p.Rank, Type: *p.PoolType, Targets: p.Targets},
	}
	if o.ctx, err = o.model.NewContext(params); err != nil {
		return err
	}
	if p.Flash != nil && *p.Flash && !o.ctx.Flash() {
		return errNoFlash
	}
	o.isolated = !gpu && o.ctx.Flash()
	if err := o.params.checkTargets(o.ctx.Pool()); err != nil {
		return err
	}
	if err := o.warmUp(); err != nil {
		return err
	}
	o.info.Fingerprint, o.info.Context, o.info.Pool = fp, p.Context, o.ctx.Pool()
	o.inbox = make(chan *sequence, p.Queue)
	o.cache = prefix.New(llama.MaxSequences)
	o.share = o.model.SlidingWindow() == 0 // a window's cells are used again while the sequence goes on
	o.slow = make(chan *sequence, p.Sequences)
	o.slowPlaces = make(chan struct{}, max(1, p.Threads/2))
	o.crew = newCrew(p.Threads)
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
	if o.crew != nil {
		o.crew.dismiss()
	}
	if o.lost != nil {
		return // a device that has failed frees nothing, and tells so by ending the process
	}
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
	if o.idle && len(o.filling) == 0 {
		select {
		case s := <-o.inbox:
			o.enter(s)
		case f := <-o.fills:
			o.filling = append(o.filling, f)
		case s := <-o.slow:
			o.chosen(s)
		case <-o.wake:
		case <-o.closing:
			return false
		}
	}
	for {
		select {
		case s := <-o.inbox:
			o.enter(s)
		case f := <-o.fills:
			o.filling = append(o.filling, f)
		case s := <-o.slow:
			o.chosen(s)
		case <-o.closing:
			return false
		default:
			return true
		}
	}
}

func (o *owner) enter(s *sequence) { o.queue.Push(s.flow, len(s.tokens), s) }

func (o *owner) dropCancelled() {
	if o.queue.Len() > 0 {
		o.queue.Remove(func(s *sequence) bool {
			err := s.ctx.Err()
			if err != nil {
				o.refuse(s, err)
			}
			return err != nil
		})
	}
	o.running = slices.DeleteFunc(o.running, func(s *sequence) bool {
		err := s.ctx.Err()
		if err == nil || s.slow {
			return false
		}
		o.retire(s, backend.Event{Err: err}, true)
		return true
	})
}

// refuse ends a sequence that waits. The caller takes it out of the queue.
func (o *owner) refuse(s *sequence, err error) {
	o.dequeue(len(s.req.Prompt))
	s.end(backend.Event{Err: err})
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
			if err := o.ctx.SetSlotWeight(f.weight, f.slot, f.image[:n]); err != nil {
				o.lose(err)
				return
			}
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

func (o *owner) endAll(err error) {
	o.awaitSlow()
	for _, s := range o.running {
		o.retire(s, backend.Event{Err: err}, false)
	}
	for len(o.inbox) > 0 { // nothing comes in any more
		o.enter(<-o.inbox)
	}
	o.queue.Remove(func(s *sequence) bool {
		o.refuse(s, err)
		return true
	})
	for _, f := range o.filling {
		f.done <- err
	}
}
