package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"lorikeet/api"
)

const requestIDHeader = "X-Request-Id"

// requestID answers with the caller's id, or with a new one.
func requestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestIDHeader)
		if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
			id = "req-" + randomID()
			r.Header.Set(requestIDHeader, id)
		}
		w.Header().Set(requestIDHeader, id)
		next.ServeHTTP(w, r)
	})
}

// randomID is 24 hex digits.
func randomID() string {
	b := make([]byte, 12)
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
			if r.URL.Path == "/health" || r.URL.Path == "/ready" {
				level = slog.LevelDebug
			}
			attrs := []any{"method", shown(r.Method), "path", shown(r.URL.Path), "status", ww.Status(), "took", time.Since(start).Round(time.Millisecond), "id", r.Header.Get(requestIDHeader)}
			if key := keyOf(r); key != nil {
				attrs = append(attrs, "key", key.Name)
			}
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

// escapedPath routes by the path as it was sent, so that a slash within a name may come
// as %2F and a name is unescaped once. /v1/models/ is served as /v1/models: a redirect
// would turn a POST into a GET.
func escapedPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chi.RouteContext(r.Context()).RoutePath = trimmedPath(r)
		next.ServeHTTP(w, r)
	})
}

func trimmedPath(r *http.Request) string {
	path := r.URL.EscapedPath()
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	return path
}

// work counts the requests that are being answered.
type work struct {
	mu   sync.Mutex
	n    int
	idle []chan struct{} // closed and dropped when n is 0
}

// count is the middleware.
func (k *work) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.add(1)
		defer k.add(-1)
		next.ServeHTTP(w, r)
	})
}

func (k *work) add(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.n += n; k.n == 0 {
		for _, c := range k.idle {
			close(c)
		}
		k.idle = nil
	}
}

// wait returns when nothing is being answered, or with ctx's error.
func (k *work) wait(ctx context.Context) error {
	k.mu.Lock()
	if k.n == 0 {
		k.mu.Unlock()
		return nil
	}
	idle := make(chan struct{})
	k.idle = append(k.idle, idle)
	k.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
