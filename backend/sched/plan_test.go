package sched

import (
	"slices"
	"testing"

	"lorikeet/backend"
)

func TestPlan(t *testing.T) {
	gen := func(slot int) Sequence { return Sequence{Slot: slot, Pending: 1} }
	prompt := func(slot, n int) Sequence { return Sequence{Slot: slot, Pending: n, Prompt: true} }
	budget := Budget{Tokens: 16, Chunk: 6}
	base := Sequence{Slot: 2, Base: 7, Pending: 9, Prompt: true}
	tests := []struct {
		name   string
		seqs   []Sequence
		mode   backend.Mode
		shares []Share
	}{
		{"nothing to do", nil, backend.ModeNone, nil},
		{"base only leaves the pool out", []Sequence{gen(0), gen(0)}, backend.ModeNone, []Share{{0, 1, 0}, {1, 1, 0}}},
		{"one adapter is uniform", []Sequence{gen(3), gen(3)}, backend.ModeUniform, []Share{{0, 1, 3}, {1, 1, 3}}},
		{"base and adapter are mixed", []Sequence{gen(0), gen(3)}, backend.ModeMixed, []Share{{0, 1, 0}, {1, 1, 3}}},
		{"a lone prompt takes the whole step", []Sequence{prompt(1, 40)}, backend.ModeUniform, []Share{{0, 16, 1}}},
		{"generation goes first and bounds the prompt's chunk", []Sequence{prompt(1, 40), gen(2)}, backend.ModeMixed, []Share{{1, 1, 2}, {0, 6, 1}}},
		{"prompts share in order of arrival", []Sequence{prompt(1, 10), prompt(1, 10), prompt(1, 10)}, backend.ModeUniform, []Share{{0, 10, 1}, {1, 6, 1}}},
		{"a prompt that gets no share does not make the step mixed", []Sequence{prompt(1, 16), prompt(2, 5)}, backend.ModeUniform, []Share{{0, 16, 1}}},
		{"a share ends where the slot changes", []Sequence{base}, backend.ModeNone, []Share{{0, 7, 0}}},
		{"what the base computes shares a step with an adapter", []Sequence{base, prompt(1, 40)}, backend.ModeMixed, []Share{{0, 7, 0}, {1, 9, 1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got Step
			Plan(tt.seqs, budget, &got)
			if got.Mode != tt.mode || !slices.Equal(got.Shares, tt.shares) {
				t.Errorf("got %v %v, want %v %v", got.Mode, got.Shares, tt.mode, tt.shares)
			}
		})
	}
}

// FuzzPlan checks what must hold of every plan.
func FuzzPlan(f *testing.F) {
	f.Add([]byte{0, 1, 2, 200, 3, 9}, uint8(16), uint8(4))
	f.Fuzz(func(t *testing.T, raw []byte, tokens, chunk uint8) {
		b := Budget{Tokens: int(tokens) + 1, Chunk: int(chunk) + 1}
		var seqs []Sequence
		for _, c := range raw {
			s := Sequence{Slot: int(c) % 5, Pending: 1}
			if c >= 128 {
				s.Prompt, s.Pending = true, int(c)-127
				s.Base = s.Pending * (int(c) % 3) / 2
			}
			seqs = append(seqs, s)
		}
		var step Step
		Plan(seqs, b, &step)
		seen := map[int]bool{}
		slots := map[int]bool{}
		total, prompt := 0, 0
		for _, sh := range step.Shares {
			if seen[sh.Sequence] {
				t.Fatalf("sequence %d twice", sh.Sequence)
			}
			seen[sh.Sequence] = true
			slots[sh.Slot] = true
			if want := seqs[sh.Sequence]; want.Base == 0 && sh.Slot != want.Slot || want.Base > 0 && (sh.Slot != 0 || sh.Tokens > want.Base) {
				t.Fatalf("share %+v of %+v", sh, want)
			}
			if seqs[sh.Sequence].Prompt {
				prompt += sh.Tokens
			}
			if sh.Tokens < 1 || sh.Tokens > seqs[sh.Sequence].Pending {
				t.Fatalf("share %+v of %+v", sh, seqs[sh.Sequence])
			}
			total += sh.Tokens
		}
		if total != step.Tokens || prompt != step.Prompt || total > prompt && prompt > b.Chunk || total > b.Tokens || step.Slots != len(slots) {
			t.Fatalf("step %+v breaks budget %+v", step, b)
		}
		if len(seqs) > 0 && total == 0 {
			t.Fatal("work waits, but the step is empty")
		}
		want := backend.ModeNone
		if len(slots) > 1 {
			want = backend.ModeMixed
		} else if len(slots) == 1 && !slots[0] {
			want = backend.ModeUniform
		}
		if step.Mode != want {
			t.Fatalf("mode %v, want %v", step.Mode, want)
		}
	})
}

// FuzzPlanToTheEnd carries plans out until everything is generated: every token of a
// prompt is computed once, in order, and nobody waits for ever.
func FuzzPlanToTheEnd(f *testing.F) {
	f.Add([]byte{9, 200, 3, 77}, uint8(8), uint8(2))
	f.Fuzz(func(t *testing.T, raw []byte, tokens, chunk uint8) {
		raw = raw[:min(len(raw), 32)]
		b := Budget{Tokens: len(raw) + int(tokens) + 1, Chunk: int(chunk) + 1} // every sequence gets its token in a step
		type sequence struct{ prompt, base, generate, done int }
		var all []sequence
		work := 0
		for _, c := range raw {
			s := sequence{prompt: 1 + int(c), base: int(c) % 7, generate: int(c) % 5}
			all = append(all, s)
			work += s.prompt + s.generate
		}
		var step Step
		for steps := 0; ; steps++ {
			var seqs []Sequence
			var index []int
			for i, s := range all {
				switch left := s.prompt - s.done; {
				case left > 0:
					seqs = append(seqs, Sequence{Slot: 1 + i%3, Base: max(0, s.base-s.done), Pending: left, Prompt: true})
				case s.generate > 0:
					seqs = append(seqs, Sequence{Slot: 1 + i%3, Pending: 1})
				default:
					continue
				}
				index = append(index, i)
			}
			if len(seqs) == 0 {
				return
			}
			if steps > work {
				t.Fatalf("after %d steps %+v still wait", steps, seqs)
			}
			Plan(seqs, b, &step)
			served := map[int]bool{}
			for _, sh := range step.Shares {
				s := &all[index[sh.Sequence]]
				served[sh.Sequence] = true
				if !seqs[sh.Sequence].Prompt {
					s.generate--
					continue
				}
				if want := sh.Slot; (s.done < s.base) != (want == 0) || s.done < s.base && s.done+sh.Tokens > s.base {
					t.Fatalf("share %+v of %+v", sh, *s)
				}
				s.done += sh.Tokens
			}
			for i, s := range seqs {
				if !s.Prompt && !served[i] {
					t.Fatalf("sequence %d generates and gets no token", i)
				}
			}
		}
	})
}
