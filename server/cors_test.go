package server

import (
	"net/http"
	"strings"
	"testing"

	"lorikeet/backend/fake"
)

func TestCORS(t *testing.T) {
	const ours, evil = "https://app.example.com", "https://evil.example"
	preflight := func(s *running, origin string) response {
		return s.request(http.MethodOptions, "/v1/completions", http.Header{
			"Origin": {origin}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization,content-type,openai-organization,x-stainless-os"},
		}, nil)
	}
	models := func(s *running, origin string) response {
		h := with("alice-1")
		h.Set("Origin", origin)
		return s.request(http.MethodGet, "/v1/models", h, nil)
	}
	for _, tt := range []struct {
		name    string
		origins []string
		allowed map[string]string // by origin
	}{
		{"one", []string{ours}, map[string]string{ours: ours, evil: "", "null": ""}},
		{"pattern", []string{"https://*.example.com"}, map[string]string{ours: ours, evil: "", "https://example.com": ""}},
		{"all", []string{"*"}, map[string]string{ours: "*", evil: "*"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, fake.New(256, 4), loadTimeout, Options{Keys: []Key{key("alice-1")}, Origins: tt.origins})
			for origin, want := range tt.allowed {
				r := preflight(s, origin)
				checkHeaders(t, r, "Access-Control-Allow-Origin", want, "Access-Control-Allow-Credentials", "")
				if r.status != http.StatusNoContent || len(r.body) != 0 || !strings.Contains(r.header.Get("Vary"), "Origin") || r.header.Get(requestIDHeader) == "" {
					t.Errorf("preflight: status %d, %v, %q", r.status, r.header, r.body)
				}
				if headers := r.header.Get("Access-Control-Allow-Headers"); (headers != "") != (want != "") || want != "" && !strings.Contains(headers, "x-stainless-os") {
					t.Errorf("allowed headers %q", headers)
				}
				r = models(s, origin)
				checkHeaders(t, r, "Access-Control-Allow-Origin", want, "Vary", "Origin")
				if exposed := strings.ToLower(r.header.Get("Access-Control-Expose-Headers")); r.status != http.StatusOK || want != "" && (!strings.Contains(exposed, "x-request-id") || !strings.Contains(exposed, "retry-after-ms") || !strings.Contains(exposed, "x-ratelimit-remaining-tokens")) {
					t.Errorf("status %d, exposed %q", r.status, exposed)
				}
				// A refusal can be read by the page that it is for.
				r = s.request(http.MethodGet, "/v1/models", http.Header{"Origin": {origin}}, nil)
				checkError(t, r, http.StatusUnauthorized, "invalid_request_error", "invalid_api_key")
				checkHeaders(t, r, "Access-Control-Allow-Origin", want)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		s := start(t, fake.New(256, 4), loadTimeout, Options{Keys: []Key{key("alice-1")}})
		checkError(t, preflight(s, ours), http.StatusUnauthorized, "invalid_request_error", "invalid_api_key")
		checkHeaders(t, models(s, ours), "Access-Control-Allow-Origin", "", "Vary", "")
	})
}

// A page that may use models manages nothing, unless it has the admin key.
func TestPagesDoNotManage(t *testing.T) {
	s := start(t, fake.New(256, 4), loadTimeout, Options{Origins: []string{"*"}})
	for _, r := range adminRequests(t, s) {
		r.Header.Set("Origin", "https://app.example.com")
		checkError(t, ask(s, r), http.StatusForbidden, "invalid_request_error", "admin_not_local")
	}
}
