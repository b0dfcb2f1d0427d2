package server

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/fake"
)

// A caller's id is answered with if it can be logged; otherwise a new one is.
func TestRequestID(t *testing.T) {
	s := serve(t)
	made := regexp.MustCompile(`^req-[0-9a-f]{24}$`)
	longest := strings.Repeat("x", 128)
	tests := []struct {
		id   string
		kept bool
	}{
		{"abc-123_./:{}", true}, {longest, true},
		{"", false}, {longest + "x", false}, {"a b", false}, {"a\tb", false}, {"a\r\nSet-Cookie: b", false}, {"a\x00b", false}, {"a\x1b[31m", false}, {"a\x7f", false}, {"é", false}, {"a\xff", false},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		for _, path := range []string{"/health", "/nowhere"} {
			// Not through a connection: net/http refuses control characters itself.
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			r.Header.Set(requestIDHeader, tt.id)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			got := w.Header().Values(requestIDHeader)
			if len(got) != 1 || (got[0] == tt.id) != tt.kept || !tt.kept && !made.MatchString(got[0]) {
				t.Errorf("%s: id %q is answered with %q", path, tt.id, got)
			}
			if !tt.kept && seen[got[0]] {
				t.Errorf("%q twice", got[0])
			}
			seen[got[0]] = true
		}
	}
	r := s.request(http.MethodPost, "/v1/completions", http.Header{"X-Request-Id": {"mine"}}, s.encode(body{"model": base, "prompt": "a", "stream": true}))
	if got := r.header.Get(requestIDHeader); got != "mine" {
		t.Errorf("a stream's id is %q", got)
	}
}

// An error does not send back what came in.
func TestErrorsDoNotRepeatInput(t *testing.T) {
	s := serve(t)
	long := strings.Repeat("Z", 5000)
	post := func(b body) *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/completions", strings.NewReader(string(s.encode(b))))
		r.Header.Set("Content-Type", "application/json")
		return r
	}
	other := func(method, path, contentType, body string) *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		return r
	}
	admin := func(path string, b body) *http.Request {
		r := other("POST", path, "application/json", string(s.encode(b)))
		r.RemoteAddr, r.Host = "127.0.0.1:50000", "localhost"
		return r
	}
	tests := map[string]*http.Request{
		"model":          post(body{"model": long, "prompt": "a"}),
		"model, escaped": post(body{"model": strings.Repeat("Z\x00\n", 2000), "prompt": "a"}),
		"base:adapter":   post(body{"model": base + ":" + long, "prompt": "a"}),
		"lora":           post(body{"model": base, "prompt": "a", "lora": []body{{"name": long}}}),
		"field":          post(body{"model": base, "prompt": "a", "n": long}),
		"prompt type":    post(body{"model": base, "prompt": []any{long, 5}}),
		"prompt length":  post(body{"model": base, "prompt": long}),
		"unsupported":    post(body{"model": base, "prompt": "a", "prompt_embeds": long}),
		"JSON":           other("POST", "/v1/completions", "application/json", `{"`+long),
		"content type":   other("POST", "/v1/completions", long, `{}`),
		"path":           other("GET", "/v1/"+long, "", ""),
		"path, escaped":  other("GET", "/v1/"+strings.Repeat("Z%00", 2000), "", ""),
		"method":         other(long, "/v1/models", "", ""),
		"both":           other(long, "/v1/"+long, "", ""),
		"model path":     other("GET", "/v1/models/"+long, "", ""),
		"query":          other("GET", "/lora-adapters?model="+long, "", ""),
		"load, name":     admin("/v1/load_lora_adapter", body{"lora_name": long, "lora_path": "red"}),
		"load, path":     admin("/v1/load_lora_adapter", body{"lora_name": "crimson", "lora_path": long}),
		"load, far path": admin("/v1/load_lora_adapter", body{"lora_name": "crimson", "lora_path": "/" + long}),
		"load, base":     admin("/v1/load_lora_adapter", body{"lora_name": "crimson", "lora_path": "red", "base_model_name": long}),
		"unload":         admin("/v1/unload_lora_adapter", body{"lora_name": long}),
		"unload, base":   admin("/v1/unload_lora_adapter", body{"lora_name": "red", "base_model_name": long}),
		"pin":            admin("/v1/adapters/"+long+"/pin", body{}),
		"another verb":   admin("/v1/adapters/red/"+long, body{}),
	}
	for name, r := range tests {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			b := w.Body.String()
			if n := strings.Count(b, "Z"); w.Code < 400 || w.Code > 499 || n > 200 || len(b) > 1000 {
				t.Errorf("status %d, %d bytes of the input in %d bytes: %s", w.Code, n, len(b), b)
			}
			if !json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("not JSON: %s", b)
			}
		})
	}
}

// Every route answers with JSON in every case, and a trailing slash, a missing /v1
// or a method that nobody knows changes nothing about that.
func TestRoutes(t *testing.T) {
	s := serve(t)
	tests := []struct {
		method, path string
		status       int
	}{
		{"GET", "/v1/models", 200}, {"GET", "/models", 200}, {"GET", "/models/", 200}, {"GET", "/v1/models?limit=5", 200}, {"GET", "/v1/models/?limit=5", 200},
		{"GET", "/v1/models/lab%2Ffake/", 200}, {"GET", "/v1/models/lab%2ffake:red", 200}, {"GET", "/models/lab/fake/", 200},
		{"GET", "/v1/models/nobody", 404}, {"GET", "/v1/models/..%2F..%2Fetc%2Fpasswd", 404}, {"GET", "/v1/models/lab%2Ffake%3A..%2Fred", 404},
		{"GET", "/v1/models/lab%2Ffake%00", 404}, {"GET", "/v1/models/%25", 404}, {"GET", "/v1/models/%FF", 404}, {"GET", "/v1/models//", 404},
		{"GET", "/", 404}, {"GET", "/v1", 404}, {"POST", "/v1/audio/speech", 404}, {"POST", "/v1/responses", 400}, {"GET", "/v1/responses", 405}, {"POST", "/chat/completions/", 400}, {"GET", "/v1/chat/completions", 405}, {"GET", "/v2/models", 404}, {"GET", "//v1/models", 404}, {"GET", "/v1/completions/x", 404},
		{"GET", "/v1/completions", 405}, {"PUT", "/v1/models/red", 405}, {"POST", "/v1/models", 405}, {"POST", "/health", 405}, {"BREW", "/v1/models", 405},
		{"GET", "/health/", 200}, {"GET", "/version/", 200},
		{"GET", "/v1/adapters/", 200}, {"GET", "/adapters?limit=5", 200}, {"GET", "/v1/adapters/lab%2Ffake%3Ared/", 200}, {"GET", "/adapters/red", 200},
		{"GET", "/v1/adapters/..%2Fred", 404}, {"GET", "/v1/adapters/red%00", 404}, {"GET", "/v1/adapters/%FF", 404}, {"GET", "/v1/adapters/red/pin", 404},
		{"DELETE", "/v1/models/..%2Fred", 404}, {"DELETE", "/v1/models/lab/fake:", 404}, {"DELETE", "/v1/models", 405}, {"DELETE", "/v1/adapters/red", 405}, {"PUT", "/v1/adapters/red/pin", 405},
		{"GET", "/v1/load_lora_adapter", 405}, {"GET", "/unload_lora_adapter", 405}, {"POST", "/v1/adapters", 405}, {"GET", "/lora-adapters/", 200}, {"POST", "/lora-adapters", 405},
	}
	for _, tt := range tests {
		r := s.request(tt.method, tt.path, nil, nil)
		if r.status != tt.status || !json.Valid(r.body) || r.header.Get("Content-Type") != "application/json" || r.header.Get("Location") != "" {
			t.Errorf("%s %s: status %d, want %d: %s", tt.method, tt.path, r.status, tt.status, r.body)
		}
	}
	// Names that a path must escape are the same names in a body.
	for _, name := range []string{base, base + ":red", "red"} {
		if r := s.request(http.MethodGet, "/v1/models/"+url.PathEscape(name), nil, nil); r.status != http.StatusOK {
			t.Errorf("%s: status %d: %s", name, r.status, r.body)
		}
	}
}

// A path is unescaped once: what it names is what the model field would name.
func TestPathIsUnescapedOnce(t *testing.T) {
	s := serve(t)
	for path, status := range map[string]int{
		"/v1/models/r%65d": 200, "/v1/models/r%65d/": 200, "/v1/models/r%2565d": 404, "/v1/models/r%2565d/": 404, "/v1/models/lab%252Ffake": 404, "/v1/models/lab%252Ffake/": 404,
		"/v1/models/%C3%A9": 404, "/v1/models/..": 404, "/v1/models/./red": 404, "/v1/models/lab%2Ffake%3Ared%2F": 404,
	} {
		if r := s.request(http.MethodGet, path, nil, nil); r.status != status || r.header.Get("Location") != "" {
			t.Errorf("%s: status %d, want %d: %s", path, r.status, status, r.body)
		}
	}
}

// HEAD is GET without the body, 405 and OPTIONS name the methods that a path has.
func TestMethods(t *testing.T) {
	s := serve(t)
	for path, want := range map[string]string{
		"/health": "GET, HEAD, OPTIONS", "/v1/models/": "GET, HEAD, OPTIONS", "/v1/models/lab%2Ffake": "GET, HEAD, DELETE, OPTIONS",
		"/v1/completions": "POST, OPTIONS", "/adapters/red": "GET, HEAD, POST, OPTIONS",
	} {
		r := s.request(http.MethodPut, path, nil, nil)
		checkError(t, r, http.StatusMethodNotAllowed, "invalid_request_error", "method_not_allowed")
		if got := r.header.Get("Allow"); got != want {
			t.Errorf("PUT %s: Allow %q, want %q", path, got, want)
		}
		r = s.request(http.MethodOptions, path, nil, nil)
		if got := r.header.Get("Allow"); r.status != http.StatusNoContent || len(r.body) != 0 || got != want {
			t.Errorf("OPTIONS %s: status %d, Allow %q, %q", path, r.status, got, r.body)
		}
		head, get := s.request(http.MethodHead, path, nil, nil), s.request(http.MethodGet, path, nil, nil)
		wanted := get.status
		if !strings.Contains(want, "GET") {
			wanted = http.StatusMethodNotAllowed
		}
		if head.status != wanted || len(head.body) != 0 || head.header.Get("Content-Type") != get.header.Get("Content-Type") {
			t.Errorf("HEAD %s: status %d, %v, %q", path, head.status, head.header, head.body)
		}
	}
	if r := s.request(http.MethodHead, "/v1/models/nobody", nil, nil); r.status != http.StatusNotFound {
		t.Errorf("HEAD of an unknown model: status %d", r.status)
	}
	checkError(t, s.request(http.MethodOptions, "/nowhere", nil, nil), http.StatusNotFound, "invalid_request_error", "unknown_url")
}

// panicking is an engine with faults.
type panicking struct {
	*fake.Engine
	pieces atomic.Int32 // until Piece panics
}

func (p *panicking) Tokenize(s string, special bool) ([]backend.Token, error) {
	if s == "panic" {
		panic("a fault")
	}
	return p.Engine.Tokenize(s, special)
}

func (p *panicking) Piece(t backend.Token, special bool) []byte {
	if p.pieces.Add(-1) == 0 {
		panic("a fault")
	}
	return p.Engine.Piece(t, special)
}

// A panic is a 500 without details, gives back what the request held, and the next
// request is served. A stream that was begun is cut, so that it does not look whole.
func TestPanic(t *testing.T) {
	e := &panicking{Engine: fake.New(256, 1)}
	s := start(t, e, loadTimeout, Options{})
	check := func(r response) {
		t.Helper()
		got := checkError(t, r, http.StatusInternalServerError, "server_error", "")
		if strings.Contains(got.Message, "fault") || r.header.Get("X-Should-Retry") != "false" {
			t.Errorf("%s, x-should-retry %q", r.body, r.header.Get("X-Should-Retry"))
		}
	}
	check(s.post(body{"model": "red", "prompt": "panic"}))
	check(s.post(body{"model": "red", "prompt": "panic", "stream": true}))
	b := body{"model": "red", "prompt": "fine", "temperature": 0, "n": 2, "logprobs": 1}
	e.pieces.Store(8)
	check(s.post(b))
	e.pieces.Store(8) // one for each token
	resp := s.open(t.Context(), b)
	got, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || err == nil || len(got) == 0 || strings.Contains(string(got), "[DONE]") {
		t.Errorf("status %d, %v: %s", resp.StatusCode, err, got)
	}
	for range 4 {
		<-s.done
	}
	if n := e.Stats().Running; n != 0 {
		t.Errorf("%d choices go on", n)
	}
	for _, model := range []string{"red", "blue", base} { // on one slot, so no lease is left
		s.complete(body{"model": model, "prompt": "fine"})
	}
}
