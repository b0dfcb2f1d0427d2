package server

import (
	"context"
	"sync"

	"lorikeet/adapters"
	"lorikeet/api"
	"lorikeet/backend"
)

// target is what a request's model name stands for, held for as long as the
// request lasts.
type target struct {
	base  *adapters.Base
	lease *adapters.Lease // nil for the base itself
}

// resolve finds the model and takes a lease on its adapter.
func (s *Server) resolve(ctx context.Context, model string, loras []api.LoRA) (*target, *api.Error) {
	base, adapter, ok := s.opts.Registry.Resolve(model)
	if !ok {
		return nil, api.ModelNotFound(model)
	}
	scale := float32(1)
	for _, l := range loras {
		if adapter != "" && adapter != l.Name {
			return nil, api.Invalid("lora", "invalid_value", "Invalid 'lora': the model already names an adapter; name the same one, or the base.")
		}
		if !base.Adapters.Has(l.Name) {
			return nil, api.Invalid("lora", "adapter_not_found", "Invalid 'lora': the base %q has no adapter of that name.", base.Name)
		}
		adapter, scale = l.Name, l.Scale
	}
	t := &target{base: base}
	if adapter != "" {
		lease, err := base.Adapters.Acquire(ctx, adapter, scale)
		if err != nil {
			return nil, apiError(err, model)
		}
		t.lease = lease
	}
	return t, nil
}

func (t *target) release() {
	if t.lease != nil {
		t.lease.Release()
	}
}

func (t *target) slot() int {
	if t.lease == nil {
		return 0
	}
	return t.lease.Slot
}

// fingerprint identifies the weights that answer.
func (t *target) fingerprint() string {
	fp := "fp_" + t.base.Engine.Info().Fingerprint
	if t.lease != nil {
		fp += "_" + adapters.Short(t.lease.Version)
	}
	return fp
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
// after cancel: only then may the lease be released.
func generate(ctx context.Context, e backend.Engine, requests []*backend.Request) (*generation, error) {
	ctx, cancel := context.WithCancel(ctx)
	g := &generation{events: make(chan choiceEvent), cancel: cancel}
	var channels []<-chan backend.Event
	var failed error
	for _, r := range requests {
		c, err := e.Submit(ctx, r)
		if err != nil {
			failed = err
			cancel()
			break
		}
		channels = append(channels, c)
	}
	var running sync.WaitGroup
	for i, c := range channels {
		running.Go(func() {
			for ev := range c {
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

// finish cancels what still runs and waits until the engine is through with it.
func (g *generation) finish() {
	g.cancel()
	for range g.events {
	}
}
