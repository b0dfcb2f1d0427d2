package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"lorikeet/api"
)

// guard lets through who may manage the server: with a key configured, who knows it;
// without, who sits at this machine.
type guard struct {
	hash [sha256.Size]byte
	open bool // no key is configured
}

func newGuard(key string) *guard { return &guard{sha256.Sum256([]byte(key)), key == ""} }

// wrap is the middleware.
func (g *guard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		check := g.key
		if g.open {
			check = local
		}
		if err := check(r); err != nil {
			writeError(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// key wants the configured key. Hashes are compared, so that neither the time that it
// takes nor the length of the key tells anything.
func (g *guard) key(r *http.Request) *api.Error {
	key := bearer(r)
	if key == "" {
		return api.Refused(http.StatusUnauthorized, "invalid_api_key", "The admin key is missing. It belongs in the header Authorization: Bearer KEY.")
	}
	hash := sha256.Sum256([]byte(key))
	if subtle.ConstantTimeCompare(hash[:], g.hash[:]) != 1 {
		return api.Refused(http.StatusUnauthorized, "invalid_api_key", "Incorrect admin key provided.")
	}
	return nil
}

// What a proxy adds, behind which everyone looks as if he sat at this machine.
var forwarded = []string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"}

// local wants a client at this machine, other than a browser that runs someone else's
// page: such a page can reach this machine under a name of its own (DNS rebinding), can
// send a POST without asking first only if it does not say that it holds JSON, and may
// be one of those that server.cors_origins lets use models.
func local(r *http.Request) *api.Error {
	refused := func(reason string) *api.Error {
		return api.Refused(http.StatusForbidden, "admin_not_local", "Without an admin key (server.admin_key), this is for clients on the server's own machine only: %s.", reason)
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return refused("the request comes from elsewhere")
	}
	for _, h := range forwarded {
		if len(r.Header.Values(h)) > 0 {
			return refused("the request was forwarded (" + h + ")")
		}
	}
	if origin := r.Header.Get("Origin"); origin != "" && !sameMachine(origin) {
		return refused("the request comes from a web page of elsewhere")
	}
	if !r.ProtoAtLeast(1, 1) { // nginx, unless it is told otherwise: it adds no header and rewrites Host
		return refused("the request is HTTP/1.0, as proxies send it")
	}
	if !loopback(r.Host) {
		return refused("the Host of the request is not a name of this machine such as localhost or 127.0.0.1")
	}
	if r.Method == http.MethodPost && !isJSON(r.Header.Get("Content-Type")) {
		return api.Refused(http.StatusUnsupportedMediaType, "unsupported_content_type", "Without an admin key (server.admin_key), a POST must have the content type application/json.")
	}
	return nil
}

// sameMachine tells whether a page comes from a server on this machine.
func sameMachine(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && loopback(u.Host)
}

// loopback tells whether a Host header names this machine, with or without a port.
func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
