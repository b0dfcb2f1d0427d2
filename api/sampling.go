package api

import (
	"cmp"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
)

// Limits of the fields that steer sampling.
const (
	MaxRepetitionPenalty = 10
	MinRepetitionPenalty = 0.01
	MaxBiases            = 1024    // of logit_bias; OpenAI allows 300
	MaxAllowed           = 1 << 16 // of allowed_token_ids
	MaxBadWords          = 128
	MaxBadWordSize       = 256 // bytes
)

// Sampling says how the next token is chosen. Token ids may be outside the
// vocabulary.
type Sampling struct {
	Temperature       float32
	TopK              int // 0: off
	TopP              float32
	MinP              float32
	TypicalP          float32
	RepetitionPenalty float32
	PresencePenalty   float32
	FrequencyPenalty  float32
	LogitBias         []TokenBias // by rising token
	MinTokens         int         // MaxTokens at most
	IgnoreEOS         bool
	Allowed           []int32 // nil: all
	BadWords          []string
	Grammar           string // GBNF; "" is none
	Seed              uint32 // the client's, or drawn
}

// TokenBias is added to the logit of a token.
type TokenBias struct {
	Token int32
	Bias  float32
}

// sampling reads everything but the grammar.
func (f *fields) sampling(maxTokens int) Sampling {
	s := Sampling{
		Temperature:       f.decimal("temperature", 1, 0, 2),
		TopK:              max(0, f.integer("top_k", 0, -1, math.MaxInt32)),
		TopP:              f.decimal("top_p", 1, 0, 1),
		MinP:              f.decimal("min_p", 0, 0, 1),
		TypicalP:          f.decimal("typical_p", 1, 0, 1),
		RepetitionPenalty: f.decimal("repetition_penalty", 1, MinRepetitionPenalty, MaxRepetitionPenalty),
		PresencePenalty:   f.decimal("presence_penalty", 0, -2, 2),
		FrequencyPenalty:  f.decimal("frequency_penalty", 0, -2, 2),
		LogitBias:         f.logitBias(),
		MinTokens:         f.integer("min_tokens", 0, 0, math.MaxInt32),
		IgnoreEOS:         f.boolean("ignore_eos", false),
		Allowed:           f.tokens("allowed_token_ids", MaxAllowed),
		BadWords:          f.badWords(),
		Seed:              f.seed(),
	}
	if s.MinTokens > maxTokens {
		f.fail(Invalid("min_tokens", "integer_above_max_value", "Invalid 'min_tokens': %d is more than the %d of 'max_tokens'.", s.MinTokens, maxTokens))
	}
	if f.raw["allowed_token_ids"] != nil && len(s.Allowed) == 0 {
		f.empty("allowed_token_ids")
	}
	return s
}

func (f *fields) badWords() []string {
	v, ok := f.raw["bad_words"]
	if !ok {
		return nil
	}
	const want = "an array of strings"
	var out []string
	for _, e := range f.elements("bad_words", v, want, MaxBadWords) {
		if e[0] != '"' {
			f.fail(wrongType("bad_words", want, e))
			return nil
		}
		switch word := f.utf8("bad_words", e); {
		case word == "":
			f.fail(Invalid("bad_words", "empty_string", "Invalid 'bad_words': a word must not be empty."))
		case len(word) > MaxBadWordSize:
			f.fail(Invalid("bad_words", "string_above_max_length", "Invalid 'bad_words': a word of %d bytes, at most %d are allowed.", len(word), MaxBadWordSize))
		default:
			out = append(out, word)
		}
	}
	return out
}

func (f *fields) logitBias() []TokenBias {
	if n := separators(f.raw["logit_bias"]) + 1; n > MaxBiases {
		f.fail(Invalid("logit_bias", "object_above_max_length", "Invalid 'logit_bias': %d tokens, at most %d are allowed.", n, MaxBiases))
		return nil
	}
	sub := f.object("logit_bias")
	var out []TokenBias
	for _, key := range slices.Sorted(maps.Keys(sub.raw)) {
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil || id < 0 || strconv.FormatInt(id, 10) != key {
			sub.fail(Invalid("logit_bias", "invalid_token_id", "Invalid 'logit_bias': the key %s is not a token id.", quote(key)))
			break
		}
		out = append(out, TokenBias{Token: int32(id), Bias: sub.decimal(key, 0, -100, 100)})
	}
	f.fail(sub.err)
	slices.SortFunc(out, func(a, b TokenBias) int { return cmp.Compare(a.Token, b.Token) })
	return out
}

// seed returns the client's seed folded to 32 bits, or draws one.
func (f *fields) seed() uint32 {
	v, ok := f.raw["seed"]
	if !ok {
		return rand.Uint32()
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) && v[0] == '-':
		f.fail(Invalid("seed", "integer_below_min_value", "Invalid 'seed': integer below minimum value. Expected a 64-bit integer."))
	case errors.Is(err, strconv.ErrRange):
		f.fail(Invalid("seed", "integer_above_max_value", "Invalid 'seed': integer above maximum value. Expected a 64-bit integer."))
	case err != nil:
		f.wrongType("seed", "an integer")
	}
	return uint32(n) ^ uint32(n>>32)
}
