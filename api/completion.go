// Package api holds OpenAI's wire types: requests are decoded and validated here
// once, so that whatever goes further is valid; responses and errors have here the
// exact shape in which they are sent.
//
// It knows no models: whether a name exists, a prompt fits, a token is in the
// vocabulary or an adapter can be served is found out behind it. Nor does it know
// HTTP, except for the status that an [Error] carries.
package api

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
)

// Limits of a completion request.
const (
	MaxChoices  = 128  // in one request: n for each prompt
	MaxStops    = 64   // strings, and as many tokens
	MaxStopSize = 1024 // bytes of one stop string
	MaxLogprobs = 20
	MaxBestOf   = 20
	MaxSuffix   = 1 << 20 // bytes
)

// CompletionRequest is a valid request for /v1/completions.
type CompletionRequest struct {
	Model            string
	Prompts          []Prompt // at least one
	AddSpecialTokens bool     // for prompts that are text
	MaxTokens        int
	Sampling
	Suffix       string // what the answer is to lead to; "" is none
	TruncateTo   int    // the last tokens of each prompt; 0: all, -1: as many as fit
	N            int    // choices per prompt
	BestOf       int    // of which they are the best; N at least
	Stop         []string
	StopTokens   []int32
	IncludeStop  bool // in the text
	Echo         bool
	Logprobs     int // -1: none
	Stream       bool
	IncludeUsage bool // in a stream
	UsageSoFar   bool // with each piece of it

	PromptLogprobs int  // -1: none
	SpecialText    bool // special tokens are in the text
	TokenIDs       bool // are told beside the text
	TokensAsIDs    bool // in log-probabilities, instead of their text
	NoCache        bool // compute the whole prompt
	LoRA           []LoRA
}

// Fields that would change the answer and are not served. The values listed beside
// them ask for nothing; beside nil, those in nothing do.
var unsupported = map[string][]string{
	"use_beam_search": nil, "prompt_embeds": nil,
}

var nothing = []string{"false", "0", "0.0", `""`, "[]", "{}"}

// DecodeCompletion reads and validates a request body.
func DecodeCompletion(body []byte) (*CompletionRequest, *Error) {
	f, err := parseFields(body)
	if err != nil {
		return nil, err
	}
	r := &CompletionRequest{
		Model:            f.text("model"),
		AddSpecialTokens: f.boolean("add_special_tokens", true),
		MaxTokens:        f.integer("max_tokens", 16, 0, math.MaxInt32),
		N:                f.integer("n", 1, 1, MaxChoices),
		Stop:             f.stop(),
		StopTokens:       f.tokens("stop_token_ids", MaxStops),
		IncludeStop:      f.boolean("include_stop_str_in_output", false),
		Echo:             f.boolean("echo", false),
		Logprobs:         f.integer("logprobs", -1, 0, MaxLogprobs),
		Stream:           f.boolean("stream", false),
		NoCache:          !f.boolean("cache_prompt", true),
		LoRA:             f.lora(),
		Suffix:           f.suffix(),
		TruncateTo:       f.integer("truncate_prompt_tokens", 0, -1, math.MaxInt32),
		PromptLogprobs:   f.integer("prompt_logprobs", -1, 0, MaxLogprobs),
		SpecialText:      !f.boolean("skip_special_tokens", true),
		TokenIDs:         f.boolean("return_token_ids", false),
		TokensAsIDs:      f.boolean("return_tokens_as_token_ids", false),
	}
	f.text("user")
	r.Sampling = f.sampling(r.MaxTokens)
	r.IncludeUsage, r.UsageSoFar = f.streamOptions(r.Stream)
	r.BestOf = f.bestOf(r)
	if f.err == nil && r.Model == "" {
		f.fail(Invalid("model", "missing_required_parameter", "Missing required parameter: 'model'."))
	}
	r.Prompts = f.prompts("prompt", MaxChoices)
	f.checkCompletion(r)
	f.refuseUnsupported(unsupported, r.N)
	if f.err == nil {
		r.Grammar = f.grammar() // last: it is the most work
	}
	if f.err != nil {
		return nil, f.err
	}
	return r, nil
}

// bestOf is how many answers are made for each prompt.
func (f *fields) bestOf(r *CompletionRequest) int {
	n := f.integer("best_of", r.N, 0, MaxBestOf)
	if f.raw["best_of"] == nil || n == 0 {
		return r.N
	}
	switch {
	case n < r.N:
		f.fail(Invalid("best_of", "integer_below_min_value", "Invalid 'best_of': %d is less than the %d of 'n'.", n, r.N))
	case n > r.N && r.Stream:
		f.fail(Invalid("best_of", "invalid_value", "Invalid 'best_of': the best of several answers can't be streamed; leave 'stream' out, or let 'best_of' be 'n'."))
	}
	return n
}

func (f *fields) suffix() string {
	v, ok := f.raw["suffix"]
	if !ok {
		return ""
	}
	if v[0] != '"' {
		f.wrongType("suffix", "a string")
		return ""
	}
	s := f.utf8("suffix", v)
	if len(s) > MaxSuffix {
		f.fail(Invalid("suffix", "string_above_max_length", "Invalid 'suffix': a string of %d bytes, at most %d are allowed.", len(s), MaxSuffix))
	}
	return s
}

// checkCompletion refuses what fields ask for only together.
func (f *fields) checkCompletion(r *CompletionRequest) {
	switch total := len(r.Prompts) * r.BestOf; {
	case f.err != nil:
	case total > MaxChoices && r.BestOf > r.N:
		f.fail(Invalid("best_of", "integer_above_max_value", "Invalid 'best_of': %d answers to each of %d prompts are more than the %d allowed in one request.", r.BestOf, len(r.Prompts), MaxChoices))
	case total > MaxChoices:
		f.fail(Invalid("n", "integer_above_max_value", "Invalid 'n': %d choices for each of %d prompts are more than the %d allowed in one request.", r.N, len(r.Prompts), MaxChoices))
	case r.PromptLogprobs >= 0 && r.Stream:
		f.fail(Invalid("prompt_logprobs", "invalid_value", "Invalid 'prompt_logprobs': they are not told in streams; leave 'stream' out, or use 'echo' with 'logprobs'."))
	case r.Suffix == "":
	case r.Echo:
		f.fail(Invalid("suffix", "invalid_value", "Invalid 'suffix': it can't be used with 'echo'."))
	case slices.ContainsFunc(r.Prompts, func(p Prompt) bool { return p.Tokens != nil }):
		f.fail(Invalid("suffix", "invalid_value", "Invalid 'suffix': it can be used with prompts that are text only."))
	}
}

func (f *fields) stop() []string {
	v, ok := f.raw["stop"]
	if !ok {
		return nil
	}
	elements := []json.RawMessage{v}
	if v[0] != '"' {
		elements = f.elements("stop", v, "a string or an array of strings", MaxStops)
	}
	var out []string
	for _, e := range elements {
		if e[0] != '"' {
			f.fail(wrongType("stop", "a string or an array of strings", e))
			return nil
		}
		s := f.utf8("stop", e)
		if len(s) > MaxStopSize {
			f.fail(Invalid("stop", "string_above_max_length", "Invalid 'stop': a string of %d bytes, at most %d are allowed.", len(s), MaxStopSize))
			return nil
		}
		if s != "" { // clients send "" for none
			out = append(out, s)
		}
	}
	return out
}

func (f *fields) streamOptions(stream bool) (includeUsage, soFar bool) {
	sub := f.object("stream_options")
	if !stream && len(sub.raw) > 0 {
		f.fail(Invalid("stream_options", "", "The 'stream_options' parameter is only allowed when 'stream' is enabled."))
	}
	includeUsage = sub.boolean("include_usage", false)
	soFar = sub.boolean("continuous_usage_stats", false)
	f.fail(sub.err)
	return includeUsage, includeUsage && soFar
}

// refuseUnsupported refuses what a table such as unsupported lists.
func (f *fields) refuseUnsupported(table map[string][]string, n int) {
	for _, name := range slices.Sorted(maps.Keys(f.raw)) {
		neutral, known := table[name]
		if !known {
			continue
		}
		if neutral == nil {
			neutral = nothing
		}
		var v bytes.Buffer
		_ = json.Compact(&v, f.raw[name]) // it was decoded before
		if slices.Contains(neutral, v.String()) || name == "best_of" && v.String() == strconv.Itoa(n) {
			continue
		}
		f.refuse(name)
	}
}
