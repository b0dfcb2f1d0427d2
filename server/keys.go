package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"lorikeet/adapters"
	"lorikeet/api"
)

// Key lets its holder use models.
type Key struct {
	Name   string            // what logs call it
	Hash   [sha256.Size]byte // of the key, which the server does not keep
	Models []string          // names as /v1/models lists them; * stands for any characters; empty: all
	Limits Limits
}

// account is a key in use. nil is that of a server that is open to everyone.
type account struct {
	Key
	models []*regexp.Regexp // nil: all
	meter  *meter           // nil: not limited
}

// keyring tells who sends a request.
type keyring struct {
	accounts []*account
	limits   *limiter
}

func newKeyring(keys []Key, limits *limiter) *keyring {
	k := &keyring{limits: limits}
	for _, key := range keys {
		a := &account{Key: key, meter: newMeter("API key \""+key.Name+"\"", key.Limits)}
		for _, pattern := range key.Models {
			quoted := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`)
			a.models = append(a.models, regexp.MustCompile(`^(?:`+quoted+`)$`))
		}
		k.accounts = append(k.accounts, a)
	}
	return k
}

// keyContext is the key of an account in a request's context.
type keyContext struct{}

// keyOf is the account that a request is for.
func keyOf(r *http.Request) *account {
	a, _ := r.Context().Value(keyContext{}).(*account)
	return a
}

// identify finds out whose key a request has. It refuses none, see require.
func (k *keyring) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := k.find(bearer(r)); a != nil {
			r = r.WithContext(context.WithValue(r.Context(), keyContext{}, a))
		}
		next.ServeHTTP(w, r)
	})
}

// find looks at all keys, and at their hashes, so that neither the time that it takes
// nor a key's length tells anything.
func (k *keyring) find(key string) *account {
	hash := sha256.Sum256([]byte(key))
	found := -1
	for i, a := range k.accounts {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], a.Hash[:]), i, found)
	}
	if found < 0 {
		return nil
	}
	return k.accounts[found]
}

// require lets through who has a key, or everyone if none is configured.
func (k *keyring) require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := keyOf(r)
		switch {
		case a != nil && a.meter != nil:
			k.limits.show(w.Header(), []*meter{a.meter})
		case a == nil && len(k.accounts) > 0:
			message := "Incorrect API key provided."
			if bearer(r) == "" {
				message = "You didn't provide an API key. It belongs in the header Authorization: Bearer KEY."
			}
			writeError(w, r, api.Refused(http.StatusUnauthorized, "invalid_api_key", "%s", message))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bearer is the key that a request has, "" if there is none.
func bearer(r *http.Request) string {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(key)
}

// allows tells whether a base or one of its adapters may be used.
func (a *account) allows(b *adapters.Base, adapter string) bool {
	if a == nil || a.models == nil {
		return true
	}
	name := modelName(b, adapter)
	return slices.ContainsFunc(a.models, func(m *regexp.Regexp) bool { return m.MatchString(name) })
}

// modelName is the full name of a base, or of one of its adapters.
func modelName(b *adapters.Base, adapter string) string {
	if adapter == "" {
		return b.Name
	}
	return b.Name + ":" + adapter
}
