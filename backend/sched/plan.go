// Package sched decides what an engine computes next: which waiting request is
// admitted ([Queue]), which tokens of which sequences make a step and how they use
// the adapter pool ([Plan]), and how many tokens of a prompt may join the steps of
// others ([Pace]). All of it is a function of its inputs: no clock, no goroutine, no
// C. The engine carries the decisions out.
package sched

import "lorikeet/backend"

// Sequence is what the planner knows of a running sequence.
type Sequence struct {
	Slot    int  // of the adapter pool
	Base    int  // how many of the pending tokens, the first ones, use slot 0 instead
	Pending int  // tokens that wait to be computed, at least one
	Prompt  bool // the pending tokens are of the prompt
}

// Budget bounds a step.
type Budget struct {
	Tokens int // in one step
	// Chunk bounds the prompt tokens of a step in which others generate, so that a
	// long prompt does not stall running streams.
	Chunk int
}

// Share is the part of a step that one sequence gets.
type Share struct {
	Sequence int // index into the planner's input
	Tokens   int
	Slot     int
}

// Step is a plan for one llama_decode call.
type Step struct {
	Mode   backend.Mode
	Shares []Share // in order; the tokens of a share are consecutive
	Tokens int
	Prompt int // of them, those of prompts
	Slots  int // number of different slots

	seen []bool // slots
}

// Plan fills step with what to compute next. seqs are in order of arrival.
//
//  1. Every generating sequence gets its one token, first come, first served, as
//     far as the budget goes.
//  2. Prompts share what is left, first come, first served, each as much as it
//     can use; if somebody generates, Chunk bounds their sum. A share ends where
//     the slot changes.
//  3. The mode is the cheapest that is right for the slots that occur.
//
// step's memory is used again.
func Plan(seqs []Sequence, b Budget, step *Step) {
	clear(step.seen)
	*step = Step{Shares: step.Shares[:0], seen: step.seen}
	for i := range seqs {
		if !seqs[i].Prompt && step.Tokens < b.Tokens {
			step.add(i, 1, seqs[i].Slot)
		}
	}
	left := b.Tokens - step.Tokens
	if step.Tokens > 0 {
		left = min(left, b.Chunk)
	}
	for i := range seqs {
		s := &seqs[i]
		if !s.Prompt || left <= 0 {
			continue
		}
		n, slot := min(s.Pending, left), s.Slot
		if s.Base > 0 {
			n, slot = min(n, s.Base), 0
		}
		step.add(i, n, slot)
		step.Prompt += n
		left -= n
	}
	switch {
	case step.Slots > 1:
		step.Mode = backend.ModeMixed
	case step.Slots == 1 && step.Shares[0].Slot != 0:
		step.Mode = backend.ModeUniform
	}
}

func (s *Step) add(sequence, tokens, slot int) {
	s.Shares = append(s.Shares, Share{sequence, tokens, slot})
	s.Tokens += tokens
	for slot >= len(s.seen) {
		s.seen = append(s.seen, false)
	}
	if !s.seen[slot] {
		s.seen[slot] = true
		s.Slots++
	}
}
