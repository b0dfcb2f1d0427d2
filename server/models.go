package server

import (
	"net/http"
	"net/url"

	"github.com/go-chi/chi/v5"

	"lorikeet/adapters"
	"lorikeet/api"
)

// listModels lists the bases, then their adapters, as far as the key may use them.
func (s *Server) listModels(w http.ResponseWriter, r *http.Request) {
	key := keyOf(r)
	list := api.ModelList{Object: "list", Data: []api.Model{}}
	for _, b := range s.opts.Registry.Bases() {
		if key.allows(b, "") {
			list.Data = append(list.Data, s.model(b, ""))
		}
	}
	for _, b := range s.opts.Registry.Bases() {
		for _, a := range b.Adapters.Names() {
			if key.allows(b, a) {
				list.Data = append(list.Data, s.model(b, a))
			}
		}
	}
	writeJSON(w, http.StatusOK, list)
}

func (s *Server) getModel(w http.ResponseWriter, r *http.Request) {
	name := pathName(r)
	base, adapter, ok := s.opts.Registry.Resolve(name)
	if !ok || !keyOf(r).allows(base, adapter) {
		writeError(w, r, api.ModelNotFound(name))
		return
	}
	writeJSON(w, http.StatusOK, s.model(base, adapter))
}

// pathName is the name at the end of a path. SDKs send its slashes as %2F, curl as
// they are.
func pathName(r *http.Request) string {
	name, err := url.PathUnescape(chi.URLParam(r, "*"))
	if err != nil {
		return chi.URLParam(r, "*")
	}
	return name
}

func (s *Server) model(b *adapters.Base, adapter string) api.Model {
	m := api.Model{
		ID: modelName(b, adapter), Object: "model", Created: s.started.Unix(), OwnedBy: "lorikeet", Root: b.Name,
		MaxModelLen: b.Engine.Info().Context,
	}
	if adapter != "" {
		m.Root, m.Parent = adapter, &b.Name
	}
	return m
}
