package api

import (
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
)

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestErrorShape(t *testing.T) {
	tests := []struct {
		err    *Error
		status int
		want   string
	}{
		{Invalid("", "", "m %d", 1), 400, `{"error":{"message":"m 1","type":"invalid_request_error","param":null,"code":null}}`},
		{Invalid("n", "invalid_type", "m"), 400, `{"error":{"message":"m","type":"invalid_request_error","param":"n","code":"invalid_type"}}`},
		{Refused(http.StatusNotFound, "unknown_url", "m"), 404, `{"error":{"message":"m","type":"invalid_request_error","param":null,"code":"unknown_url"}}`},
		{ModelNotFound("x"), 404, `{"error":{"message":"The model \"x\" does not exist","type":"invalid_request_error","param":"model","code":"model_not_found"}}`},
		{Unavailable("shutting_down", time.Second, "m"), 503, `{"error":{"message":"m","type":"server_error","param":null,"code":"shutting_down"}}`},
		{Overloaded(time.Second, "m"), 429, `{"error":{"message":"m","type":"rate_limit_exceeded","param":null,"code":"rate_limit_exceeded"}}`},
		{Internal(), 500, `{"error":{"message":"The server had an error while processing the request.","type":"server_error","param":null,"code":null}}`},
	}
	for _, tt := range tests {
		if got := encode(t, tt.err); got != tt.want || tt.err.Status != tt.status {
			t.Errorf("status %d, %s\nwant   %d, %s", tt.err.Status, got, tt.status, tt.want)
		}
		if strings.TrimSpace(tt.err.Error()) != tt.err.Message {
			t.Errorf("Error() is %q", tt.err.Error())
		}
	}
}

func TestModelNotFoundIsShort(t *testing.T) {
	for _, name := range []string{strings.Repeat("Z", 5000), strings.Repeat("\x00", 5000), strings.Repeat("é\r\n", 5000), "x\xff"} {
		if m := ModelNotFound(name).Message; len(m) > 400 || strings.ContainsAny(m, "\r\n\x00") {
			t.Errorf("message %q", m)
		}
	}
}

func TestCompletionShape(t *testing.T) {
	length := "length"
	lp := Logprob(-0.5)
	tests := []struct {
		name string
		v    any
		want string
	}{
		{"without usage", Completion{ID: "i", Object: "o", Created: 1, Model: "m", SystemFingerprint: "f", Choices: []Choice{}},
			`{"id":"i","object":"o","created":1,"model":"m","system_fingerprint":"f","choices":[]}`},
		{"usage null", Completion{Choices: []Choice{}, Usage: OptionalUsage{Present: true}},
			`{"id":"","object":"","created":0,"model":"","system_fingerprint":"","choices":[],"usage":null}`},
		{"usage", OptionalUsage{Present: true, Usage: &Usage{PromptTokens: 1, CompletionTokens: 2, TotalTokens: 3}},
			`{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0}}`},
		{"a choice under way", Choice{Text: "t"}, `{"index":0,"text":"t","logprobs":null,"finish_reason":null}`},
		{"a finished choice", Choice{Index: 2, FinishReason: &length}, `{"index":2,"text":"","logprobs":null,"finish_reason":"length"}`},
		{"logprobs", Logprobs{Tokens: []string{"a", "b"}, TokenLogprobs: []*Logprob{nil, &lp}, TopLogprobs: []map[string]*Logprob{nil, {"b": &lp}}, TextOffset: []int{0, 1}},
			`{"tokens":["a","b"],"token_logprobs":[null,-0.5],"top_logprobs":[null,{"b":-0.5}],"text_offset":[0,1]}`},
		{"a base", Model{ID: "b", Object: "model", Created: 1, OwnedBy: "lorikeet", Root: "b", MaxModelLen: 8},
			`{"id":"b","object":"model","created":1,"owned_by":"lorikeet","root":"b","parent":null,"max_model_len":8}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := encode(t, tt.v); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestLogprob(t *testing.T) {
	inf := float32(math.Inf(1))
	for l, want := range map[Logprob]string{
		0: "0", -0.5: "-0.5", -9999: "-9999", -10000: "-9999.0", -math.MaxFloat32: "-9999.0", Logprob(-inf): "-9999.0", -1e-10: "-1e-10",
	} {
		if got := encode(t, l); got != want {
			t.Errorf("%g: %s, want %s", float32(l), got, want)
		}
	}
	if got := encode(t, Logprob(math.NaN())); got != "-9999.0" {
		t.Errorf("NaN: %s", got)
	}
}

func TestTokenText(t *testing.T) {
	for piece, want := range map[string]string{
		"": "", " a": " a", "é": "é", "🦜": "🦜", "\x00": "\x00", "\uFFFD": "\uFFFD",
		"\xf0\x9f": `bytes:\xf0\x9f`, "\xa6\x9c": `bytes:\xa6\x9c`, "a\xc3": `bytes:\x61\xc3`, "\uFFFD\xff": `bytes:\xef\xbf\xbd\xff`, "\xef\xbf": `bytes:\xef\xbf`,
	} {
		if got := TokenText([]byte(piece)); got != want {
			t.Errorf("%q: %q, want %q", piece, got, want)
		}
	}
}
