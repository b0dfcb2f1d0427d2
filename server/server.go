// Package server is the HTTP side: routes, middleware and handlers. A handler
// decodes a request (package api), resolves its model name and takes a lease on
// the adapter (package adapters), submits to the engine (package backend) and turns
// events into a response.
//
// It knows neither llama.cpp nor configuration files; an error becomes a response
// in one place, errors.go.
package server

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"lorikeet/adapters"
	"lorikeet/api"
)

// MaxHeaderBytes is for the http.Server that serves a Server.
const MaxHeaderBytes = 64 << 10

// Options configure a server.
type Options struct {
	Registry     *adapters.Registry
	MaxBodyBytes int64         // of a request; 0 means 10 MiB
	BodyTimeout  time.Duration // for a client to send its body; 0 means 30 s
	AdminKey     string        // for who manages adapters; "" means who sits at this machine
	Keys         []Key         // who may use models; none means everyone
	Origins      []string      // whose pages in browsers may use the server, "*" means all; none: no page
	// AdapterLimits bounds what all clients together ask of an adapter; nil means no
	// bounds.
	AdapterLimits func(base, adapter string) Limits
	Version       string
}

// Server answers requests. Use New.
type Server struct {
	opts      Options
	started   time.Time
	templates templates
	limits    *limiter
	draining  atomic.Bool
	work      work
	handler   http.Handler
}

// New makes a server. It owns nothing that needs closing.
func New(o Options) *Server {
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = 10 << 20
	}
	if o.BodyTimeout == 0 {
		o.BodyTimeout = 30 * time.Second
	}
	s := &Server{opts: o, started: time.Now(), templates: newTemplates(o.Registry.Bases())}
	s.limits = &limiter{now: time.Now, ofAdapter: o.AdapterLimits, adapters: map[string]*meter{}}
	keys := newKeyring(o.Keys, s.limits)
	open := chi.NewRouter() // its routes are for everyone
	open.Use(requestID, keys.identify, logRequests, s.work.count, recoverPanics)
	if len(o.Origins) > 0 {
		open.Use(allowOrigins(o.Origins))
	}
	open.Use(s.bodyDeadline, escapedPath, middleware.GetHead)
	open.NotFound(keys.require(http.HandlerFunc(unknownURL)).ServeHTTP)
	open.MethodNotAllowed(keys.require(http.HandlerFunc(wrongMethod)).ServeHTTP)
	open.Get("/health", s.health)
	open.Get("/ready", s.ready)
	open.Get("/version", s.version)
	open.Get("/openapi.json", s.openAPI)
	r := open.With(keys.require) // for who has a key
	r.Get("/lora-adapters", s.loraAdapters)
	admin := open.With(newGuard(o.AdminKey).wrap) // for who manages the server
	for _, prefix := range []string{"", "/v1"} {
		r.Post(prefix+"/completions", s.completions)
		r.Post(prefix+"/chat/completions", s.chatCompletions)
		r.Post(prefix+"/responses", s.responses)
		r.Post(prefix+"/embeddings", s.embeddings)
		r.Post(prefix+"/tokenize", s.tokenize)
		r.Post(prefix+"/detokenize", s.detokenize)
		r.Get(prefix+"/tokenizer_info", s.tokenizerInfo)
		r.Get(prefix+"/models", s.listModels)
		r.Get(prefix+"/models/*", s.getModel)
		s.manage(admin, prefix)
	}
	s.opts.AdminKey = "" // the guard has its hash
	s.handler = open
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Drain makes the server refuse new work with 503; what runs goes on.
func (s *Server) Drain() { s.draining.Store(true) }

// Wait returns when no request is being answered, or with ctx's error.
func (s *Server) Wait(ctx context.Context) error { return s.work.wait(ctx) }

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		writeError(w, r, errDraining())
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// ready answers GET /ready: whether all models can be expected to answer.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		writeError(w, r, errDraining())
		return
	}
	for _, b := range s.opts.Registry.Bases() {
		if err := b.Engine.Ready(); err != nil {
			writeError(w, r, apiError(err, b.Name))
			return
		}
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

func (s *Server) version(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"version": s.opts.Version})
}

func unknownURL(w http.ResponseWriter, r *http.Request) {
	writeError(w, r, api.Refused(http.StatusNotFound, "unknown_url", "Unknown request URL: %s %s.", shown(r.Method), shown(r.URL.Path)))
}

// wrongMethod tells which methods a path has. OPTIONS is answered with nothing else.
func wrongMethod(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", strings.Join(methods(r), ", "))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	writeError(w, r, api.Refused(http.StatusMethodNotAllowed, "method_not_allowed", "Not allowed to %s on %s.", shown(r.Method), shown(r.URL.Path)))
}

// methods lists what can be done with a request's path.
func methods(r *http.Request) []string {
	var out []string
	c := chi.RouteContext(r.Context())
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		if c.Routes.Match(chi.NewRouteContext(), m, trimmedPath(r)) {
			out = append(out, m)
			if m == http.MethodGet {
				out = append(out, http.MethodHead)
			}
		}
	}
	return append(out, http.MethodOptions)
}

// shown is a client's path or method as a message repeats it.
func shown(s string) string {
	const limit = 100
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
