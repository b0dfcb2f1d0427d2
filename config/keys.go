package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// APIKey lets its holder use models. Of Key and SHA256, one is set.
type APIKey struct {
	Name   string   // what logs call it; empty: key-1, key-2, …
	Key    string   // as clients send it
	SHA256 string   `mapstructure:"key_sha256"` // of the key, in hexadecimal
	Models []string // names or patterns such as "llama:*"; empty: all
	Limits `mapstructure:",squash"`
}

// Limits bound what is asked for; 0 is no bound.
type Limits struct {
	RequestsPerMinute int `mapstructure:"requests_per_minute"`
	TokensPerMinute   int `mapstructure:"tokens_per_minute"`
	Concurrent        int
}

// Limited tells whether any adapter is.
func (a *Adapters) Limited() bool {
	return a.Limits != (Limits{}) || slices.ContainsFunc(a.Entries, func(e Adapter) bool { return e.Limits != (Limits{}) })
}

// LimitsOf gives the limits of an adapter of a model.
func (a *Adapters) LimitsOf(model, adapter string) Limits {
	l := a.Limits
	for _, e := range a.Entries {
		if e.Name == adapter && (e.Model == "" || e.Model == model) {
			l.RequestsPerMinute = cmp.Or(e.RequestsPerMinute, l.RequestsPerMinute)
			l.TokensPerMinute = cmp.Or(e.TokensPerMinute, l.TokensPerMinute)
			l.Concurrent = cmp.Or(e.Concurrent, l.Concurrent)
		}
	}
	return l
}

// Hash is the SHA-256 of the key.
func (k *APIKey) Hash() [sha256.Size]byte {
	if k.SHA256 == "" {
		return sha256.Sum256([]byte(k.Key))
	}
	var hash [sha256.Size]byte
	_, _ = hex.Decode(hash[:], []byte(k.SHA256)) // was validated
	return hash
}

// plainKeys reads keys without anything else: one in a list, or as the environment has
// them, separated by commas.
func plainKeys(_, to reflect.Type, value any) (any, error) {
	text, ok := value.(string)
	switch {
	case ok && to == reflect.TypeFor[[]APIKey]():
		var keys []APIKey
		for key := range strings.SplitSeq(text, ",") {
			keys = append(keys, APIKey{Key: strings.TrimSpace(key)})
		}
		return keys, nil
	case ok && to == reflect.TypeFor[APIKey]():
		return APIKey{Key: text}, nil
	}
	return value, nil
}

func (s *Server) nameKeys() {
	for i := range s.APIKeys {
		if s.APIKeys[i].Name == "" {
			s.APIKeys[i].Name = fmt.Sprintf("key-%d", i+1)
		}
	}
}

const keyRule = "a key has no spaces and only characters that a header can carry"

// sendable tells whether a header can carry a key.
func sendable(key string) bool {
	return !strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' })
}

// validateKeys never repeats a key.
func (s *Server) validateKeys(bad func(key, format string, args ...any)) {
	names, hashes := map[string]bool{}, map[[sha256.Size]byte]bool{}
	for i := range s.APIKeys {
		k, key := &s.APIKeys[i], fmt.Sprintf("server.api_keys[%d]", i)
		if names[k.Name] {
			bad(key+".name", "%q is used twice", k.Name)
		}
		names[k.Name] = true
		k.validate(key, bad)
		switch digest, err := hex.DecodeString(k.SHA256); {
		case (k.Key == "") == (k.SHA256 == ""):
			bad(key, "one of key and key_sha256 must be set")
			continue
		case !sendable(k.Key):
			bad(key+".key", "%s", keyRule)
			continue
		case err != nil || k.SHA256 != "" && len(digest) != sha256.Size:
			bad(key+".key_sha256", "is not a SHA-256 of 64 hexadecimal digits")
			continue
		}
		hash := k.Hash()
		if hashes[hash] {
			bad(key, "the same key is there twice")
		}
		hashes[hash] = true
		if s.AdminKey != "" && hash == sha256.Sum256([]byte(s.AdminKey)) {
			bad(key, "is the admin key (server.admin_key), which must be another one")
		}
	}
}

func (l *Limits) validate(key string, bad func(key, format string, args ...any)) {
	const most = 1 << 30
	for _, n := range []struct {
		name  string
		value int
	}{{"requests_per_minute", l.RequestsPerMinute}, {"tokens_per_minute", l.TokensPerMinute}, {"concurrent", l.Concurrent}} {
		if n.value < 0 || n.value > most {
			bad(key+"."+n.name, "%d is not between 0 and %d", n.value, most)
		}
	}
}

// validOrigin tells whether a browser may name a page's origin so; a * within stands for
// any characters.
func validOrigin(origin string) bool {
	if origin == "*" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Scheme != "" && u.Host != "" && u.Path == "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil
}
