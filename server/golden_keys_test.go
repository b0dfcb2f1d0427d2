package server

import (
	"crypto/sha256"
	"path/filepath"
	"testing"
	"time"

	"lorikeet/backend/fake"
)

// Exchanges with a server that has keys; each is asked alone.
var keyExchanges = []exchange{
	{name: "key", path: "/v1/completions", body: `{"model":"red","prompt":"abc","max_tokens":4,"temperature":0}`, header: [2]string{"Authorization", "Bearer sk-alice"}},
	{name: "missing", path: "/v1/completions", body: `{"model":"red","prompt":"abc"}`},
	{name: "incorrect", path: "/v1/completions", body: `{"model":"red","prompt":"abc"}`, header: [2]string{"Authorization", "Bearer sk-mallory"}},
	{name: "unknown-route", method: "GET", path: "/v1/nowhere"},
	{name: "health", method: "GET", path: "/health"},
	{name: "models", method: "GET", path: "/v1/models", header: [2]string{"Authorization", "Bearer sk-alice"}},
	{name: "model-not-allowed", path: "/v1/completions", body: `{"model":"lab/fake","prompt":"abc"}`, header: [2]string{"Authorization", "Bearer sk-alice"}},
	{name: "no-requests-left", path: "/v1/completions", body: `{"model":"red","prompt":"abc"}`, header: [2]string{"Authorization", "Bearer sk-spent"}},
	{name: "wrong-method", method: "DELETE", path: "/v1/completions", header: [2]string{"Authorization", "Bearer sk-alice"}},
}

func TestKeyTranscripts(t *testing.T) {
	dir := filepath.Join("testdata", "keys")
	seen := map[string]bool{}
	for _, x := range keyExchanges {
		seen[x.name+".txt"] = true
		t.Run(x.name, func(t *testing.T) {
			s := start(t, fake.New(256, 4), loadTimeout, Options{Keys: []Key{
				{Name: "alice", Hash: sha256.Sum256([]byte("sk-alice")), Models: []string{"lab/fake:red", "lab/fake:g*"}, Limits: Limits{RequestsPerMinute: 10, TokensPerMinute: 600}},
				{Name: "spent", Hash: sha256.Sum256([]byte("sk-spent")), Limits: Limits{RequestsPerMinute: 1}},
			}})
			c := &clock{time.Unix(1_700_000_000, 0)}
			s.limits.now = c.now
			if x.header[1] == "Bearer sk-spent" {
				s.as("sk-spent", body{"model": base, "prompt": "a"})
			}
			checkTranscript(t, filepath.Join(dir, x.name+".txt"), x.transcript(t, s))
		})
	}
	checkFiles(t, dir, seen)
}
