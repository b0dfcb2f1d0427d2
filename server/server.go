// Package server is the HTTP side: routes, middleware and handlers. A handler
// decodes a request (package api), resolves its model name and takes a lease on
// the adapter (package adapters), submits to the engine (package backend) and turns
// events into a response.
//
// It knows neither llama.cpp nor configuration files; an error becomes a response
// in one place, errors.go.
package server

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"lorikeet/adapters"
	"lorikeet/api"
)

// Options configure a server.
type Options struct {
	Registry     *adapters.Registry
	MaxBodyBytes int64         // of a request; 0 means 10 MiB
	BodyTimeout  time.Duration // for a client to send its body; 0 means 30 s
	AdminKey     string        // for who manages adapters; "" means who sits at this machine
	Version      string
}

// Server answers requests. Use New.
type Server struct {
	opts     Options
	started  time.Time
	draining atomic.Bool
	handler  http.Handler
}

// New makes a server. It owns nothing that needs closing.
func New(o Options) *Server {
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = 10 << 20
	}
	if o.BodyTimeout == 0 {
		o.BodyTimeout = 30 * time.Second
	}
	s := &Server{opts: o, started: time.Now()}
	r := chi.NewRouter()
	r.Use(requestID, logRequests, recoverPanics, s.bodyDeadline, stripTrailingSlash)
	r.NotFound(unknownURL)
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, r, api.Refused(http.StatusMethodNotAllowed, "method_not_allowed", "Not allowed to %s on %s.", shown(r.Method), shown(r.URL.Path)))
	})
	r.Get("/health", s.health)
	r.Get("/version", s.version)
	r.Get("/lora-adapters", s.loraAdapters)
	admin := r.With(newGuard(o.AdminKey).wrap)
	for _, prefix := range []string{"", "/v1"} {
		r.Post(prefix+"/completions", s.completions)
		r.Get(prefix+"/models", s.listModels)
		r.Get(prefix+"/models/*", s.getModel)
		s.manage(admin, prefix)
	}
	s.opts.AdminKey = "" // the guard has its hash
	s.handler = r
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Drain makes the server refuse new work with 503; what runs goes on.
func (s *Server) Drain() { s.draining.Store(true) }

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		writeError(w, r, errDraining())
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *Server) version(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"version": s.opts.Version})
}

func unknownURL(w http.ResponseWriter, r *http.Request) {
	writeError(w, r, api.Refused(http.StatusNotFound, "unknown_url", "Unknown request URL: %s %s.", shown(r.Method), shown(r.URL.Path)))
}

// shown is a client's path or method as a message repeats it.
func shown(s string) string {
	const limit = 100
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
