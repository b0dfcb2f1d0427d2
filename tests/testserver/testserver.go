// Package testserver runs the whole server in a test: HTTP, adapter manager and
// llama.cpp.
package testserver

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"lorikeet/adapters"
	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/demo"
	"lorikeet/server"
)

// Server is a running server with one base.
type Server struct {
	URL    string
	Engine backend.Engine
	// Done gets a value after each answered request, when all that it held is freed;
	// what nobody reads is dropped.
	Done chan struct{}

	t      testing.TB
	client *http.Client
}

// Demo serves the demo model. configure changes what the server is asked to be.
func Demo(t testing.TB, p engine.Params, configure ...func(*server.Options)) *Server {
	t.Helper()
	return Serve(t, demo.Name, demoEngine(t, p), adapters.Sources{Folder: &adapters.Folder{FS: demo.Adapters()}}, configure...)
}

// StartDemo serves the demo model with the adapters of a folder, which is not watched.
func StartDemo(t testing.TB, p engine.Params, folder fs.FS) *Server {
	t.Helper()
	return Serve(t, demo.Name, demoEngine(t, p), adapters.Sources{Folder: &adapters.Folder{FS: folder}})
}

// DemoWith serves the demo model with the adapters of a directory, which is watched.
func DemoWith(t testing.TB, p engine.Params, dir string) *Server {
	t.Helper()
	folder, err := adapters.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(folder.Close)
	return Serve(t, demo.Name, demoEngine(t, p), adapters.Sources{Folder: folder, Settle: 50 * time.Millisecond})
}

func demoEngine(t testing.TB, p engine.Params) backend.Engine {
	t.Helper()
	path, done, err := demo.Model()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	f32 := backend.F32
	p.Path, p.CacheType = path, &f32
	return newEngine(t, p)
}

// Start serves a base and the adapters in a folder until the test ends.
func Start(t testing.TB, name string, p engine.Params, folder fs.FS) *Server {
	t.Helper()
	sources := adapters.Sources{}
	if folder != nil {
		sources.Folder = &adapters.Folder{FS: folder}
	}
	return Serve(t, name, newEngine(t, p), sources)
}

// newEngine computes on one thread, unless p says otherwise: llama.cpp's threads spin
// while they wait for each other, which crawls where other tests want the CPUs too.
// LORIKEET_TEST_GPU_LAYERS puts layers on GPUs.
func newEngine(t testing.TB, p engine.Params) backend.Engine {
	t.Helper()
	p.Threads = max(1, p.Threads)
	if s := os.Getenv("LORIKEET_TEST_GPU_LAYERS"); s != "" {
		layers, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		p.GPULayers = &layers
	}
	e, err := engine.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Serve serves an engine, with adapters.
func Serve(t testing.TB, name string, e backend.Engine, sources adapters.Sources, configure ...func(*server.Options)) *Server {
	t.Helper()
	catalog, err := adapters.NewCatalog(sources)
	if err != nil {
		t.Fatal(err)
	}
	manager := adapters.NewManager(catalog, e, adapters.Options{LoadTimeout: 30 * time.Second, UnloadTimeout: 30 * time.Second, HostBytes: 64 << 20})
	registry, err := adapters.NewRegistry(&adapters.Base{Name: name, Engine: e, Adapters: manager})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Engine: e, Done: make(chan struct{}, 1024), t: t}
	options := server.Options{Registry: registry, Version: "test"}
	for _, c := range configure {
		c(&options)
	}
	handler := server.New(options)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			select {
			case s.Done <- struct{}{}:
			default:
			}
		}()
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		ts.Close()
		manager.Close()
		catalog.Close()
		_ = e.Close() // it only waits
	})
	s.URL, s.client = ts.URL, ts.Client()
	return s
}

// Completion is a response, or a chunk of a stream.
type Completion struct {
	ID                string   `json:"id"`
	Object            string   `json:"object"`
	Model             string   `json:"model"`
	SystemFingerprint string   `json:"system_fingerprint"`
	Choices           []Choice `json:"choices"`
	Usage             *Usage   `json:"usage"`
	Error             *Error   `json:"error"`
}

// Choice is one of a completion's.
type Choice struct {
	Index    int    `json:"index"`
	Text     string `json:"text"`
	Logprobs *struct {
		Tokens        []string             `json:"tokens"`
		TokenLogprobs []*float64           `json:"token_logprobs"`
		TopLogprobs   []map[string]float64 `json:"top_logprobs"`
		TextOffset    []int                `json:"text_offset"`
	} `json:"logprobs"`
	FinishReason *string `json:"finish_reason"`
}

// Usage counts tokens.
type Usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`

	PromptTokensDetails struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

// Error is what a failed request gets.
type Error struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// Post sends a request as it is.
func (s *Server) Post(path, contentType string, body []byte) *http.Response {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.URL+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp
}

// Get reads a JSON answer into v, and returns the status.
func (s *Server) Get(path string, v any) int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		s.t.Fatalf("%s: status %d: %v", path, resp.StatusCode, err)
	}
	return resp.StatusCode
}

// JSON is a request body.
type JSON map[string]any

// Do sends a completion request and returns status and response.
func (s *Server) Do(body JSON) (int, *Completion) {
	s.t.Helper()
	resp := s.Post("/v1/completions", "application/json", s.encode(body))
	defer resp.Body.Close()
	var c Completion
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil {
		s.t.Fatalf("status %d: %v", resp.StatusCode, err)
	}
	return resp.StatusCode, &c
}

// Complete is Do for requests that succeed.
func (s *Server) Complete(body JSON) *Completion {
	s.t.Helper()
	status, c := s.Do(body)
	if status != http.StatusOK {
		s.t.Fatalf("%v: status %d: %+v", body["model"], status, c.Error)
	}
	return c
}

func (s *Server) encode(body JSON) []byte {
	s.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// Stream sends a streaming request and returns the chunks; it checks the framing.
func (s *Server) Stream(body JSON) []Completion {
	s.t.Helper()
	body["stream"] = true
	resp := s.Post("/v1/completions", "application/json", s.encode(body))
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || !strings.HasPrefix(ct, "text/event-stream") {
		b, _ := io.ReadAll(resp.Body)
		s.t.Fatalf("status %d, %s: %s", resp.StatusCode, ct, b)
	}
	var chunks []Completion
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	done := false
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			continue
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok || done {
			s.t.Fatalf("unexpected line %q", line)
		}
		if done = data == "[DONE]"; done {
			continue
		}
		var c Completion
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			s.t.Fatalf("%q: %v", data, err)
		}
		chunks = append(chunks, c)
	}
	if err := lines.Err(); err != nil || !done {
		s.t.Fatalf("stream ended: %v, [DONE]: %v", err, done)
	}
	return chunks
}

// Text joins the texts of a stream's choice 0.
func Text(chunks []Completion) string {
	var b strings.Builder
	for _, c := range chunks {
		for _, ch := range c.Choices {
			if ch.Index == 0 {
				b.WriteString(ch.Text)
			}
		}
	}
	return b.String()
}
