package config

import (
	"crypto/sha256"
	"reflect"
	"testing"
)

func TestKeys(t *testing.T) {
	c, err := Load(write(t, `
server:
  cors_origins: ["https://*.example.com", "http://localhost:3000"]
  api_keys:
    - {name: alice, key: sk-alice, models: ["llama:*"], requests_per_minute: 60, tokens_per_minute: 1000, concurrent: 4}
    - {name: bob, key_sha256: 2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B}
    - sk-plain
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := c.Server.APIKeys
	if want := (APIKey{Name: "alice", Key: "sk-alice", Models: []string{"llama:*"}, Limits: Limits{60, 1000, 4}}); len(keys) != 3 || !reflect.DeepEqual(keys[0], want) {
		t.Fatalf("keys %+v", keys)
	}
	if keys[0].Hash() != sha256.Sum256([]byte("sk-alice")) || keys[1].Hash() != sha256.Sum256([]byte("secret")) || keys[2].Name != "key-3" || keys[2].Hash() != sha256.Sum256([]byte("sk-plain")) {
		t.Errorf("keys %+v", keys)
	}
	if want := []string{"https://*.example.com", "http://localhost:3000"}; !reflect.DeepEqual(c.Server.CORSOrigins, want) {
		t.Errorf("origins %q", c.Server.CORSOrigins)
	}
}

func TestKeysOfEnvironment(t *testing.T) {
	t.Setenv("LORIKEET_SERVER_API_KEYS", "sk-one, sk-two")
	t.Setenv("LORIKEET_SERVER_CORS_ORIGINS", "https://a.example,https://b.example")
	c, err := Load(write(t, "server: {api_keys: [in-file]}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []APIKey{{Name: "key-1", Key: "sk-one"}, {Name: "key-2", Key: "sk-two"}}; !reflect.DeepEqual(c.Server.APIKeys, want) {
		t.Errorf("keys %+v", c.Server.APIKeys)
	}
	if len(c.Server.CORSOrigins) != 2 {
		t.Errorf("origins %q", c.Server.CORSOrigins)
	}
}

func TestAdapterLimits(t *testing.T) {
	dir := t.TempDir()
	c, err := Load(write(t, `
models: [{name: a, path: x}, {name: b, path: y}]
adapters: {requests_per_minute: 10, concurrent: 2, entries: [{name: hot, model: a, path: `+dir+`, requests_per_minute: 100, tokens_per_minute: 5}]}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[[2]string]Limits{{"a", "hot"}: {100, 5, 2}, {"b", "hot"}: {10, 0, 2}, {"a", "other"}: {10, 0, 2}} {
		if got := c.Adapters.LimitsOf(name[0], name[1]); got != want {
			t.Errorf("%v: %+v, want %+v", name, got, want)
		}
	}
	if !c.Adapters.Limited() || new(Adapters).Limited() {
		t.Error("whether adapters are limited is told wrongly")
	}
}
