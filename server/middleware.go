package server

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5/middleware"

	"lorikeet/api"
)

const requestIDHeader = "X-Request-Id"

// requestID answers with the caller's id, or with a new one.
func requestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestIDHeader)
		if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
			id = "req-" + randomHex(12)
			r.Header.Set(requestIDHeader, id)
		}
		w.Header().Set(requestIDHeader, id)
		next.ServeHTTP(w, r)
	})
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// logRequests writes a line for each answered request. What a handler finds out,
// it leaves in the response's headers.
func logRequests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		defer func() {
			level := slog.LevelInfo
			if r.URL.Path == "/health" {
				level = slog.LevelDebug
			}
			attrs := []any{"method", shown(r.Method), "path", shown(r.URL.Path), "status", ww.Status(), "took", time.Since(start).Round(time.Millisecond), "id", r.Header.Get(requestIDHeader)}
			if a := ww.Header().Get(adapterHeader); a != "" {
				attrs = append(attrs, "adapter", a)
			}
			slog.Log(r.Context(), level, "request", attrs...)
		}()
		next.ServeHTTP(ww, r)
	})
}

// recoverPanics turns a panic into a 500. If an answer was begun, it cuts the
// connection: a client must not take what came for the whole.
func recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			slog.Error("panic in a handler", "panic", p, "path", shown(r.URL.Path), "stack", string(debug.Stack()))
			if ww, ok := w.(middleware.WrapResponseWriter); !ok || ww.Status() != 0 {
				panic(http.ErrAbortHandler)
			}
			writeError(w, r, api.Internal())
		}()
		next.ServeHTTP(w, r)
	})
}

// stripTrailingSlash serves /v1/models/ as /v1/models: a redirect would turn a
// POST into a GET.
func stripTrailingSlash(next http.Handler) http.Handler {
	return middleware.StripSlashes(next)
}
