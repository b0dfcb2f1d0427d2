package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"lorikeet/adapters"
	"lorikeet/adapters/peft"
	"lorikeet/api"
	"lorikeet/backend"
	"lorikeet/backend/fake"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// base is the name of the served base; the slash is what clients encode or not.
const base = "lab/fake"

// folder holds four adapters that fit the fake's pool, an activated one that "!"
// invokes, one whose q_proj has too few columns, and one that is being copied. The
// ranks differ.
func folder() fstest.MapFS {
	f := fstest.MapFS{}
	for i, name := range []string{"red", "green", "blue", "gold"} {
		addAdapter(f, name, 1<<i, 8)
	}
	addAdapter(f, "spell", 3, 8)
	f["spell/"+peft.ConfigFile].Data = []byte(`{"peft_type":"LORA","r":3,"lora_alpha":6,"alora_invocation_tokens":[33]}`)
	addAdapter(f, "broken", 2, 7)
	f["half/"+peft.ConfigFile] = &fstest.MapFile{Data: f["red/"+peft.ConfigFile].Data, ModTime: time.Now()}
	return f
}

// addAdapter adds an adapter as peft saves it; its values follow from its rank.
func addAdapter(f fstest.MapFS, name string, rank, in int) {
	type tensor struct {
		Type    string `json:"dtype"`
		Shape   [2]int `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	header := map[string]tensor{}
	var data []byte
	add := func(tensorName string, rows, cols int) {
		begin := len(data)
		for i := range rows * cols {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32((i*rank+i+rank)%7-3)/8))
		}
		header["base_model.model.model.layers.0.self_attn."+tensorName+".weight"] = tensor{"F32", [2]int{rows, cols}, [2]int{begin, len(data)}}
	}
	add("q_proj.lora_A", rank, in)
	add("q_proj.lora_B", 8, rank)
	add("k_proj.lora_A", rank, in)
	add("k_proj.lora_B", 4, rank)
	head, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(head)))
	file = append(append(file, head...), data...)
	config := fmt.Sprintf(`{"peft_type":"LORA","r":%d,"lora_alpha":%d}`, rank, 2*rank)
	f[name+"/"+peft.ConfigFile] = &fstest.MapFile{Data: []byte(config)}
	f[name+"/"+peft.WeightsFile] = &fstest.MapFile{Data: file}
}

// running is a server under test.
type running struct {
	*Server
	URL string
	// arrived gets a value when a handler is entered, done when it has returned.
	arrived, done chan struct{}

	t      *testing.T
	client *http.Client
}

const loadTimeout = 30 * time.Second

// start serves an engine with the adapters of folder until the test ends.
func start(t *testing.T, e backend.Engine, loadTimeout time.Duration, o Options) *running {
	t.Helper()
	return startBases(t, o, newBase(t, base, e, &adapters.Folder{FS: folder()}, adapters.Options{LoadTimeout: loadTimeout, UnloadTimeout: loadTimeout}))
}

// newBase makes a base that is closed when the test ends.
func newBase(t *testing.T, name string, e backend.Engine, folder *adapters.Folder, o adapters.Options) *adapters.Base {
	t.Helper()
	catalog, err := adapters.NewCatalog(adapters.Sources{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	manager := adapters.NewManager(catalog, e, o)
	t.Cleanup(func() {
		catalog.Close()
		manager.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if n := e.Stats().Running; n != 0 {
			t.Errorf("%d requests are left in the engine", n)
		}
	})
	return &adapters.Base{Name: name, Engine: e, Adapters: manager}
}

// startBases serves bases until the test ends.
func startBases(t *testing.T, o Options, bases ...*adapters.Base) *running {
	t.Helper()
	var err error
	if o.Registry, err = adapters.NewRegistry(bases...); err != nil {
		t.Fatal(err)
	}
	s := &running{Server: New(o), arrived: make(chan struct{}, 1024), done: make(chan struct{}, 1024), t: t}
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.arrived <- struct{}{}
		defer func() { s.done <- struct{}{} }()
		s.ServeHTTP(w, r)
	}))
	s.URL = ts.URL
	s.client = &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		ts.Close()
	})
	return s
}

// serve serves the fake.
func serve(t *testing.T) *running {
	return start(t, fake.New(256, 4), loadTimeout, Options{Version: "test"})
}

// body is a request for /v1/completions.
type body map[string]any

// plus is a copy with other members.
func (b body) plus(members body) body {
	out := body{}
	for _, m := range []body{b, members} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// response is a whole response.
type response struct {
	status int
	header http.Header
	body   []byte
}

// send sends a request without reading the response's body.
func (s *running) send(ctx context.Context, method, path string, header http.Header, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if header != nil {
		r.Header = header
	}
	r.Header.Set("Accept-Encoding", "gzip") // which the server must not take up
	return s.client.Do(r)
}

// request sends a request and reads the response.
func (s *running) request(method, path string, header http.Header, body []byte) response {
	s.t.Helper()
	resp, err := s.send(s.t.Context(), method, path, header, body)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, b}
}

func (s *running) encode(b body) []byte {
	s.t.Helper()
	data, err := json.Marshal(b)
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

// post asks for a completion, whatever comes of it.
func (s *running) post(b body) response {
	s.t.Helper()
	return s.request(http.MethodPost, "/v1/completions", http.Header{"Content-Type": {"application/json"}}, s.encode(b))
}

// open asks for a stream and returns the response with its body unread.
func (s *running) open(ctx context.Context, b body) *http.Response {
	s.t.Helper()
	resp, err := s.send(ctx, http.MethodPost, "/v1/completions", nil, s.encode(b.plus(body{"stream": true})))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// answer is a response, or a chunk of a stream, as a client decodes it.
type answer struct {
	ID                string        `json:"id"`
	Object            string        `json:"object"`
	Created           int64         `json:"created"`
	Model             string        `json:"model"`
	SystemFingerprint string        `json:"system_fingerprint"`
	Choices           []answered    `json:"choices"`
	Usage             *api.Usage    `json:"usage"`
	Error             *errorMessage `json:"error"`
}

type answered struct {
	Index        int       `json:"index"`
	Text         string    `json:"text"`
	Logprobs     *logprobs `json:"logprobs"`
	FinishReason *string   `json:"finish_reason"`
}

type logprobs struct {
	Tokens        []string             `json:"tokens"`
	TokenLogprobs []*float64           `json:"token_logprobs"`
	TopLogprobs   []map[string]float64 `json:"top_logprobs"`
	TextOffset    []int                `json:"text_offset"`
}

type errorMessage struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// complete asks for a completion that succeeds.
func (s *running) complete(b body) answer {
	s.t.Helper()
	r := s.post(b)
	var a answer
	if err := json.Unmarshal(r.body, &a); err != nil || r.status != http.StatusOK {
		s.t.Fatalf("status %d: %s", r.status, r.body)
	}
	return a
}

// stream asks for a stream that succeeds, checks its framing and returns the chunks.
func (s *running) stream(b body) []answer {
	s.t.Helper()
	r := s.post(b.plus(body{"stream": true}))
	if r.status != http.StatusOK {
		s.t.Fatalf("status %d: %s", r.status, r.body)
	}
	return chunks(s.t, r.body)
}

// events takes a stream apart: nothing but data lines, and [DONE] last.
func events(t *testing.T, stream []byte) []string {
	t.Helper()
	whole, ok := strings.CutSuffix(string(stream), "\n\n")
	if !ok {
		t.Fatalf("the stream does not end with an empty line: %q", stream)
	}
	var out []string
	for e := range strings.SplitSeq(whole, "\n\n") {
		data, ok := strings.CutPrefix(e, "data: ")
		if !ok || strings.ContainsAny(data, "\r\n") {
			t.Fatalf("not a single data line: %q", e)
		}
		out = append(out, data)
	}
	if last := len(out) - 1; out[last] == "[DONE]" {
		return out[:last]
	}
	t.Fatalf("the last event is not [DONE]: %q", stream)
	return nil
}

func chunks(t *testing.T, stream []byte) []answer {
	t.Helper()
	var out []answer
	for _, e := range events(t, stream) {
		var members map[string]json.RawMessage
		var a answer
		if err := json.Unmarshal([]byte(e), &members); err != nil {
			t.Fatalf("%q: %v", e, err)
		}
		if _, ok := members["error"]; ok {
			t.Fatalf("a chunk has an error: %s", e)
		}
		if err := json.Unmarshal([]byte(e), &a); err != nil {
			t.Fatalf("%q: %v", e, err)
		}
		out = append(out, a)
	}
	return out
}

// checkError checks a JSON error and its status.
func checkError(t *testing.T, r response, status int, typ, code string) *errorMessage {
	t.Helper()
	var a answer
	if err := json.Unmarshal(r.body, &a); err != nil || a.Error == nil {
		t.Fatalf("status %d, not an error: %s", r.status, r.body)
	}
	got := ""
	if a.Error.Code != nil {
		got = *a.Error.Code
	}
	if r.status != status || a.Error.Type != typ || got != code || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("status %d, %s: %s; want %d, %s, %q", r.status, r.header.Get("Content-Type"), r.body, status, typ, code)
	}
	return a.Error
}

// read reads a response that succeeds; it may be called on any goroutine.
func read(t *testing.T, r *http.Response) string {
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("status %d, %v: %s", r.StatusCode, err, b)
	}
	return string(normal(b))
}
