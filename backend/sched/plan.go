// Package sched decides what the next step of an engine computes: which tokens
// of which sequences, and how they use the adapter pool. It is a pure function
// of its inputs: no clock, no goroutine, no C. The engine carries the plan out.
package sched

import "lorikeet/backend"

// Sequence is what the planner knows of a running sequence.
type Sequence struct {
	Slot    int  // of the adapter pool
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
}

// Step is a plan for one llama_decode call.
type Step struct {
	Mode   backend.Mode
	Shares []Share // in order; the tokens of a share are consecutive
	Tokens int
	Slots  int // number of different slots
}

// Plan fills step with what to compute next. seqs are in order of arrival.
//
//  1. Every generating sequence gets its one token, first come, first served, as
//     far as the budget goes.
//  2. Prompts share what is left, first come, first served, each as much as it
//     can use; if somebody generates, Chunk bounds their sum.
//  3. The mode is the cheapest that is right for the slots that occur.
//
// step's memory is used again.
func Plan(seqs []Sequence, b Budget, step *Step) {
	*step = Step{Shares: step.Shares[:0]}
	for i, s := range seqs {
		if !s.Prompt && step.Tokens < b.Tokens {
			step.add(i, 1)
		}
	}
	left := b.Tokens - step.Tokens
	if step.Tokens > 0 {
		left = min(left, b.Chunk)
	}
	for i, s := range seqs {
		if s.Prompt && left > 0 {
			n := min(s.Pending, left)
			step.add(i, n)
			left -= n
		}
	}
	step.setMode(seqs)
}

func (s *Step) add(sequence, tokens int) {
	s.Shares = append(s.Shares, Share{sequence, tokens})
	s.Tokens += tokens
}

func (s *Step) setMode(seqs []Sequence) {
	for i, a := range s.Shares {
		slot := seqs[a.Sequence].Slot
		seen := false
		for _, b := range s.Shares[:i] {
			if seqs[b.Sequence].Slot == slot {
				seen = true
				break
			}
		}
		if !seen {
			s.Slots++
		}
	}
	switch {
	case s.Slots > 1:
		s.Mode = backend.ModeMixed
	case len(s.Shares) > 0 && seqs[s.Shares[0].Sequence].Slot != 0:
		s.Mode = backend.ModeUniform
	}
}
