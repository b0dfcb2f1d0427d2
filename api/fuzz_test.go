package api

import (
	"encoding/json"
	"net/http"
	"testing"
	"unicode/utf8"
)

// Whatever is sent, the answer is a 400 or a request within the documented limits.
func FuzzDecodeCompletion(f *testing.F) {
	for _, members := range []string{
		``, `"prompt":["a","b"],"n":2,"stop":["x",""]`, `"prompt":[[1,2],[3]],"max_tokens":0,"echo":true,"logprobs":0`, `"prompt":[1,2147483647],"seed":-5`,
		`"stream":true,"stream_options":{"include_usage":true}`, `"lora":[{"name":"a","scale":-0.5}]`, `"temperature":1e999,"top_p":-0.0`, `"prompt":"\ud83e\udd9c\u0000"`,
		`"prompt":"\ud83e"`, `"best_of":2,"n":2,"response_format":{ "type":"text"}`, `"n":null,"stop":null,"lora":[null]`, `"prompt":[null]`, `"prompt":["a",[1],2]`,
		`"lora":[{"id":3},{"name":"b","scale":1}]`, `"top_k":-1,"min_p":0.1,"typical_p":0,"repetition_penalty":10,"presence_penalty":-2,"frequency_penalty":2`,
		`"logit_bias":{"5":-100,"6":0.5},"allowed_token_ids":[5,6],"stop_token_ids":[2]`, `"min_tokens":16,"ignore_eos":true,"cache_prompt":false,"include_stop_str_in_output":true`,
		`"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}`, `"structured_outputs":{"choice":["a","b"]}`, `"guided_regex":"[a-z]+"`,
		`"grammar":"root ::= \"a\" | \"b\""`, `"json_schema":"{\"type\":\"integer\"}"`, `"guided_json":{"enum":[1,null]},"guided_choice":null`,
	} {
		f.Add([]byte(with(members)))
	}
	f.Add([]byte(""))
	f.Add([]byte("null"))
	f.Add([]byte(with("") + "{}"))
	f.Add([]byte(`{"model":"m","prompt":"` + "\xff" + `"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := DecodeCompletion(body)
		if err != nil {
			if r != nil || err.Status != http.StatusBadRequest || err.Type != TypeInvalidRequest || err.Message == "" || len(err.Message) > 400 {
				t.Fatalf("%+v beside %+v", r, err)
			}
			if _, err := json.Marshal(err); err != nil {
				t.Fatal(err)
			}
			return
		}
		checkRequest(t, r)
	})
}

func checkRequest(t *testing.T, r *CompletionRequest) {
	t.Helper()
	within := func(what string, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("%s out of range: %+v", what, r)
		}
	}
	within("model", r.Model != "")
	within("prompts", len(r.Prompts) >= 1 && len(r.Prompts) <= MaxChoices)
	for _, p := range r.Prompts {
		within("prompt", (p.Text == "") == (len(p.Tokens) > 0) && utf8.ValidString(p.Text))
		for _, id := range p.Tokens {
			within("token", id >= 0)
		}
	}
	within("max_tokens", r.MaxTokens >= 0)
	within("temperature", r.Temperature >= 0 && r.Temperature <= 2)
	within("top_p", r.TopP >= 0 && r.TopP <= 1)
	within("n", r.N >= 1 && r.N <= MaxChoices)
	within("logprobs", r.Logprobs >= -1 && r.Logprobs <= MaxLogprobs)
	within("stop", len(r.Stop) <= MaxStops)
	for _, s := range r.Stop {
		within("stop", s != "" && len(s) <= MaxStopSize)
	}
	within("include_usage", r.Stream || !r.IncludeUsage)
	within("stop_token_ids", len(r.StopTokens) <= MaxStops)
	within("top_k", r.TopK >= 0)
	within("min_p", r.MinP >= 0 && r.MinP <= 1)
	within("typical_p", r.TypicalP >= 0 && r.TypicalP <= 1)
	within("repetition_penalty", r.RepetitionPenalty >= MinRepetitionPenalty && r.RepetitionPenalty <= MaxRepetitionPenalty)
	within("presence_penalty", r.PresencePenalty >= -2 && r.PresencePenalty <= 2)
	within("frequency_penalty", r.FrequencyPenalty >= -2 && r.FrequencyPenalty <= 2)
	within("min_tokens", r.MinTokens >= 0 && r.MinTokens <= r.MaxTokens)
	within("logit_bias", len(r.LogitBias) <= MaxBiases)
	for i, b := range r.LogitBias {
		within("logit_bias", b.Token >= 0 && b.Bias >= -100 && b.Bias <= 100 && (i == 0 || b.Token > r.LogitBias[i-1].Token))
	}
	within("allowed_token_ids", len(r.Allowed) <= MaxAllowed && (r.Allowed == nil || len(r.Allowed) > 0))
	for _, id := range append(r.Allowed, r.StopTokens...) {
		within("token", id >= 0)
	}
	within("lora", len(r.LoRA) <= MaxLoRAs)
	for _, l := range r.LoRA {
		within("lora", (l.Name == "") == (l.ID >= 0) && l.Scale >= -MaxScale && l.Scale <= MaxScale)
	}
}
