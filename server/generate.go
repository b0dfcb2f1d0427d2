package server

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"

	"lorikeet/adapters"
	"lorikeet/api"
	"lorikeet/backend"
)

// target is what a request's model name stands for, held for as long as the
// request lasts.
type target struct {
	base   *adapters.Base
	lease  *adapters.Lease // nil for the base itself
	limits *limiter
	meters []*meter // of the key and the adapters, as far as they are limited
}

// resolve finds the model, counts the request for who is limited and takes a lease on
// the model's adapters.
func (s *Server) resolve(w http.ResponseWriter, r *http.Request, model string, loras []api.LoRA) (*target, *api.Error) {
	base, adapter, ok := s.opts.Registry.Resolve(model)
	if !ok {
		return nil, api.ModelNotFound(model)
	}
	key := keyOf(r)
	refs, apiErr := references(base, adapter, loras, key)
	if apiErr != nil {
		return nil, apiErr
	}
	if !changes(refs) && !key.allows(base, "") || adapter != "" && !key.allows(base, adapter) {
		return nil, api.ModelNotFound(model)
	}
	t := &target{base: base, limits: s.limits}
	meters := s.limits.meters(key, base, refs)
	apiErr = s.limits.admit(meters)
	s.limits.show(w.Header(), meters)
	if apiErr != nil {
		return nil, apiErr
	}
	t.meters = meters
	if len(refs) > 0 {
		lease, err := base.Adapters.Acquire(r.Context(), refs)
		if err != nil {
			t.release()
			return nil, apiError(err, model)
		}
		t.lease = lease
	}
	return t, nil
}

// changes tells whether any of refs is applied: at scale 0, adapters are the base.
func changes(refs []adapters.Ref) bool {
	return slices.ContainsFunc(refs, func(r adapters.Ref) bool { return r.Scale != 0 })
}

// references lists the adapters that a request is for: that of its model's name, or
// those of its lora field. What the key may not use does not exist for it.
func references(base *adapters.Base, adapter string, loras []api.LoRA, key *account) ([]adapters.Ref, *api.Error) {
	if adapter != "" && len(loras) == 0 {
		return []adapters.Ref{{Name: adapter, Scale: 1}}, nil
	}
	var refs []adapters.Ref
	for _, l := range loras {
		if l.ID >= 0 {
			name, ok := base.Adapters.NameOf(l.ID)
			if !ok || !key.allows(base, name) {
				return nil, api.Invalid("lora", "adapter_not_found", "Invalid 'lora': the base %q has no adapter of id %d.", base.Name, l.ID)
			}
			l.Name = name
		}
		if adapter != "" && adapter != l.Name {
			return nil, api.Invalid("lora", "invalid_value", "Invalid 'lora': the model already names an adapter; name the same one, or the base.")
		}
		if !base.Adapters.Has(l.Name) || !key.allows(base, l.Name) {
			return nil, api.Invalid("lora", "adapter_not_found", "Invalid 'lora': the base %q has no adapter of that name.", base.Name)
		}
		refs = append(refs, adapters.Ref{Name: l.Name, Scale: l.Scale})
	}
	return refs, nil
}

// release may be called more than once.
func (t *target) release() {
	if t.lease != nil {
		t.lease.Release()
	}
	t.limits.done(t.meters)
	t.meters = nil
}

// place tells a request which weights it uses, from which token of its prompt on.
func (t *target) place(r *backend.Request) {
	if t.lease == nil {
		return
	}
	if from, active := t.lease.From(r.Prompt); active {
		r.Slot, r.SlotFrom, r.Version = t.lease.Slot, from, t.lease.Key
	}
}

// fingerprint identifies the weights that answer.
func (t *target) fingerprint() string {
	fp := "fp_" + t.base.Engine.Info().Fingerprint
	if t.lease != nil {
		for _, p := range t.lease.Parts {
			fp += "_" + adapters.Short(p.Version)
		}
	}
	return fp
}

// adapters names the adapter versions that answer, as a response header does.
func (t *target) adapters() string {
	if t.lease == nil {
		return ""
	}
	var names []string
	for _, p := range t.lease.Parts {
		names = append(names, p.Name+"@"+adapters.Short(p.Version))
	}
	return strings.Join(names, ", ")
}

// choiceEvent is an event of one of a request's choices.
type choiceEvent struct {
	index int
	backend.Event
}

// generation runs the choices of one request together.
type generation struct {
	events chan choiceEvent // closed when no choice uses the engine any more
	cancel context.CancelFunc
}

// generate submits all requests, or none. The caller reads events to the end, also
// after cancel: only then may the lease be released. Tokens are counted here for who
// is limited in them: a prompt once, however many choices answer it, and what is
// generated as it comes.
func (t *target) generate(ctx context.Context, requests []*backend.Request) (*generation, error) {
	ctx, cancel := context.WithCancel(ctx)
	g := &generation{events: make(chan choiceEvent), cancel: cancel}
	var channels []<-chan backend.Event
	var failed error
	for _, r := range requests {
		c, err := t.base.Engine.Submit(ctx, r)
		if err != nil {
			failed = err
			cancel()
			break
		}
		channels = append(channels, c)
	}
	if failed == nil {
		t.spent(promptLengths(requests))
	}
	var running sync.WaitGroup
	for i, c := range channels {
		running.Go(func() {
			generated := 0
			for ev := range c {
				if ev.Generated > generated {
					t.spent(ev.Generated - generated)
					generated = ev.Generated
				}
				if failed == nil {
					g.events <- choiceEvent{i, ev}
				}
			}
		})
	}
	if failed != nil {
		running.Wait()
		return nil, failed
	}
	go func() { // ends with the last choice
		running.Wait()
		cancel()
		close(g.events)
	}()
	return g, nil
}

// promptLengths adds up the tokens of different prompts: the choices that answer one
// share its tokens.
func promptLengths(requests []*backend.Request) int {
	n := 0
	for i, r := range requests {
		if i == 0 || &r.Prompt[0] != &requests[i-1].Prompt[0] {
			n += len(r.Prompt)
		}
	}
	return n
}

// finish cancels what still runs and waits until the engine is through with it.
func (g *generation) finish() {
	g.cancel()
	for range g.events {
	}
}
