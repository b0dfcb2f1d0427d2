package server

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"lorikeet/api"
	"lorikeet/backend/fake"
	"lorikeet/chat"
)

// What a truncated prompt leaves room for includes a suffix and its marks.
func TestTruncatedWithSuffix(t *testing.T) {
	s := serve(t)
	long := body{"model": base, "prompt": strings.Repeat("a", 400), "truncate_prompt_tokens": -1, "max_tokens": 4}
	for _, b := range []body{long, long.plus(body{"suffix": "bb"})} {
		r := s.post(b)
		var got struct{ Usage api.Usage }
		if err := json.Unmarshal(r.body, &got); r.status != http.StatusOK || err != nil {
			t.Fatalf("%d %s", r.status, r.body)
		}
		if n := got.Usage.TotalTokens; n != 256 {
			t.Errorf("%d tokens instead of all 256", n)
		}
	}
}

// An adapter at scale 0 is the base, and is withheld from who may not use that.
func TestBaseByScale0(t *testing.T) {
	s := start(t, fake.New(256, 4), loadTimeout, Options{Keys: []Key{{Name: "k", Hash: sha256.Sum256([]byte("secret")), Models: []string{base + ":red"}}}})
	for lora, status := range map[string]int{`[{"name":"red"}]`: 200, `[{"name":"red","scale":0}]`: 404, `[{"name":"red","scale":0.5}]`: 200, `[]`: 404} {
		header := http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer secret"}}
		if r := s.request(http.MethodPost, "/v1/completions", header, []byte(`{"model":"lab/fake","prompt":"a","lora":`+lora+`}`)); r.status != status {
			t.Errorf("%s: %d %s", lora, r.status, r.body)
		}
	}
}

// A piece that ends a call and has text behind it completes the call first.
func TestTextBehindACall(t *testing.T) {
	b := &responseBuilder{tell: func(api.ResponseEvent) error { return nil }}
	add := func(p piece) {
		if err := b.add(p, &api.Usage{}); err != nil {
			t.Fatal(err)
		}
	}
	add(piece{Delta: chat.Delta{Calls: []chat.CallDelta{{ID: "c", Name: "f", Arguments: `{"a": 1`}}}})
	add(piece{Delta: chat.Delta{Content: "done", Calls: []chat.CallDelta{{Arguments: "}"}}}, finish: "stop"})
	if len(b.response.Output) != 2 {
		t.Fatalf("%+v", b.response.Output)
	}
	if call, ok := b.response.Output[0].(*api.CallItem); !ok || call.Arguments != `{"a": 1}` || call.Name != "f" {
		t.Errorf("%+v", b.response.Output[0])
	}
}

// A few bytes of a request do not become very many by way of a template, and one that
// would is refused.
func TestTemplateThatSwells(t *testing.T) {
	s := startChat(t, fake.New(256, 1), "{{ tools | tojson(indent=4) }}")
	deep := strings.Repeat("[", 60) + "1" + strings.Repeat(",1", 200_000) + strings.Repeat("]", 60)
	r := s.request(http.MethodPost, "/tokenize", http.Header{"Content-Type": {"application/json"}}, []byte(`{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"x":`+deep+`}}}]}`))
	checkError(t, r, http.StatusBadRequest, "invalid_request_error", "chat_template_error")
	if !strings.Contains(string(r.body), "over the limit of") {
		t.Errorf("%s", r.body)
	}
}
