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
			if r != nil || err.Status != http.StatusBadRequest || err.Type != TypeInvalidRequest || err.Message == "" || len(err.Message) > 300 {
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
	within("lora", len(r.LoRA) <= 1)
	for _, l := range r.LoRA {
		within("lora", l.Name != "" && l.Scale >= -MaxScale && l.Scale <= MaxScale)
	}
}
