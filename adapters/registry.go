package adapters

import (
	"fmt"
	"strings"

	"lorikeet/backend"
)

// Base is a served base model with its adapters.
type Base struct {
	Name         string
	Engine       backend.Engine
	Adapters     *Manager
	ChatTemplate string // Jinja, instead of that in the base's file; "" is none
}

// Registry resolves the names that requests use.
type Registry struct {
	bases []*Base
}

// NewRegistry makes a registry; the names of the bases differ.
func NewRegistry(bases ...*Base) (*Registry, error) {
	seen := map[string]bool{}
	for _, b := range bases {
		if !ValidName(b.Name) {
			return nil, fmt.Errorf("model name %q: only letters, digits and . _ / - are allowed, 128 at most, beginning with a letter or digit", b.Name)
		}
		if seen[b.Name] {
			return nil, fmt.Errorf("model name %q is used twice", b.Name)
		}
		seen[b.Name] = true
	}
	return &Registry{bases}, nil
}

// Bases returns the bases in the order of the configuration.
func (r *Registry) Bases() []*Base { return r.bases }

// Resolve finds what a model name stands for: "base", "base:adapter" or
// "adapter", in this order of precedence. adapter is "" for the base itself.
func (r *Registry) Resolve(name string) (base *Base, adapter string, ok bool) {
	for _, b := range r.bases {
		if b.Name == name {
			return b, "", true
		}
	}
	for _, b := range r.bases {
		if a, found := strings.CutPrefix(name, b.Name+":"); found && b.Adapters.Has(a) {
			return b, a, true
		}
	}
	for _, b := range r.bases {
		if b.Adapters.Has(name) {
			return b, name, true
		}
	}
	return nil, "", false
}
