package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"lorikeet/backend"
	"lorikeet/backend/llama"
	"lorikeet/backend/sched"
)

// decode plans and computes one step, and hands out what came of it.
func (o *owner) decode() {
	o.planStep()
	o.idle = o.step.Tokens == 0
	if o.idle {
		return
	}
	o.makeRoom(o.step.Tokens)
	o.ctx.Clear()
	for _, sh := range o.step.Shares {
		o.ready[sh.Sequence].add(o.ctx, sh.Tokens, sh.Slot)
	}
	start := time.Now()
	err := o.ctx.Decode(o.step.Mode)
	took := time.Since(start)
	o.stats.step(&o.step, took)
	o.pace.Observe(o.step.Tokens-o.step.Prompt, o.step.Prompt, took.Seconds())
	if err != nil {
		slog.Error("a step failed", "err", err, "mode", o.step.Mode.String(), "tokens", o.step.Tokens)
		for _, sh := range o.step.Shares {
			o.drop(o.ready[sh.Sequence], fmt.Errorf("%w: %w", backend.ErrDecode, err))
		}
		if errors.Is(err, llama.ErrLost) {
			o.lose(err)
		}
		o.sweep()
		return
	}
	first := 0
	for _, sh := range o.step.Shares {
		s := o.ready[sh.Sequence]
		o.cache.Append(s.id, s.version(s.past), s.tokens[s.past:s.past+sh.Tokens]...) // a share has one version
		s.past += sh.Tokens
		s.collect(o.ctx, first, sh.Tokens)
		first += sh.Tokens
	}
	o.gauge()
	o.crew.each(len(o.step.Shares), func(i int) { o.ready[o.step.Shares[i].Sequence].advance() })
	for _, sh := range o.step.Shares {
		if s := o.ready[sh.Sequence]; !s.ended {
			o.settle(s)
		}
	}
	o.sweep()
}

// planStep decides what the next step computes. It is empty if nothing can be computed.
func (o *owner) planStep() {
	for {
		o.ready, o.plan = o.ready[:0], o.plan[:0]
		generating := 0
		for _, s := range o.running {
			if s.slow {
				continue
			}
			o.ready = append(o.ready, s)
			o.plan = append(o.plan, sched.Sequence{Slot: s.req.Slot, Base: max(0, s.req.SlotFrom-s.past), Pending: s.pending(), Prompt: s.inPrompt()})
			if !s.inPrompt() {
				generating++
			}
		}
		room := o.room()
		prompts := len(o.ready) - generating
		sched.Plan(o.plan, sched.Budget{
			Tokens: min(o.params.StepTokens, room), Chunk: min(o.params.Chunk, o.pace.Chunk(o.params.Stretch, generating, prompts)),
		}, &o.step)
		if generating <= room && (o.step.Tokens > 0 || len(o.ready) == 0) {
			return
		}
		// What runs alone always has room: it was checked when it was submitted.
		o.preempt()
	}
}

// settle does what a sequence's outcome asks for. Those that end are taken out of
// running by sweep.
func (o *owner) settle(s *sequence) {
	if s.out.generate {
		o.queue.Charge(s.flow, 1)
	}
	switch out := &s.out; {
	case out.broken && !o.isolated:
		o.wipe()
	case out.broken:
		slog.Error("numbers that are not finite end a request", "slot", s.req.Slot)
		o.drop(s, errNotFinite)
	case out.slowly:
		s.slow = true
		o.slowly++
		go func() { // awaitSlow waits for it
			o.slowPlaces <- struct{}{}
			s.chooseSlowly()
			<-o.slowPlaces
			o.slow <- s
		}()
	case out.last:
		o.retire(s, out.event, true)
	case out.event.Text == "" && len(out.event.Tokens) == 0 && len(out.event.Prompt) == 0:
	case !s.emit(out.event):
		o.retire(s, backend.Event{Err: backend.ErrSlowReader}, true)
	}
}

// chosen takes a sequence back whose token was chosen slowly.
func (o *owner) chosen(s *sequence) {
	s.slow = false
	o.slowly--
	o.settle(s)
	o.sweep()
}

// awaitSlow waits for all slow choices, and makes nothing of them.
func (o *owner) awaitSlow() {
	for ; o.slowly > 0; o.slowly-- {
		(<-o.slow).slow = false
	}
}

// drop ends a sequence whose cells must not be used again.
func (o *owner) drop(s *sequence, err error) {
	o.retire(s, backend.Event{Err: err}, false)
}

// sweep takes the sequences that have ended out of running.
func (o *owner) sweep() {
	o.running = slices.DeleteFunc(o.running, func(s *sequence) bool { return s.ended })
}

var errNotFinite = fmt.Errorf("%w: its numbers are not finite", backend.ErrDecode)

// wipe ends all running requests after a step whose numbers are not finite, as an
// adapter of absurd weights makes them, and empties the cache: where attention
// multiplies by what it masks, such a number reaches every sequence.
func (o *owner) wipe() {
	slog.Error("a step gave numbers that are not finite: all running requests are ended", "mode", o.step.Mode.String(), "sequences", len(o.running))
	o.awaitSlow()
	for _, s := range o.running {
		if !s.ended {
			o.drop(s, errNotFinite)
		}
	}
	o.cache.Clear()
	o.ctx.ForgetAll(true)
	o.gauge()
}
