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
)

// CompletionRequest is a valid request for /v1/completions.
type CompletionRequest struct {
	Model            string
	Prompts          []Prompt // at least one
	AddSpecialTokens bool     // for prompts that are text
	MaxTokens        int
	Sampling
	N            int // choices per prompt
	Stop         []string
	StopTokens   []int32
	IncludeStop  bool // in the text
	Echo         bool
	Logprobs     int // -1: none
	Stream       bool
	IncludeUsage bool // in a stream
	NoCache      bool // compute the whole prompt
	LoRA         []LoRA
}

// Fields that would change the answer and are not served. The values listed beside
// them ask for nothing; beside nil, those in nothing do.
var unsupported = map[string][]string{
	"suffix": nil, "best_of": nil, "bad_words": nil, "skip_special_tokens": {"true"}, "return_token_ids": nil,
	"return_tokens_as_token_ids": nil, "prompt_logprobs": {}, "truncate_prompt_tokens": {"-1", "0"},
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
	}
	f.text("user")
	r.Sampling = f.sampling(r.MaxTokens)
	r.IncludeUsage = f.streamOptions(r.Stream)
	if f.err == nil && r.Model == "" {
		f.fail(Invalid("model", "missing_required_parameter", "Missing required parameter: 'model'."))
	}
	r.Prompts = f.prompts()
	if total := len(r.Prompts) * r.N; f.err == nil && total > MaxChoices {
		f.fail(Invalid("n", "integer_above_max_value", "Invalid 'n': %d choices for each of %d prompts are more than the %d allowed in one request.", r.N, len(r.Prompts), MaxChoices))
	}
	f.refuseUnsupported(r.N)
	if f.err == nil {
		r.Grammar = f.grammar() // last: it is the most work
	}
	if f.err != nil {
		return nil, f.err
	}
	return r, nil
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

func (f *fields) streamOptions(stream bool) (includeUsage bool) {
	sub := f.object("stream_options")
	if !stream && len(sub.raw) > 0 {
		f.fail(Invalid("stream_options", "", "The 'stream_options' parameter is only allowed when 'stream' is enabled."))
	}
	includeUsage = sub.boolean("include_usage", false)
	if sub.boolean("continuous_usage_stats", false) {
		sub.refuse("continuous_usage_stats")
	}
	f.fail(sub.err)
	return includeUsage
}

func (f *fields) refuseUnsupported(n int) {
	for _, name := range slices.Sorted(maps.Keys(f.raw)) {
		neutral, known := unsupported[name]
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
