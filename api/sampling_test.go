package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestSamplingAccepted(t *testing.T) {
	sampled := func(change func(*Sampling)) CompletionRequest {
		return set(func(r *CompletionRequest) { change(&r.Sampling) })
	}
	bias := func(b ...TokenBias) CompletionRequest { return sampled(func(s *Sampling) { s.LogitBias = b }) }
	var biases []TokenBias
	for i := range MaxBiases {
		biases = append(biases, TokenBias{int32(i), 1})
	}
	accepted{
		{"values that change nothing", `"top_k":-1,"min_p":0,"typical_p":1.0,"repetition_penalty":1,"presence_penalty":0,"frequency_penalty":0.0,
			"logit_bias":{},"min_tokens":0,"ignore_eos":false,"stop_token_ids":[],"include_stop_str_in_output":false,"cache_prompt":true`, defaults()},
		{"null is the default", `"top_k":null,"min_p":null,"typical_p":null,"repetition_penalty":null,"presence_penalty":null,"frequency_penalty":null,
			"logit_bias":null,"min_tokens":null,"ignore_eos":null,"stop_token_ids":null,"include_stop_str_in_output":null,"allowed_token_ids":null,"cache_prompt":null`, defaults()},
		{"top_k 0", `"top_k":0`, defaults()},
		{"top_k", `"top_k":40`, sampled(func(s *Sampling) { s.TopK = 40 })},
		{"the largest top_k", `"top_k":2147483647`, sampled(func(s *Sampling) { s.TopK = 1<<31 - 1 })},
		{"least values", `"min_p":0,"typical_p":0,"repetition_penalty":0.01,"presence_penalty":-2,"frequency_penalty":-2`, sampled(func(s *Sampling) {
			s.TypicalP, s.RepetitionPenalty, s.PresencePenalty, s.FrequencyPenalty = 0, 0.01, -2, -2
		})},
		{"largest values", `"min_p":1,"typical_p":1,"repetition_penalty":10,"presence_penalty":2,"frequency_penalty":2`, sampled(func(s *Sampling) {
			s.MinP, s.RepetitionPenalty, s.PresencePenalty, s.FrequencyPenalty = 1, 10, 2, 2
		})},
		{"logit_bias", `"logit_bias":{"10":-100,"9":100,"2147483647":0.5,"0":null}`, bias(TokenBias{9, 100}, TokenBias{10, -100}, TokenBias{1<<31 - 1, 0.5})},
		{"the last of two biases", `"logit_bias":{"9":1,"9":2}`, bias(TokenBias{9, 2})},
		{"as many biases as may be", `"logit_bias":` + biasObject(MaxBiases), bias(biases...)},
		{"min_tokens", `"min_tokens":16`, sampled(func(s *Sampling) { s.MinTokens = 16 })},
		{"min_tokens with max_tokens", `"max_tokens":40,"min_tokens":40`, set(func(r *CompletionRequest) { r.MaxTokens, r.MinTokens = 40, 40 })},
		{"ignore_eos", `"ignore_eos":true`, sampled(func(s *Sampling) { s.IgnoreEOS = true })},
		{"allowed_token_ids", `"allowed_token_ids":[ 7, 0,7]`, sampled(func(s *Sampling) { s.Allowed = []int32{7, 0, 7} })},
		{"as many tokens as may be", `"allowed_token_ids":[` + strings.Repeat("5,", MaxAllowed-1) + `5]`, sampled(func(s *Sampling) { s.Allowed = slices.Repeat([]int32{5}, MaxAllowed) })},
		{"stop_token_ids", `"stop_token_ids":[2,0]`, set(func(r *CompletionRequest) { r.StopTokens = []int32{2, 0} })},
		{"include_stop_str_in_output", `"include_stop_str_in_output":true`, set(func(r *CompletionRequest) { r.IncludeStop = true })},
		{"cache_prompt off", `"cache_prompt":false`, set(func(r *CompletionRequest) { r.NoCache = true })},
	}.run(t)
}

// biasObject is a logit_bias of n tokens.
func biasObject(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"%d":1`, i)
	}
	return "{" + b.String()[1:] + "}"
}

func TestSamplingRefused(t *testing.T) {
	refusals{
		{`"top_k":-2`, "top_k", below},
		{`"top_k":2147483648`, "top_k", above},
		{`"top_k":1e308`, "top_k", above},
		{`"top_k":1.5`, "top_k", badType},
		{`"min_p":-0.1`, "min_p", tooLittle},
		{`"min_p":1.1`, "min_p", tooMuch},
		{`"typical_p":-0.1`, "typical_p", tooLittle},
		{`"typical_p":1e308`, "typical_p", tooMuch},
		{`"repetition_penalty":0`, "repetition_penalty", tooLittle},
		{`"repetition_penalty":-1`, "repetition_penalty", tooLittle},
		{`"repetition_penalty":10.1`, "repetition_penalty", tooMuch},
		{`"presence_penalty":-2.1`, "presence_penalty", tooLittle},
		{`"presence_penalty":2.1`, "presence_penalty", tooMuch},
		{`"frequency_penalty":-1e999`, "frequency_penalty", tooLittle},
		{`"frequency_penalty":2.1`, "frequency_penalty", tooMuch},

		{`"logit_bias":{"x":1}`, "logit_bias", badToken},
		{`"logit_bias":{"":1}`, "logit_bias", badToken},
		{`"logit_bias":{"-1":1}`, "logit_bias", badToken},
		{`"logit_bias":{"+1":1}`, "logit_bias", badToken},
		{`"logit_bias":{"01":1}`, "logit_bias", badToken},
		{`"logit_bias":{"1.0":1}`, "logit_bias", badToken},
		{`"logit_bias":{"2147483648":1}`, "logit_bias", badToken},
		{`"logit_bias":{"5":-100.5}`, "logit_bias", tooLittle},
		{`"logit_bias":{"5":1e308}`, "logit_bias", tooMuch},
		{`"logit_bias":{"5":"1"}`, "logit_bias", badType},
		{`"logit_bias":{"5":[1]}`, "logit_bias", badType},
		{`"logit_bias":` + biasObject(MaxBiases+1), "logit_bias", "object_above_max_length"},

		{`"min_tokens":-1`, "min_tokens", below},
		{`"min_tokens":17`, "min_tokens", above},
		{`"min_tokens":1e308`, "min_tokens", above},
		{`"max_tokens":0,"min_tokens":1`, "min_tokens", above},

		{`"allowed_token_ids":[]`, "allowed_token_ids", emptyArray},
		{`"allowed_token_ids":[-1]`, "allowed_token_ids", badToken},
		{`"allowed_token_ids":[1.0]`, "allowed_token_ids", badToken},
		{`"allowed_token_ids":[1,"2"]`, "allowed_token_ids", badToken},
		{`"allowed_token_ids":[null]`, "allowed_token_ids", badToken},
		{`"allowed_token_ids":[` + strings.Repeat("5,", MaxAllowed) + `5]`, "allowed_token_ids", tooMany},
		{`"stop_token_ids":[2147483648]`, "stop_token_ids", badToken},
		{`"stop_token_ids":[[1]]`, "stop_token_ids", badToken},
		{`"stop_token_ids":[` + strings.Repeat("5,", MaxStops) + `5]`, "stop_token_ids", tooMany},
	}.run(t)
}

// The elements that are counted are those of the outer list, whatever is in them.
func TestSeparators(t *testing.T) {
	for v, want := range map[string]int{
		``: 0, `[]`: 0, `[1]`: 0, `[1,2]`: 1, `[[1,2],{"a":1,"b":2},3]`: 2, `["a,b","\",",","]`: 2, `["\\",1]`: 1, `{"a,b":[1,2],"c":","}`: 1, `"a,b"`: 0, `5`: 0,
	} {
		if got := separators([]byte(v)); got != want {
			t.Errorf("%s: %d, want %d", v, got, want)
		}
	}
}
