package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lorikeet/backend/fake"
)

var update = flag.Bool("update", false, "write the transcripts in testdata anew")

// exchange is a request whose transcript is in testdata.
type exchange struct {
	name, method, path, body string
	contentType              string // "" is application/json for a POST
	header                   [2]string

	// Of the server that is asked.
	adminKey string
	slots    int // for adapters; 0: 4, -1: none
}

// The fake's answers are letters that follow from the prompt, the seed and the
// adapter; that to "abc" begins with "thkeyg dmslyyyob".
var exchanges = []exchange{
	{name: "plain", body: `{"model":"lab/fake","prompt":"abc","max_tokens":8,"temperature":0}`},
	{name: "null-is-default", body: `{"model":"lab/fake","prompt":"abc","max_tokens":null,"temperature":0,"stop":null,"logprobs":null,"user":null}`},
	{name: "two-prompts-two-choices", body: `{"model":"lab/fake","prompt":["abc","de"],"n":2,"seed":7,"max_tokens":6}`},
	{name: "echo-logprobs", body: `{"model":"lab/fake","prompt":"né🦜","max_tokens":3,"temperature":0,"echo":true,"logprobs":2}`},
	{name: "score-only", body: `{"model":"lab/fake","prompt":[[97,98,99]],"max_tokens":1,"temperature":0,"echo":true,"logprobs":1}`},
	{name: "max-tokens-0", body: `{"model":"lab/fake","prompt":"abc","max_tokens":0,"temperature":0,"echo":true,"logprobs":0}`},
	{name: "stop-string", body: `{"model":"lab/fake","prompt":"abc","max_tokens":16,"temperature":0,"stop":["dmx","sly"],"logprobs":0}`},
	{name: "stream", body: `{"model":"lab/fake","prompt":"abc","max_tokens":4,"temperature":0,"stream":true}`},
	{name: "stream-usage", body: `{"model":"lab/fake","prompt":"abc","max_tokens":2,"temperature":0,"stream":true,"stream_options":{"include_usage":true}}`},
	{name: "stream-logprobs", body: `{"model":"lab/fake","prompt":"né","max_tokens":3,"temperature":0,"stream":true,"echo":true,"logprobs":1}`},
	{name: "stream-stop-string", body: `{"model":"lab/fake","prompt":"abc","max_tokens":16,"temperature":0,"stream":true,"stop":["dmx","sly"],"logprobs":0}`},
	{name: "trailing-slash", path: "/v1/completions/", body: `{"model":"lab/fake","prompt":"abc","max_tokens":2,"temperature":0}`},
	{name: "without-v1", path: "/completions", body: `{"model":"lab/fake","prompt":"abc","max_tokens":2,"temperature":0}`},

	{name: "adapter", body: `{"model":"lab/fake:red","prompt":"abc","max_tokens":8,"temperature":0}`},
	{name: "adapter-short-name", body: `{"model":"red","prompt":"abc","max_tokens":8,"temperature":0}`},
	{name: "lora-field", body: `{"model":"lab/fake","prompt":"abc","max_tokens":8,"temperature":0,"lora":[{"name":"red","scale":0.5}]}`},
	{name: "lora-scale-0", body: `{"model":"lab/fake","prompt":"abc","max_tokens":8,"temperature":0,"lora":[{"name":"red","scale":0}]}`},
	{name: "lora-unknown", body: `{"model":"lab/fake","prompt":"abc","lora":[{"name":"plaid"}]}`},
	{name: "lora-beside-adapter", body: `{"model":"lab/fake:red","prompt":"abc","lora":[{"name":"blue"}]}`},
	{name: "adapter-broken", body: `{"model":"lab/fake:broken","prompt":"abc"}`},
	{name: "adapter-incomplete", body: `{"model":"half","prompt":"abc"}`},
	{name: "adapter-broken-stream", body: `{"model":"lab/fake:broken","prompt":"abc","stream":true}`},

	{name: "models", method: "GET", path: "/v1/models"},
	{name: "models-trailing-slash", method: "GET", path: "/v1/models/"},
	{name: "model-escaped-slash", method: "GET", path: "/v1/models/lab%2Ffake"},
	{name: "model-raw-slash", method: "GET", path: "/v1/models/lab/fake"},
	{name: "model-colon", method: "GET", path: "/v1/models/lab/fake:blue"},
	{name: "model-escaped-colon", method: "GET", path: "/models/lab%2Ffake%3Ablue"},
	{name: "model-short-name", method: "GET", path: "/v1/models/blue/"},
	{name: "model-unknown", method: "GET", path: "/v1/models/gpt-4"},
	{name: "health", method: "GET", path: "/health"},
	{name: "ready", method: "GET", path: "/ready"},
	{name: "version", method: "GET", path: "/version"},

	{name: "unknown-model", body: `{"model":"gpt-4","prompt":"abc"}`},
	{name: "missing-model", body: `{"prompt":"abc"}`},
	{name: "bad-json", body: `{"model":"lab/fake","prompt":"abc",}`},
	{name: "not-an-object", body: `["abc"]`},
	{name: "wrong-type", body: `{"model":"lab/fake","prompt":"abc","max_tokens":"8"}`},
	{name: "out-of-range", body: `{"model":"lab/fake","prompt":"abc","temperature":2.5}`},
	{name: "unsupported", body: `{"model":"lab/fake","prompt":"abc","use_beam_search":true}`},
	{name: "outside-vocabulary", body: `{"model":"lab/fake","prompt":[1,258]}`},
	{name: "prompt-without-tokens", body: `{"model":"lab/fake","prompt":"","add_special_tokens":false}`},
	{name: "context-length", body: `{"model":"lab/fake","prompt":"abc","max_tokens":253}`},
	{name: "context-length-stream", body: `{"model":"lab/fake","prompt":"abc","max_tokens":253,"stream":true}`},
	{name: "unknown-route", path: "/v1/audio/speech", body: `{}`},
	{name: "wrong-method", method: "DELETE", path: "/v1/completions"},
	{name: "content-type", body: `model=lab/fake&prompt=abc`, contentType: "application/x-www-form-urlencoded"},
	{name: "content-type-charset", body: `{"model":"lab/fake","prompt":"abc","max_tokens":1,"temperature":0}`, contentType: "Application/JSON; charset=utf-8"},
	{name: "too-large", body: `{"model":"lab/fake","prompt":"` + strings.Repeat("abc", maxBody/3) + `"}`},
}

const maxBody = 1 << 10

// What goes over the wire is what the files in testdata hold.
func TestTranscripts(t *testing.T) {
	s := start(t, fake.New(256, 4), loadTimeout, Options{MaxBodyBytes: maxBody, Version: "test"})
	seen := map[string]bool{}
	for i, x := range slices.Concat(exchanges, fieldExchanges, extraExchanges, manageExchanges) {
		seen[x.name+".txt"] = true
		t.Run(x.name, func(t *testing.T) {
			asked := s
			if i >= len(exchanges)+len(fieldExchanges)+len(extraExchanges) { // what these change is their own
				asked = start(t, fake.New(256, max(0, cmp.Or(x.slots, 4))), loadTimeout, Options{AdminKey: x.adminKey, Version: "test"})
			}
			checkTranscript(t, filepath.Join("testdata", x.name+".txt"), x.transcript(t, asked))
		})
	}
	checkFiles(t, "testdata", seen)
}

// checkTranscript compares a transcript with its file, or writes that anew.
func checkTranscript(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s; is\n%s\nwas\n%s", file, got, want)
	}
}

// checkFiles makes sure that a folder has no file that is not compared.
func checkFiles(t *testing.T, dir string, seen map[string]bool) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !f.IsDir() && !seen[f.Name()] {
			t.Errorf("%s/%s belongs to no exchange", dir, f.Name())
		}
	}
}

// The headers that a transcript shows, if they are set.
var shownHeaders = []string{
	"Content-Type", "Cache-Control", "X-Accel-Buffering", "Content-Encoding", "Location", "Retry-After", "Retry-After-Ms", "X-Should-Retry", "WWW-Authenticate", "Allow", adapterHeader,
	"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests",
	"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens",
}

func (x exchange) transcript(t *testing.T, s *running) []byte {
	if x.method == "" {
		x.method = http.MethodPost
	}
	if x.path == "" {
		x.path = "/v1/completions"
	}
	header := http.Header{}
	if x.contentType == "" && x.method == http.MethodPost {
		x.contentType = "application/json"
	}
	if x.contentType != "" {
		header.Set("Content-Type", x.contentType)
	}
	if x.header[0] != "" {
		header.Set(x.header[0], x.header[1])
	}
	r := s.request(x.method, x.path, header, []byte(x.body))
	if r.header.Get(requestIDHeader) == "" {
		t.Error("no request id")
	}

	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s\n", x.method, x.path)
	if x.contentType != "" {
		fmt.Fprintf(&b, "Content-Type: %s\n", x.contentType)
	}
	if x.header[0] != "" {
		fmt.Fprintf(&b, "%s: %s\n", x.header[0], x.header[1])
	}
	if x.body != "" {
		const limit = 512
		fmt.Fprintf(&b, "\n%.*s\n", limit, x.body)
		if len(x.body) > limit {
			fmt.Fprintf(&b, "… (%d bytes)\n", len(x.body))
		}
	}
	fmt.Fprintf(&b, "\n%d %s\n", r.status, http.StatusText(r.status))
	for _, h := range shownHeaders {
		for _, v := range r.header.Values(h) {
			fmt.Fprintf(&b, "%s: %s\n", h, v)
		}
	}
	b.WriteByte('\n')
	r.body = normal(r.body)
	if r.header.Get("Content-Type") == "application/json" {
		if err := json.Indent(&b, r.body, "", "  "); err != nil {
			t.Fatalf("%s: %v", r.body, err)
		}
	} else {
		b.Write(bytes.TrimSuffix(r.body, []byte("\n")))
	}
	return b.Bytes()
}

var (
	ids   = regexp.MustCompile(`"cmpl-[0-9a-f]{24}"`)
	times = regexp.MustCompile(`"created":[0-9]{10}\b`)
	loads = regexp.MustCompile(`"last_load_ms":[0-9.e-]+|"loaded_at":"[0-9T:.-]+Z"`)
)

// normal replaces what differs from one run to the next.
func normal(body []byte) []byte {
	body = loads.ReplaceAllFunc(body, func(b []byte) []byte {
		name, _, _ := bytes.Cut(b, []byte(":"))
		return fmt.Appendf(nil, `%s:"…"`, name)
	})
	return times.ReplaceAll(ids.ReplaceAll(body, []byte(`"cmpl-ID"`)), []byte(`"created":0`))
}
