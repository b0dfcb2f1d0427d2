package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"lorikeet/backend/fake"
)

// key makes a key that is called by its first letters.
func key(secret string, models ...string) Key {
	name, _, _ := strings.Cut(secret, "-")
	return Key{Name: name, Hash: sha256.Sum256([]byte(secret)), Models: models}
}

// with is the header that has a key.
func with(secret string) http.Header { return http.Header{"Authorization": {"Bearer " + secret}} }

// Each route is for everyone, for who has an API key, or for who has the admin key; the
// one key never stands for the other.
func TestEveryRouteWantsItsKey(t *testing.T) {
	const api, admin = "alice-secret", "the-admin-key"
	s := start(t, fake.New(256, 4), loadTimeout, Options{Keys: []Key{key("bob-secret"), key(api), key("carol-secret")}, AdminKey: admin})
	open := []string{"GET /health", "GET /ready", "GET /version", "GET /openapi.json"}
	refused := func(route, authorization string) bool {
		r := localRequest(t, route)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		got := ask(s, r)
		if got.status == http.StatusUnauthorized {
			message := checkError(t, got, http.StatusUnauthorized, "invalid_request_error", "invalid_api_key").Message
			if got.header.Get("WWW-Authenticate") != "Bearer" || strings.Contains(message, "secret") {
				t.Errorf("%s: %v: %s", route, got.header, got.body)
			}
		}
		return got.status == http.StatusUnauthorized
	}
	all := append(routes(t, s), "GET /nowhere", "POST /v1/nowhere", "PUT /v1/completions", "BREW /health", "OPTIONS /v1/completions", "HEAD /v1/models")
	if len(all) < 20 {
		t.Errorf("%d routes", len(all))
	}
	for _, route := range all {
		method, path, _ := strings.Cut(route, " ")
		forAdmin := slices.Contains(adminRoutes, method+" /v1"+strings.TrimPrefix(path, "/v1"))
		for authorization, opens := range map[string]bool{
			"": false, "Bearer": false, "Bearer ": false, "Basic " + api: false, api: false, "Bearer alice": false, "Bearer " + api + "x": false, "Bearer ALICE-secret": false,
			"Bearer " + api: !forAdmin, "bearer  bob-secret": !forAdmin, "Bearer carol-secret": !forAdmin, "Bearer " + admin: forAdmin,
		} {
			if want := !opens && !slices.Contains(open, route); refused(route, authorization) != want {
				t.Errorf("%s with %q: refused %v, want %v", route, authorization, !want, want)
			}
		}
	}
}

// A key that is not configured does no harm: SDKs always send one.
func TestWithoutKeys(t *testing.T) {
	s := serve(t)
	for _, authorization := range []string{"Bearer ", "Bearer anything", "Basic x", ""} {
		r := s.request(http.MethodPost, "/v1/completions", http.Header{"Authorization": {authorization}}, s.encode(body{"model": "red", "prompt": "a"}))
		if r.status != http.StatusOK || r.header.Get("X-Ratelimit-Limit-Requests") != "" {
			t.Errorf("%q: status %d, %v: %s", authorization, r.status, r.header, r.body)
		}
	}
}

// What a key may not use does not exist for it.
func TestAllowedModels(t *testing.T) {
	s := start(t, fake.New(256, 4), loadTimeout, Options{Keys: []Key{
		key("all-1"), key("base-1", base), key("some-1", base+":red", base+":g*"), key("adapters-1", base+":*"), key("none-1", "lab.fake", "ed", ".*"),
	}})
	reds := []string{base + ":red", "red"}
	for _, tt := range []struct {
		key             string
		allowed, hidden []string
	}{
		{"all-1", append(reds, base, "blue"), nil},
		{"base-1", []string{base}, append(reds, "blue")},
		{"some-1", append(reds, "green", base+":gold"), []string{base, "blue", base + ":spell"}},
		{"adapters-1", append(reds, "blue"), []string{base}},
		{"none-1", nil, append(reds, base, "blue")},
	} {
		var list struct{ Data []struct{ ID string } }
		if err := json.Unmarshal(s.request(http.MethodGet, "/v1/models", with(tt.key), nil).body, &list); err != nil {
			t.Fatal(err)
		}
		listed := map[string]bool{}
		for _, m := range list.Data {
			listed[m.ID] = true
		}
		llama := string(s.request(http.MethodGet, "/lora-adapters", with(tt.key), nil).body)
		for i, names := range [][]string{tt.allowed, tt.hidden} {
			ok := i == 0
			for _, name := range names {
				full := name
				if !strings.HasPrefix(name, base) {
					full = base + ":" + name
				}
				if listed[full] != ok {
					t.Errorf("%s: %s is listed: %v", tt.key, full, !ok)
				}
				requests := map[string]response{
					"get":        s.request(http.MethodGet, "/v1/models/"+name, with(tt.key), nil),
					"completion": s.request(http.MethodPost, "/v1/completions", with(tt.key), s.encode(body{"model": name, "prompt": "a"})),
				}
				for what, r := range requests {
					if ok && r.status != http.StatusOK {
						t.Errorf("%s, %s %s: status %d: %s", tt.key, what, name, r.status, r.body)
					} else if !ok {
						checkError(t, r, http.StatusNotFound, "invalid_request_error", "model_not_found")
					}
				}
				adapter, isAdapter := strings.CutPrefix(full, base+":")
				if !isAdapter {
					continue
				}
				if strings.Contains(llama, `"`+full+`"`) != ok {
					t.Errorf("%s: /lora-adapters with %s: %v: %s", tt.key, full, !ok, llama)
				}
				r := s.request(http.MethodPost, "/v1/completions", with(tt.key), s.encode(body{"model": base, "prompt": "a", "lora": []body{{"name": adapter}}}))
				if ok && r.status != http.StatusOK {
					t.Errorf("%s, lora %s: status %d: %s", tt.key, adapter, r.status, r.body)
				} else if !ok {
					checkError(t, r, http.StatusBadRequest, "invalid_request_error", "adapter_not_found")
				}
			}
		}
	}
}

// The log has the key's name, and never the key, also of one that is wrong.
func TestKeysInLog(t *testing.T) {
	s := start(t, fake.New(256, 4), loadTimeout, Options{Keys: []Key{key("alice-secret")}})
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	defer slog.SetDefault(before)
	for _, secret := range []string{"alice-secret", "wrong-secret"} {
		s.request(http.MethodPost, "/v1/completions", with(secret), s.encode(body{"model": "red", "prompt": "a"}))
		<-s.done
	}
	if text := log.String(); !strings.Contains(text, "key=alice") || !strings.Contains(text, "status=401") || strings.Contains(text, "secret") {
		t.Errorf("the log: %s", text)
	}
}
