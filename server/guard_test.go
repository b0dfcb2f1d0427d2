package server

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"lorikeet/backend/fake"
)

// adminRoutes are for who manages the server, each also without /v1.
var adminRoutes = []string{
	"POST /v1/load_lora_adapter", "POST /v1/unload_lora_adapter", "DELETE /v1/models/*", "POST /v1/adapters/*", "GET /v1/adapters", "GET /v1/adapters/*",
}

// routes lists what a server answers, such as "GET /v1/models/*".
func routes(t *testing.T, s *running) []string {
	t.Helper()
	var out []string
	err := chi.Walk(s.handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		out = append(out, method+" "+route)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// localRequest is a request for a route, as a client on this machine would send it.
func localRequest(t *testing.T, route string) *http.Request {
	method, route, _ := strings.Cut(route, " ")
	path := strings.Replace(route, "*", "red", 1)
	if method == http.MethodPost && path != route {
		path += "/pin"
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(`{"lora_name":"red","lora_path":"red","load_inplace":true}`))
	r.Host, r.RemoteAddr = "localhost:8080", "127.0.0.1:50000"
	r.Header.Set("Content-Type", "application/json")
	return r
}

// adminRequests has a request for every route that is for who manages the server.
func adminRequests(t *testing.T, s *running) []*http.Request {
	t.Helper()
	var out []*http.Request
	for _, route := range routes(t, s) {
		method, path, _ := strings.Cut(route, " ")
		if slices.Contains(adminRoutes, method+" /v1"+strings.TrimPrefix(path, "/v1")) {
			out = append(out, localRequest(t, route))
		}
	}
	if len(out) != 2*len(adminRoutes) {
		t.Errorf("%d routes for who manages the server", len(out))
	}
	return out
}

func ask(s *running, r *http.Request) response {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return response{w.Code, w.Header(), w.Body.Bytes()}
}

// With a key, no route for who manages the server does anything without it; where the
// client sits does not matter.
func TestAdminKey(t *testing.T) {
	const key = "the-right-key"
	s := start(t, fake.New(256, 4), loadTimeout, Options{AdminKey: key})
	before := string(s.request(http.MethodGet, "/v1/models", nil, nil).body)
	for _, peer := range []string{"127.0.0.1:50000", "203.0.113.9:50000"} {
		for _, authorization := range []string{
			"", "Bearer", "Bearer ", "Bearer wrong", key, "Basic " + key, "Bearer " + key + "x", "Bearer " + key[1:], "Bearer " + strings.ToUpper(key), "Bearer " + key + " " + key,
		} {
			for _, r := range adminRequests(t, s) {
				r.RemoteAddr = peer
				if authorization != "" {
					r.Header.Set("Authorization", authorization)
				}
				got := ask(s, r)
				message := checkError(t, got, http.StatusUnauthorized, "invalid_request_error", "invalid_api_key").Message
				if got.header.Get("WWW-Authenticate") != "Bearer" || strings.Contains(message, "wrong") {
					t.Errorf("%s %s with %q: %v %s", r.Method, r.URL, authorization, got.header, message)
				}
			}
		}
	}
	if after := string(s.request(http.MethodGet, "/v1/models", nil, nil).body); after != before {
		t.Errorf("the models were %s and are %s", before, after)
	}
	for _, r := range adminRequests(t, s) {
		if r.URL.Path == "/v1/adapters/red" {
			r.RemoteAddr, r.Host = "203.0.113.9:50000", "models.example.com"
			r.Header.Set("X-Forwarded-For", "198.51.100.1")
			r.Header.Set("Authorization", "bearer  "+key)
			if got := ask(s, r); got.status != http.StatusOK {
				t.Errorf("with the key: status %d: %s", got.status, got.body)
			}
		}
	}
}

// Without a key, only who sits at this machine manages the server: no one elsewhere, no
// one behind a proxy on this machine, and no page in a browser on it.
func TestAdminWithoutKey(t *testing.T) {
	s := serve(t)
	before := string(s.request(http.MethodGet, "/v1/models", nil, nil).body)
	header := func(name, value string) func(r *http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(h string) func(r *http.Request) { return func(r *http.Request) { r.Host = h } }
	peer := func(a string) func(r *http.Request) { return func(r *http.Request) { r.RemoteAddr = a } }
	for name, change := range map[string]func(r *http.Request){
		"elsewhere":             peer("203.0.113.9:50000"),
		"elsewhere, IPv6":       peer("[2001:db8::1]:50000"),
		"a private network":     peer("10.0.0.7:50000"),
		"a socket without name": peer("@"),
		"no peer":               peer(""),
		"a name for a peer":     peer("localhost:50000"),
		"X-Forwarded-For":       header("X-Forwarded-For", "127.0.0.1"),
		"X-Real-IP":             header("X-Real-IP", "127.0.0.1"),
		"Forwarded":             header("Forwarded", ""),
		"Via":                   header("Via", "1.1 proxy"),
		"X-Forwarded-Proto":     header("X-Forwarded-Proto", "https"),
		"a page of elsewhere":   header("Origin", "https://evil.example"),
		"a page of a file":      header("Origin", "null"),
		"HTTP/1.0":              func(r *http.Request) { r.ProtoMajor, r.ProtoMinor = 1, 0 },
		"another name":          host("evil.example:8080"),
		"a name that begins so": host("localhost.evil.example"),
		"127 in a name":         host("127.0.0.1.evil.example:8080"),
		"the machine's address": host("10.0.0.7:8080"),
		"no Host":               host(""),
		"any address":           host("0.0.0.0:8080"),
		"brackets":              host("[localhost]evil"),
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range adminRequests(t, s) {
				change(r)
				r.Header.Set("Authorization", "Bearer ") // an empty key is not the one that is not configured
				checkError(t, ask(s, r), http.StatusForbidden, "invalid_request_error", "admin_not_local")
			}
		})
	}
	for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain; application/json"} {
		for _, r := range adminRequests(t, s) {
			if r.Method == http.MethodPost {
				r.Header.Set("Content-Type", contentType)
				checkError(t, ask(s, r), http.StatusUnsupportedMediaType, "invalid_request_error", "unsupported_content_type")
			}
		}
	}
	if after := string(s.request(http.MethodGet, "/v1/models", nil, nil).body); after != before {
		t.Errorf("the models were %s and are %s", before, after)
	}
	for _, here := range []struct{ peer, host string }{
		{"127.0.0.1:50000", "localhost"}, {"127.8.9.1:50000", "LOCALHOST:8080"}, {"[::1]:50000", "[::1]:8080"}, {"[::1]:50000", "[::1]"},
		{"[::ffff:127.0.0.1]:50000", "127.0.0.1:8080"}, {"127.0.0.1:50000", "127.1.2.3"},
	} {
		for _, r := range adminRequests(t, s) {
			if r.URL.Path != "/v1/adapters" {
				continue
			}
			r.RemoteAddr, r.Host = here.peer, here.host
			r.Header.Set("Origin", "http://localhost:3000")
			if got := ask(s, r); got.status != http.StatusOK {
				t.Errorf("%+v: status %d: %s", here, got.status, got.body)
			}
		}
	}
}
