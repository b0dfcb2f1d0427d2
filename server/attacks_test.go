package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"lorikeet/backend/fake"
)

// What is refused is refused with its field, allocates little more than it is long, and
// the next request is served.
func TestHostileRequests(t *testing.T) {
	s := serve(t)
	prefix := fmt.Sprintf(`{"model":%q,"prompt":`, base)
	for name, b := range map[string]string{
		"nesting of objects":   prefix + strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000) + "}",
		"nesting, not closed":  prefix + strings.Repeat("[", 1_000_000),
		"nesting where unread": prefix + `"a","extra":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}",
		"a million biases":     prefix + `"a","logit_bias":{` + strings.Repeat(`"1":1,`, 999_999) + `"2":1}}`,
		"a million stops":      prefix + `"a","stop":[` + strings.Repeat(`"x",`, 999_999) + `"y"]}`,
		"a million loras":      prefix + `"a","lora":[` + strings.Repeat(`{"id":1},`, 999_999) + `{"id":2}]}`,
		"n":                    prefix + `"a","n":1000000000}`,
		"n of another range":   prefix + `"a","n":99999999999999999999}`,
		"n below 0":            prefix + `"a","n":-1}`,
		"max_tokens below 0":   prefix + `"a","max_tokens":-5}`,
		"1e308":                prefix + `"a","temperature":1e308}`,
		"1e309":                prefix + `"a","temperature":1e309}`,
		"1e308 as a token":     prefix + `[1e308]}`,
		"-1e308 as a bias":     prefix + `"a","logit_bias":{"1":-1e308}}`,
		"Infinity":             prefix + `"a","top_p":Infinity}`,
		"negative ids":         prefix + `[-1]}`,
		"negative ids, nested": prefix + `[[1,2],[-2147483648]]}`,
		"a negative bias id":   prefix + `"a","logit_bias":{"-1":1}}`,
		"a negative stop id":   prefix + `"a","stop_token_ids":[-1]}`,
		"a negative lora":      prefix + `"a","lora":[{"id":-7}]}`,
		"invalid UTF-8":        `{"model":"lab/fake\xff","prompt":"a"}`,
		"overlong UTF-8":       `{"model":"..\xc0\xafetc","prompt":"a"}`,
		"an escaped NUL":       `{"model":"red\u0000","prompt":"a"}`,
		"CR LF as escapes":     `{"model":"red\u000d\u000aX-Evil: 1","prompt":"a"}`,
		"two objects":          prefix + `"a"}{}`,
		"a long number":        prefix + `"a","seed":` + strings.Repeat("9", 1_000_000) + `}`,
		"nothing":              ``,
		"null":                 `null`,
		"UTF-16":               "\xff\xfe{\x00}\x00",
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := s.request(http.MethodPost, "/v1/completions", nil, []byte(b))
			runtime.ReadMemStats(&after)
			if r.status < 400 || r.status > 499 || len(r.body) > 1000 || r.header.Get("X-Evil") != "" {
				t.Errorf("status %d: %.1000s", r.status, r.body)
			}
			// The test's own client and the growth of the buffer for the body take part of it.
			if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(64*len(b)+1<<20) {
				t.Errorf("%d bytes of body made %d bytes of garbage", len(b), grown)
			}
		})
	}
	s.complete(body{"model": "red", "prompt": "a"})
}

// Headers are bounded, of whatever kind; net/http answers for itself.
func TestHugeHeaders(t *testing.T) {
	s := serve(t)
	ts := &http.Server{Handler: s.Server, MaxHeaderBytes: MaxHeaderBytes}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- ts.Serve(listener) }()
	defer func() {
		ts.Close()
		<-served
	}()
	for _, head := range []string{
		"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + strings.Repeat("x", 10<<20) + "\r\n\r\n",
		"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-Many: 1\r\n", 1<<20) + "\r\n",
		"GET /v1/models/" + strings.Repeat("x", 10<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		written := make(chan struct{})
		go func() { // it is cut off half-way
			defer close(written)
			_, _ = io.WriteString(conn, head)
		}()
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil && !strings.Contains(line, " 431 ") && !strings.Contains(line, " 400 ") {
			t.Errorf("%.40q…: %q", head, line)
		}
		conn.Close()
		<-written
	}
	if r := s.request(http.MethodGet, "/v1/models", nil, nil); r.status != http.StatusOK {
		t.Errorf("the next request: status %d", r.status)
	}
}

// Injected lines reach neither headers nor later requests.
func TestInjectedHeaders(t *testing.T) {
	s := start(t, fake.New(256, 4), loadTimeout, Options{Keys: []Key{key("alice-1")}})
	for _, path := range []string{"/v1/models/red%0D%0AX-Evil:%201", "/v1/models/red%00", "/v1/%0d%0aX-Evil:%201", "/v1/models/%F0%9F%A6%9C", "/v1/models/%ff%fe"} {
		r := s.request(http.MethodGet, path, with("alice-1"), nil)
		if r.status != http.StatusNotFound || r.header.Get("X-Evil") != "" || strings.ContainsAny(strings.TrimSuffix(string(r.body), "\n"), "\r\n\x00") {
			t.Errorf("%s: status %d, %v: %q", path, r.status, r.header, r.body)
		}
	}
}
