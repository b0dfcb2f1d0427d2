package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"lorikeet/backend/fake"
)

// dial sends the beginning of a request as it is.
func dial(t *testing.T, s *running, head string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	return conn
}

func receive(t *testing.T, conn net.Conn) response {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{r.StatusCode, r.Header, b}
}

// cutRequest announces a body that does not come.
func cutRequest(path, contentType string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: " + contentType + "\r\nContent-Length: 100\r\n\r\n{\"model\":"
}

// A body that does not come in time ends the request, also where it is not read.
func TestSlowBody(t *testing.T) {
	s := start(t, fake.New(256, 1), loadTimeout, Options{BodyTimeout: 10 * time.Millisecond})
	ask := func(path, contentType string) response {
		t.Helper()
		return receive(t, dial(t, s, cutRequest(path, contentType)))
	}
	checkError(t, ask("/v1/completions", "application/json"), http.StatusRequestTimeout, "invalid_request_error", "request_timeout")
	checkError(t, ask("/v1/completions", "text/plain"), http.StatusUnsupportedMediaType, "invalid_request_error", "unsupported_content_type")
	checkError(t, ask("/nowhere", "application/json"), http.StatusNotFound, "invalid_request_error", "unknown_url")
	checkError(t, ask("/v1/models", "application/json"), http.StatusMethodNotAllowed, "invalid_request_error", "method_not_allowed")
	chunked := dial(t, s, "POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"mo")
	checkError(t, receive(t, chunked), http.StatusNotFound, "invalid_request_error", "unknown_url")
	s.Drain()
	checkError(t, ask("/v1/completions", "application/json"), http.StatusServiceUnavailable, "server_error", "shutting_down")
}

// The time for a body is not that for the answer.
func TestSlowAnswer(t *testing.T) {
	e := fake.New(256, 1)
	e.StepTime = 2 * time.Millisecond
	s := start(t, e, loadTimeout, Options{BodyTimeout: 50 * time.Millisecond})
	for _, stream := range []bool{false, true} {
		if r := s.post(body{"model": base, "prompt": "abcd", "max_tokens": 40, "temperature": 0, "stream": stream}); r.status != http.StatusOK || !bytes.Contains(r.body, []byte(`"finish_reason":"length"`)) {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
}

func TestCutBody(t *testing.T) {
	s := serve(t)
	conn := dial(t, s, cutRequest("/v1/completions", "application/json"))
	<-s.arrived
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	checkError(t, receive(t, conn), http.StatusBadRequest, "invalid_request_error", "")
	<-s.done
}

// The limit counts bytes, also of a body that does not say how long it is.
func TestBodySize(t *testing.T) {
	const limit = 200
	s := start(t, fake.New(256, 1), loadTimeout, Options{MaxBodyBytes: limit})
	filled := func(n int) []byte {
		b := s.encode(body{"model": base, "prompt": "a", "user": ""})
		return bytes.Replace(b, []byte(`"user":"`), []byte(`"user":"`+strings.Repeat("u", n-len(b))), 1)
	}
	send := func(b []byte, chunked bool) response {
		var r io.Reader = bytes.NewReader(b)
		if chunked {
			r = struct{ io.Reader }{r}
		}
		resp, err := s.client.Post(s.URL+"/v1/completions", "application/json", r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response{resp.StatusCode, resp.Header, got}
	}
	for _, chunked := range []bool{false, true} {
		if r := send(filled(limit), chunked); r.status != http.StatusOK {
			t.Errorf("%d bytes: status %d: %s", limit, r.status, r.body)
		}
		for _, n := range []int{limit + 1, 64 << 10} {
			checkError(t, send(filled(n), chunked), http.StatusRequestEntityTooLarge, "invalid_request_error", "request_too_large")
		}
	}
}

func TestContentTypes(t *testing.T) {
	s := serve(t)
	b := s.encode(body{"model": base, "prompt": "a"})
	for ct, want := range map[string]int{
		"": 200, "application/json": 200, "application/json; charset=utf-8": 200, "APPLICATION/JSON;charset=\"UTF-8\"": 200,
		"text/plain": 415, "application/x-www-form-urlencoded": 415, "multipart/form-data; boundary=x": 415, "application/jsonp": 415, ";": 415, "application/json, text/plain": 415,
	} {
		h := http.Header{}
		if ct != "" {
			h.Set("Content-Type", ct)
		}
		if r := s.request(http.MethodPost, "/v1/completions", h, b); r.status != want {
			t.Errorf("%q: status %d, want %d: %s", ct, r.status, want, r.body)
		} else if want == 415 {
			checkError(t, r, want, "invalid_request_error", "unsupported_content_type")
		}
	}
}

// What attackers send is refused, and the server goes on.
func TestHostileBodies(t *testing.T) {
	s := serve(t)
	prefix := fmt.Sprintf(`{"model":%q,"prompt":`, base)
	for name, b := range map[string]string{
		"nesting":           prefix + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}",
		"many biases":       prefix + `"a","logit_bias":{` + strings.Repeat(`"1":1,`, 100_000) + `"1":1}}`,
		"many prompts":      prefix + `[` + strings.Repeat(`"a",`, 100_000) + `"a"]}`,
		"many tokens":       prefix + `[` + strings.Repeat(`1,`, 100_000) + `1]}`,
		"much to generate":  prefix + `"a","n":128,"max_tokens":2147483647}`,
		"n":                 prefix + `"a","n":1e9}`,
		"NaN":               prefix + `"a","temperature":NaN}`,
		"CR LF in the name": `{"model":"a\r\nX-Evil: b","prompt":"a"}`,
		"NUL in the name":   `{"model":"lab/fake\u0000","prompt":"a"}`,
		"path as a name":    `{"model":"../../etc/passwd","prompt":"a"}`,
		"path as adapter":   `{"model":"lab/fake:../red","prompt":"a"}`,
		"path as lora":      prefix + `"a","lora":[{"name":"..\\red"}]}`,
		"lone surrogate":    prefix + `"\ud83e"}`,
	} {
		r := s.request(http.MethodPost, "/v1/completions", nil, []byte(b))
		if r.status < 400 || r.status > 499 || len(r.body) > 1000 || r.header.Get("X-Evil") != "" {
			t.Errorf("%s: status %d: %s", name, r.status, r.body)
		}
	}
	s.complete(body{"model": base + ":red", "prompt": "a\x00b", "n": 128})
}
