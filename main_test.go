package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// syncBuffer is written by the program while the test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
	// firstLine is closed when the text contains "Try it".
	ready     chan struct{}
	readyOnce sync.Once
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.b.Write(p)
	if s.ready != nil && bytes.Contains(s.b.Bytes(), []byte("Try it:")) {
		s.readyOnce.Do(func() { close(s.ready) })
	}
	return n, err
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func configFile(t *testing.T, format string, args ...any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What an operator gets wrong is told in one line.
func TestStartFailures(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	garbage := filepath.Join(t.TempDir(), "garbage.gguf")
	if err := os.WriteFile(garbage, []byte("this is no GGUF file"), 0o600); err != nil {
		t.Fatal(err)
	}
	free := "server: {addr: '127.0.0.1:0'}\n"
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"model file missing", []string{"-c", configFile(t, "%smodels: [{name: m, path: /does/not/exist.gguf}]", free)},
			`model "m": base /does/not/exist.gguf: no such file or directory`},
		{"model is a folder", []string{"-c", configFile(t, "%smodels: [{name: m, path: /tmp}]", free)}, `model "m": base /tmp: is a folder`},
		{"model is garbage", []string{"-c", configFile(t, "%smodels: [{name: m, path: %s}]", free, garbage)}, "load model: invalid magic characters"},
		{"model twice", []string{"-c", configFile(t, "%smodels: [{name: m, path: demo/parrot.gguf}, {name: m, path: demo/parrot.gguf}]", free)}, `model name "m" is used twice`},
		{"port in use", []string{"--addr", taken.Addr().String()}, "is in use"},
		{"adapters folder missing", []string{"-c", configFile(t, "adapters: {dir: /does/not/exist}")}, "adapters.dir: /does/not/exist: no such file"},
		{"config missing", []string{"-c", "/does/not/exist.yaml"}, "config /does/not/exist.yaml: no such file"},
		{"two things wrong", []string{"-c", configFile(t, "log: {level: loud, format: xml}")}, "log.level"},
		{"unknown flag", []string{"--nonsense"}, "unknown flag"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs syncBuffer
			err := run(t.Context(), append([]string{"serve"}, tt.args...), &out, &errs)
			if err == nil {
				t.Fatal("it started")
			}
			lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
			last := lines[len(lines)-1]
			if !strings.HasPrefix(last, "lorikeet: ") || !strings.Contains(last, tt.want) || strings.Contains(errs.String(), "goroutine ") {
				t.Errorf("got %q, want %q in one line", errs.String(), tt.want)
			}
		})
	}
}

// start runs the program and returns its address, and a function that ends it as
// SIGTERM would.
func start(t *testing.T, args ...string) (addr string, stop func() error, logs *syncBuffer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, errs := &syncBuffer{ready: make(chan struct{})}, &syncBuffer{}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, append([]string{"serve", "--addr", "127.0.0.1:0"}, args...), out, errs) }()
	select {
	case <-out.ready:
	case err := <-ended:
		t.Fatalf("%v: %s", err, errs)
	}
	_, rest, _ := strings.Cut(out.String(), "http://")
	addr, _, _ = strings.Cut(rest, " ")
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			err = <-ended
		})
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return addr, stop, errs
}

func complete(t *testing.T, addr, model string) (status int, text, message string) {
	t.Helper()
	body := fmt.Sprintf(`{"model": %q, "prompt": "What colour is the sky?", "max_tokens": 32, "temperature": 0}`, model)
	resp, err := http.Post("http://"+addr+"/v1/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var c struct {
		Choices []struct{ Text string }
		Error   struct{ Message string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil {
		t.Fatal(err)
	}
	if len(c.Choices) > 0 {
		text = c.Choices[0].Text
	}
	return resp.StatusCode, text, c.Error.Message
}

func TestServeDemoAndStop(t *testing.T) {
	addr, stop, logs := start(t)
	if status, text, _ := complete(t, addr, "parrot:pirate"); status != 200 || text != " Arr! The sky be blue, matey!" {
		t.Errorf("status %d, %q", status, text)
	}
	var out, errs syncBuffer
	if err := run(t.Context(), []string{"healthcheck", "--url", "http://" + addr + "/health"}, &out, &errs); err != nil {
		t.Errorf("healthcheck: %v", err)
	}
	// A stream under way when the program is told to end is finished.
	resp, err := http.Post("http://"+addr+"/v1/completions", "application/json",
		strings.NewReader(`{"model": "parrot", "prompt": "Count to twenty.", "max_tokens": 64, "temperature": 0, "stream": true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(body), "data: [DONE]\n\n") || !strings.Contains(string(body), "twenty") {
		t.Errorf("the stream ends with %q, %v", body[max(0, len(body)-100):], err)
	}
	if err := run(t.Context(), []string{"healthcheck", "--url", "http://" + addr + "/health"}, &out, &errs); err == nil {
		t.Error("healthy after the end")
	}
	if strings.Contains(logs.String(), "ERR") || strings.Contains(logs.String(), "WRN") {
		t.Errorf("complaints:\n%s", logs)
	}
}

// One broken adapter gets one clear error; the others are served.
func TestBrokenAdapters(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("demo/adapters")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "stranger"), os.DirFS("tests/oracle/testdata/mqa/adapters/attention")); err != nil {
		t.Fatal(err)
	}
	weights := filepath.Join(dir, "json", "adapter_model.safetensors")
	content, err := os.ReadFile(weights)
	if err == nil {
		content[8] = '['
		err = os.WriteFile(weights, content, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "pirate-gguf.gguf"), 5000); err != nil {
		t.Fatal(err)
	}
	addr, _, _ := start(t, "-c", configFile(t, "models: [{name: m, path: demo/parrot.gguf, adapters_dir: %s}]", dir))
	for model, want := range map[string]string{
		"m:json":        "adapter_model.safetensors: header",
		"m:stranger":    `adapter_model.safetensors: tensor "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight": 96 columns, but blk.0.attn_k.weight takes 192 inputs`,
		"m:pirate-gguf": "is not complete yet: pirate-gguf.gguf ends within its header",
	} {
		status, _, message := complete(t, addr, model)
		wantStatus := 400
		if model == "m:pirate-gguf" { // which may be a copy under way
			wantStatus = 503
		}
		if status != wantStatus || !strings.Contains(message, want) || strings.Contains(message, dir) {
			t.Errorf("%s: status %d: %s", model, status, message)
		}
		t.Log(message)
	}
	for model, want := range map[string]string{"m": " The sky is blue.", "m:pirate": " Arr! The sky be blue, matey!", "shout": " THE SKY IS BLUE!"} {
		if status, text, message := complete(t, addr, model); status != 200 || text != want {
			t.Errorf("%s: status %d: %q %s", model, status, text, message)
		}
	}
}
