package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"lorikeet/adapters"
	"lorikeet/api"
)

// manage adds the routes that change which adapters are served.
func (s *Server) manage(r chi.Router, prefix string) {
	r.Post(prefix+"/load_lora_adapter", s.loadAdapter)
	r.Post(prefix+"/unload_lora_adapter", s.unloadAdapter)
	r.Delete(prefix+"/models/*", s.deleteModel)
	r.Post(prefix+"/adapters/*", s.pinAdapter)
	r.Get(prefix+"/adapters", s.listAdapters)
	r.Get(prefix+"/adapters/*", s.getAdapter)
}

// loadAdapter answers POST /v1/load_lora_adapter, as vLLM does.
func (s *Server) loadAdapter(w http.ResponseWriter, r *http.Request) {
	req, ok := accept(s, w, r, api.DecodeLoadAdapter)
	if !ok {
		return
	}
	base, name, apiErr := s.place(req.Name, req.Base)
	if apiErr != nil {
		writeError(w, r, apiErr)
		return
	}
	err := base.Adapters.Register(r.Context(), adapters.Registration{Name: name, Path: req.Path, Replace: req.Replace, Pinned: req.Pinned})
	if err != nil {
		writeError(w, r, adminError(err, "lora_name", req.Name))
		return
	}
	writeText(w, fmt.Sprintf("Success: LoRA adapter '%s' added successfully.", req.Name))
}

// unloadAdapter answers POST /v1/unload_lora_adapter, as vLLM does.
func (s *Server) unloadAdapter(w http.ResponseWriter, r *http.Request) {
	req, apiErr := decodeBody(s, w, r, api.DecodeUnloadAdapter)
	if apiErr != nil {
		writeError(w, r, apiErr)
		return
	}
	base, name, apiErr := s.find("lora_name", req.Name, req.Base)
	if apiErr != nil {
		writeError(w, r, apiErr)
		return
	}
	left, err := base.Adapters.Unload(r.Context(), name)
	if err != nil {
		writeError(w, r, adminError(err, "lora_name", req.Name))
		return
	}
	text := fmt.Sprintf("Success: LoRA adapter '%s' removed successfully.", req.Name)
	if left > 0 {
		text += fmt.Sprintf(" Requests that still use it and will finish: %d.", left)
	}
	writeText(w, text)
}

// deleteModel answers DELETE /v1/models/{name}.
func (s *Server) deleteModel(w http.ResponseWriter, r *http.Request) {
	base, name, apiErr := s.find("", pathName(r), "")
	if apiErr != nil {
		writeError(w, r, apiErr)
		return
	}
	id := s.model(base, name).ID
	if _, err := base.Adapters.Unload(r.Context(), name); err != nil {
		writeError(w, r, adminError(err, "", id))
		return
	}
	writeJSON(w, http.StatusOK, api.ModelDeleted{ID: id, Object: "model", Deleted: true})
}

// pinAdapter answers POST /v1/adapters/{name}/pin and /unpin.
func (s *Server) pinAdapter(w http.ResponseWriter, r *http.Request) {
	name, pin := strings.CutSuffix(pathName(r), "/pin")
	if !pin {
		var unpin bool
		if name, unpin = strings.CutSuffix(name, "/unpin"); !unpin {
			unknownURL(w, r)
			return
		}
	}
	if _, ok := accept(s, w, r, ignored); !ok {
		return
	}
	base, adapter, apiErr := s.find("", name, "")
	if apiErr != nil {
		writeError(w, r, apiErr)
		return
	}
	if err := base.Adapters.Pin(r.Context(), adapter, pin); err != nil {
		writeError(w, r, adminError(err, "", name))
		return
	}
	s.writeStatus(w, r, base, adapter)
}

// ignored decodes a body in which nothing counts.
func ignored([]byte) (*struct{}, *api.Error) { return &struct{}{}, nil }

// place tells which base a new adapter is for, and its name there. The base may stand
// in the name, "base:adapter"; if there is only one, it need not be named.
func (s *Server) place(name, baseName string) (*adapters.Base, string, *api.Error) {
	bases := s.opts.Registry.Bases()
	if baseName == "" && len(bases) == 1 {
		baseName = bases[0].Name
	}
	for _, b := range bases {
		adapter, prefixed := strings.CutPrefix(name, b.Name+":")
		if b.Name != baseName && (baseName != "" || !prefixed) {
			continue
		}
		if s.isBase(adapter) {
			return nil, "", api.Invalid("lora_name", "invalid_value", "Invalid 'lora_name': a base model has this name.")
		}
		return b, adapter, nil
	}
	if baseName != "" {
		return nil, "", baseNotFound()
	}
	return nil, "", api.Invalid("base_model_name", "missing_required_parameter", "Missing required parameter: 'base_model_name'. This server has several base models, and an adapter is for one of them.")
}

// find finds an adapter by one of its names, in a base if one is named. param holds
// the name, and is "" where it is in the path.
func (s *Server) find(param, name, baseName string) (*adapters.Base, string, *api.Error) {
	if baseName != "" {
		if !s.isBase(baseName) {
			return nil, "", baseNotFound()
		}
		name = baseName + ":" + strings.TrimPrefix(name, baseName+":")
	}
	base, adapter, ok := s.opts.Registry.Resolve(name)
	switch {
	case !ok:
		return nil, "", api.AdapterNotFound(param, name)
	case adapter == "":
		return nil, "", api.Invalid(param, "base_model", "This is the name of a base model, not of an adapter; base models are changed in the configuration only.")
	}
	return base, adapter, nil
}

func (s *Server) isBase(name string) bool {
	return slices.ContainsFunc(s.opts.Registry.Bases(), func(b *adapters.Base) bool { return b.Name == name })
}

func baseNotFound() *api.Error {
	err := api.Refused(http.StatusNotFound, "model_not_found", "Invalid 'base_model_name': this server has no base model of that name.")
	err.Param = "base_model_name"
	return err
}
