package llama

/*
#include <stdlib.h>
#include "bridge.h"
*/
import "C"

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"lorikeet/backend"
)

// Errors of a sampler.
var (
	// ErrNoToken says that a sampler's limits leave no token to choose.
	ErrNoToken = errors.New("no token can be chosen")
	// ErrTooLong says that a grammar took too long.
	ErrTooLong = errors.New("the grammar takes too long")
)

// Row is the raw distribution over the next token at one output: a logit for each
// token of the vocabulary, in memory that Context or Keep owns.
type Row struct {
	logits *C.float
	n      C.int
}

// Argmax returns the most likely token; ok is false if a logit is not finite.
func (r Row) Argmax() (t backend.Token, ok bool) {
	t = backend.Token(C.lk_argmax(r.logits, r.n))
	return t, t >= 0
}

// Finite tells whether all logits are finite.
func (r Row) Finite() bool { return bool(C.lk_finite(r.logits, r.n)) }

// Logprobs returns the log-probability of a token, and those of the k most likely.
func (r Row) Logprobs(t backend.Token, k int) (float32, []backend.TopToken) {
	if k == 0 {
		return float32(C.lk_logprobs(r.logits, r.n, C.llama_token(t), 0, nil, nil)), nil
	}
	k = min(k, int(r.n))
	ids, lps := make([]C.llama_token, k), make([]C.float, k)
	lp := C.lk_logprobs(r.logits, r.n, C.llama_token(t), C.int(k), &ids[0], &lps[0])
	top := make([]backend.TopToken, k)
	for j := range top {
		top[j] = backend.TopToken{ID: backend.Token(ids[j]), Logprob: float32(lps[j])}
	}
	return float32(lp), top
}

// Keep copies the row, so that it outlives the next step.
func (r Row) Keep() Row {
	logits := slices.Clone(unsafe.Slice(r.logits, int(r.n)))
	return Row{logits: &logits[0], n: r.n}
}

// Sampler chooses the tokens of one sequence. It belongs to one goroutine at a time.
type Sampler struct{ c *C.struct_lk_sampler }

// NewSampler makes the sampler of a request; ends are the tokens that end an answer.
// Its error, a *backend.GrammarError, is the grammar's.
func (m *Model) NewSampler(r *backend.Request, ends []backend.Token) (*Sampler, error) {
	s := &r.Sampling
	var pin runtime.Pinner // params holds pointers into Go's memory
	defer pin.Unpin()
	bias := make([]C.llama_logit_bias, len(s.LogitBias))
	for i, b := range s.LogitBias {
		bias[i] = C.llama_logit_bias{token: C.llama_token(b.Token), bias: C.float(b.Bias)}
	}
	params := C.lk_sampling{
		temperature: C.float(s.Temperature), top_k: C.int32_t(min(s.TopK, 1<<30)), top_p: C.float(s.TopP), min_p: C.float(s.MinP),
		typical_p: C.float(s.TypicalP), seed: C.uint32_t(s.Seed),
		repetition_penalty: C.float(s.RepetitionPenalty), presence_penalty: C.float(s.PresencePenalty), frequency_penalty: C.float(s.FrequencyPenalty),
		bias: pinned(&pin, bias), n_bias: C.int32_t(len(bias)),
		n_allowed: C.int32_t(len(s.Allowed)), n_ends: C.int32_t(len(ends)),
		n_prompt: C.int32_t(len(r.Prompt)), n_answer: C.int32_t(max(1, r.MaxTokens)),
	}
	bad, badLengths := flat(s.BadWords)
	params.bad_words, params.bad_lengths = (*C.llama_token)(pinned(&pin, bad)), pinned(&pin, badLengths)
	params.n_bad = C.int32_t(len(badLengths))
	params.allowed = (*C.llama_token)(pinned(&pin, s.Allowed))
	params.ends = (*C.llama_token)(pinned(&pin, ends))
	params.prompt = (*C.llama_token)(pinned(&pin, r.Prompt))
	if s.Grammar != "" {
		params.grammar = C.CString(s.Grammar)
		defer C.free(unsafe.Pointer(params.grammar))
		if !slices.Contains(s.GrammarAfter, "") { // which every answer begins with
			lengths := make([]C.int32_t, len(s.GrammarAfter))
			for i, trigger := range s.GrammarAfter {
				lengths[i] = C.int32_t(len(trigger))
			}
			params.triggers = C.CString(strings.Join(s.GrammarAfter, ""))
			defer C.free(unsafe.Pointer(params.triggers))
			params.trigger_lengths, params.n_triggers = pinned(&pin, lengths), C.int32_t(len(lengths))
		}
	}
	var reason errBuf
	c := C.lk_sampler_new(m.vocab, &params, reason.c())
	if c == nil {
		return nil, &backend.GrammarError{Reason: reason.or("can't be used")}
	}
	return &Sampler{c}, nil
}

// flat is several slices as one, and the length of each.
func flat[T any](parts [][]T) (all []T, lengths []C.int32_t) {
	for _, p := range parts {
		all = append(all, p...)
		lengths = append(lengths, C.int32_t(len(p)))
	}
	return all, lengths
}

// pinned is where a slice begins, or nil if it is empty.
func pinned[T any](pin *runtime.Pinner, s []T) *T {
	if len(s) == 0 {
		return nil
	}
	pin.Pin(&s[0])
	return &s[0]
}

// Sample chooses a token, but none of the first so many ends. If slow is set,
// SampleSlowly must choose instead, from the same row.
func (s *Sampler) Sample(r Row, banned int) (t backend.Token, slow bool, err error) {
	chosen := C.lk_sample(s.c, r.logits, C.int32_t(banned))
	if chosen == C.LK_SLOW {
		return 0, true, nil
	}
	t, err = token(chosen)
	return t, false, err
}

// SampleSlowly chooses a token from all that the grammar allows, which may take many
// times as long as a step.
func (s *Sampler) SampleSlowly(r Row, banned int) (backend.Token, error) {
	return token(C.lk_sample_slowly(s.c, r.logits, C.int32_t(banned)))
}

// Bound tells whether the answer has to follow a grammar now: one that waits for its
// trigger binds nothing yet.
func (s *Sampler) Bound() bool { return bool(C.lk_sampler_bound(s.c)) }

func token(chosen C.llama_token) (backend.Token, error) {
	switch chosen {
	case C.LK_NO_TOKEN:
		return 0, ErrNoToken
	case C.LK_TOO_LONG:
		return 0, ErrTooLong
	}
	return backend.Token(chosen), nil
}

// Close frees the sampler. It is idempotent.
func (s *Sampler) Close() {
	if s.c != nil {
		C.lk_sampler_free(s.c)
		s.c = nil
	}
}
