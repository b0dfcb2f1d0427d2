package api

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// with is a request whose members are extended or overridden.
func with(members string) string {
	if members == "" {
		return `{"model":"m","prompt":"p"}`
	}
	return `{"model":"m","prompt":"p",` + members + `}`
}

func defaults() CompletionRequest {
	return CompletionRequest{
		Model: "m", Prompts: []Prompt{{Text: "p"}}, AddSpecialTokens: true, MaxTokens: 16, N: 1, BestOf: 1, Logprobs: -1, PromptLogprobs: -1,
		Sampling: Sampling{Temperature: 1, TopP: 1, TypicalP: 1, RepetitionPenalty: 1},
	}
}

func tokens(ids ...int32) Prompt { return Prompt{Tokens: ids} }

// set is a request with defaults, changed.
func set(change func(*CompletionRequest)) CompletionRequest {
	r := defaults()
	change(&r)
	return r
}

// accepted is a table of members and what the request is with them.
type accepted []struct {
	name, members string
	want          CompletionRequest
}

func (tests accepted) run(t *testing.T) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DecodeCompletion([]byte(with(tt.members)))
			if err != nil {
				t.Fatal(err)
			}
			got.Seed = 0 // drawn
			tt.want.BestOf = max(tt.want.BestOf, tt.want.N)
			if !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", *got, tt.want)
			}
		})
	}
}

// What is accepted, and what the request is then.
func TestAccepted(t *testing.T) {
	prompts := func(p ...Prompt) CompletionRequest { return set(func(r *CompletionRequest) { r.Prompts = p }) }
	stops := func(s ...string) CompletionRequest { return set(func(r *CompletionRequest) { r.Stop = s }) }
	logprobs := func(k int) CompletionRequest { return set(func(r *CompletionRequest) { r.Logprobs = k }) }
	lora := func(l ...LoRA) CompletionRequest { return set(func(r *CompletionRequest) { r.LoRA = l }) }
	streamed := func(usage bool) CompletionRequest {
		return set(func(r *CompletionRequest) { r.Stream, r.IncludeUsage = true, usage })
	}
	longest := strings.Repeat("x", MaxStopSize)
	accepted{
		{"defaults", ``, defaults()},
		{"null is the default", `"max_tokens":null,"temperature":null,"top_p":null,"n":null,"seed":null,"user":null,"stop":null,"echo":null,
			"logprobs":null,"stream":null,"stream_options":null,"lora":null,"add_special_tokens":null,"best_of":null,"suffix":null,
			"logit_bias":null,"response_format":null,"skip_special_tokens":null`, defaults()},
		{"unknown fields", `"frobnicate":{"a":[1]},"cache_prompt":true,"service_tier":"auto","Model":5,"PROMPT":5`, defaults()},
		{"every field", `"model":"n","max_tokens":0,"temperature":0,"top_p":0.25,"n":128,"user":"u","echo":true,"add_special_tokens":false`,
			set(func(r *CompletionRequest) {
				r.Model, r.MaxTokens, r.Temperature, r.TopP, r.N, r.Echo, r.AddSpecialTokens = "n", 0, 0, 0.25, 128, true, false
			})},
		{"limits", `"max_tokens":2147483647,"temperature":2,"top_p":1`, set(func(r *CompletionRequest) { r.MaxTokens, r.Temperature = 1<<31-1, 2 })},
		{"whole decimals", `"max_tokens":5.0,"n":2e0`, set(func(r *CompletionRequest) { r.MaxTokens, r.N = 5, 2 })},
		{"the last of two members", `"n":3,"n":2`, set(func(r *CompletionRequest) { r.N = 2 })},

		{"text", `"prompt":"é 🦜"`, prompts(Prompt{Text: "é 🦜"})},
		{"list of texts", `"prompt":["a","b"]`, prompts(Prompt{Text: "a"}, Prompt{Text: "b"})},
		{"tokens", `"prompt":[0, 2147483647]`, prompts(tokens(0, 2147483647))},
		{"list of tokens", `"prompt":[[1,2],[3]]`, prompts(tokens(1, 2), tokens(3))},
		{"257 tokens are one prompt", `"prompt":[` + strings.Repeat("7,", 256) + `7]`, prompts(tokens(slices.Repeat([]int32{7}, 257)...))},
		{"NUL", `"prompt":"a\u0000b"`, prompts(Prompt{Text: "a\x00b"})},
		{"surrogate pair", `"prompt":"\ud83e\udd9c"`, prompts(Prompt{Text: "🦜"})},
		{"U+FFFD itself", `"prompt":"\ufffd\uFFFD` + "\uFFFD" + `"`, prompts(Prompt{Text: "\uFFFD\uFFFD\uFFFD"})},
		{"an escaped backslash before u", `"prompt":"\\ud83e"`, prompts(Prompt{Text: `\ud83e`})},

		{"stop string", `"stop":"END"`, stops("END")},
		{"stop list", `"stop":["a","b","c","d","e"]`, stops("a", "b", "c", "d", "e")},
		{"a stop with surrogates", `"stop":["\ud83e\udd9c"]`, stops("🦜")},
		{"empty stops", `"stop":["","x"]`, stops("x")},
		{"empty stop", `"stop":""`, defaults()},
		{"no stops", `"stop":[]`, defaults()},
		{"the longest stop", `"stop":"` + longest + `"`, stops(longest)},

		{"logprobs 0", `"logprobs":0`, logprobs(0)},
		{"logprobs 20", `"logprobs":20`, logprobs(20)},

		{"stream", `"stream":true`, streamed(false)},
		{"include_usage", `"stream":true,"stream_options":{"include_usage":true}`, streamed(true)},
		{"include_usage null", `"stream":true,"stream_options":{"include_usage":null,"other":1}`, streamed(false)},
		{"empty stream_options without stream", `"stream_options":{}`, defaults()},
		{"null in stream_options without stream", `"stream_options":{"include_usage":null}`, defaults()},
		{"continuous_usage_stats off", `"stream":true,"stream_options":{"continuous_usage_stats":false}`, streamed(false)},

		{"lora", `"lora":[{"name":"a","scale":0.5}]`, lora(LoRA{"a", -1, 0.5})},
		{"lora without a scale", `"lora":[{"name":"a"}]`, lora(LoRA{"a", -1, 1})},
		{"lora with scale null", `"lora":[{"name":"a","scale":null,"other":true}]`, lora(LoRA{"a", -1, 1})},
		{"lora with limits", `"lora":[{"name":"a","scale":-16}]`, lora(LoRA{"a", -1, -16})},
		{"lora by id", `"lora":[{"id":0,"scale":2},{"id":7,"name":""}]`, lora(LoRA{"", 0, 2}, LoRA{"", 7, 1})},
		{"as many loras as may be", `"lora":[` + strings.Repeat(`{"name":"a"},`, MaxLoRAs-1) + `{"id":2147483647}]`,
			lora(append(slices.Repeat([]LoRA{{"a", -1, 1}}, MaxLoRAs-1), LoRA{"", 1<<31 - 1, 1})...)},
		{"lora empty", `"lora":[]`, defaults()},

		{"neutral values", `"suffix":"","best_of":1,"skip_special_tokens":true,"return_token_ids":false,"return_tokens_as_token_ids":false,
			"truncate_prompt_tokens":0,"bad_words":[ ],"use_beam_search":false`, defaults()},
		{"best_of as n", `"n":3,"best_of":3,"stream":true`, set(func(r *CompletionRequest) { r.N, r.BestOf, r.Stream = 3, 3, true })},
		{"best_of", `"n":3,"best_of":20`, set(func(r *CompletionRequest) { r.N, r.BestOf = 3, 20 })},
		{"n without best_of", `"n":3,"best_of":null`, set(func(r *CompletionRequest) { r.N, r.BestOf = 3, 3 })},
		{"best_of 0", `"best_of":0`, defaults()},
		{"suffix", `"suffix":"x"`, set(func(r *CompletionRequest) { r.Suffix = "x" })},
		{"truncate_prompt_tokens", `"truncate_prompt_tokens":-1`, set(func(r *CompletionRequest) { r.TruncateTo = -1 })},
		{"bad_words", `"bad_words":["a"," b"]`, set(func(r *CompletionRequest) { r.BadWords = []string{"a", " b"} })},
		{"skip_special_tokens", `"skip_special_tokens":false`, set(func(r *CompletionRequest) { r.SpecialText = true })},
		{"return_token_ids", `"return_token_ids":true`, set(func(r *CompletionRequest) { r.TokenIDs = true })},
		{"return_tokens_as_token_ids", `"return_tokens_as_token_ids":true`, set(func(r *CompletionRequest) { r.TokensAsIDs = true })},
		{"prompt_logprobs", `"prompt_logprobs":0`, set(func(r *CompletionRequest) { r.PromptLogprobs = 0 })},
		{"continuous_usage_stats", `"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}`,
			set(func(r *CompletionRequest) { r.Stream, r.IncludeUsage, r.UsageSoFar = true, true, true })},
		{"continuous_usage_stats alone", `"stream":true,"stream_options":{"continuous_usage_stats":true}`, streamed(false)},
	}.run(t)
}

// A seed of 32 bits is kept; a larger one is folded, so that its high half counts.
func TestSeed(t *testing.T) {
	seed := func(v string) uint32 {
		t.Helper()
		r, err := DecodeCompletion([]byte(with(`"seed":` + v)))
		if err != nil {
			t.Fatal(err)
		}
		return r.Seed
	}
	for v, want := range map[string]uint32{"0": 0, "7": 7, "4294967295": 1<<32 - 1, "4294967296": 1, "9223372036854775807": 1 << 31} {
		if got := seed(v); got != want {
			t.Errorf("seed %s: %d, want %d", v, got, want)
		}
	}
	for _, v := range []string{"-1", "-2147483648", "-9223372036854775808"} {
		if once, again := seed(v), seed(v); once != again {
			t.Errorf("seed %s is not the same twice", v)
		}
	}
	if seed("-1") == seed("-2") || seed("8589934592") == seed("4294967296") {
		t.Error("different seeds fold to one")
	}
	drawn := map[uint32]bool{}
	for range 8 {
		r, err := DecodeCompletion([]byte(with("")))
		if err != nil {
			t.Fatal(err)
		}
		drawn[r.Seed] = true
	}
	if len(drawn) < 2 {
		t.Errorf("without a seed, %v is always drawn", drawn)
	}
}
