package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The file that ships says what the defaults are.
func TestShippedFile(t *testing.T) {
	shipped, err := Load("../config.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	shipped.Models = nil // models: [] in the file
	plain, err := Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(shipped, plain) {
		t.Errorf("config.yaml gives %+v, the defaults are %+v", shipped, plain)
	}
	text, err := os.ReadFile("../config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for key := range defaults {
		_, leaf, _ := strings.Cut(key, ".")
		if !strings.Contains(string(text), "\n  "+leaf+": ") {
			t.Errorf("config.yaml does not show %s", key)
		}
	}
	for f := range reflect.TypeFor[Model]().Fields() {
		name := f.Tag.Get("mapstructure")
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		if !strings.Contains(string(text), " "+name+": ") {
			t.Errorf("config.yaml does not show models[].%s", name)
		}
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	path := write(t, "server: {addr: 'file:1', body_timeout: 7s}\nlog: {level: debug}\nmodels: [{name: m, path: p, context: 64, max_rank: 8, targets: [attn_q]}]\n")
	t.Setenv("LORIKEET_SERVER_ADDR", "env:2")
	t.Setenv("LORIKEET_LOG_LEVEL", "warn")
	t.Setenv("LORIKEET_SERVER_ADMIN_KEY", "secret")
	c, err := Load(path, map[string]any{"server.addr": "flag:3"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.Addr != "flag:3" || c.Log.Level != "warn" || c.Server.BodyTimeout != 7*time.Second || c.Server.AdminKey != "secret" {
		t.Errorf("got %+v", c)
	}
	want := []Model{{Name: "m", Path: "p", Context: 64, MaxRank: 8, Targets: []string{"attn_q"}}}
	if !reflect.DeepEqual(c.Models, want) {
		t.Errorf("models %+v", c.Models)
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct{ file, want string }{
		{"server: {adr: x}", "adr"},
		{"server: {addr: nonsense}", "server.addr"},
		{"server: {api_keys: [{name: a}]}", "server.api_keys[0]: one of key and key_sha256"},
		{"server: {api_keys: [{key: s3cret, key_sha256: abc}]}", "server.api_keys[0]: one of key and key_sha256"},
		{"server: {api_keys: [{key_sha256: abc}]}", "server.api_keys[0].key_sha256: is not a SHA-256"},
		{"server: {api_keys: [{key: 's3cret word'}]}", "server.api_keys[0].key: a key has no spaces"},
		{"server: {api_keys: [s3cret, s3cret]}", "server.api_keys[1]: the same key"},
		{"server: {api_keys: [s3cret, {key_sha256: 1EC1C26B50D5D3C58D9583181AF8076655FE00756BF7285940BA3670F99FCBA0}]}", "server.api_keys[1]: the same key"},
		{"server: {api_keys: [{name: key-2, key: s3cret}, other]}", "server.api_keys[1].name: \"key-2\" is used twice"},
		{"server: {admin_key: s3cret, api_keys: [s3cret]}", "server.api_keys[0]: is the admin key"},
		{"server: {api_keys: [{key: s3cret, requests_per_minute: -1}]}", "server.api_keys[0].requests_per_minute: -1"},
		{"server: {api_keys: [{key: s3cret, model: x}]}", "model"},
		{"server: {cors_origins: [app.example.com]}", "server.cors_origins[0]"},
		{"server: {cors_origins: ['https://app.example.com/']}", "server.cors_origins[0]"},
		{"adapters: {concurrent: -1}", "adapters.concurrent: -1"},
		{"models: [{name: m, path: x, pooling: first}]", "models[0].pooling"},
		{"server: {admin_key: 'two words'}", "server.admin_key: a key has no spaces"},
		{"adapters: {load_timeout: 5}", "not a duration"},
		{"adapters: {load_timeout: -1s}", "adapters.load_timeout"},
		{"adapters: {dir: /does/not/exist}", "adapters.dir: /does/not/exist: no such file"},
		{"log: {level: loud}", "log.level"},
		{"models: [{path: x}]", "models[0].name"},
		{"models: [{name: 'a,b', path: x}]", "models[0].name"},
		{"models: [{name: m}]", "models[0].path"},
		{"models: [{name: m, path: x, chat_template: /does/not/exist}]", "models[0].chat_template"},
		{"models: [{name: m, path: x, sequences: 300}]", "models[0].sequences: 300 is not between 0 and 256"},
		{"models: [{name: m, path: x, wrong: 1}]", "wrong"},
		{"a: [", "config"},
	}
	for _, tt := range tests {
		_, err := Load(write(t, tt.file), nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want %q in it", tt.file, err, tt.want)
		}
	}
	if _, err := Load("/does/not/exist.yaml", nil); err == nil || !strings.HasPrefix(err.Error(), "config /does/not/exist.yaml: ") {
		t.Errorf("missing file: %v", err)
	}
}
