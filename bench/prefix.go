package bench

import (
	"context"
	"fmt"

	"lorikeet/backend"
	"lorikeet/backend/engine"
)

var prefix = Scenario{
	Name:  "prefix",
	Shows: "time to the first token of a second turn, against the first one of 2000 tokens; same adapter",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		rig, err := e.Open(ctx, engine.Params{Context: 4096, CacheTokens: 4 * 4096}, e.Folder)
		if err != nil {
			return nil, err
		}
		defer rig.Close()
		lease, err := rig.lease(ctx, rig.Manager.Names()[0])
		if err != nil {
			return nil, err
		}
		const newTokens = 20
		random := e.random("prefix")
		first, second := &series{name: "first turn", unit: "ms"}, &series{name: "second turn", unit: "ms"}
		cached := &series{name: "tokens from the cache in the second turn", unit: "%"}
		for range e.pick(5, 2) {
			ask := func(prompt []backend.Token, into *series) (*answer, error) {
				a, err := rig.ask(ctx, use(&backend.Request{Prompt: prompt, MaxTokens: 24}, lease))
				if err == nil {
					into.add(milliseconds(a.wait()))
				}
				return a, err
			}
			prompt := e.prompt(random, e.pick(2000, 600))
			a, err := ask(prompt, first)
			if err != nil {
				return nil, err
			}
			prompt = append(append(prompt, a.tokens...), e.prompt(random, newTokens)...)
			if a, err = ask(prompt, second); err != nil {
				return nil, err
			}
			cached.add(100 * float64(a.cached) / float64(len(prompt)))
		}
		name := fmt.Sprintf("second turn ÷ first of %d tokens", e.pick(2000, 600))
		return []Figure{ratio(name, second, first, cached.part()).atMost(0.1)}, nil
	},
}
