package bench

import (
	"context"

	"lorikeet/backend"
	"lorikeet/backend/engine"
)

var sampling = Scenario{
	Name:  "sampling",
	Shows: "16 sequences that sample (temperature 0.8, top_k 40, top_p 0.95), against greedy ones",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		rig, err := e.Open(ctx, engine.Params{}, nil)
		if err != nil {
			return nil, err
		}
		defer rig.Close()
		answer := e.pick(96, 48)
		random := e.random("sampling")
		sampled, greedy := &series{name: "sampled", unit: "steps/s"}, &series{name: "greedy", unit: "steps/s"}
		run := func(into *series, s backend.Sampling) func(int) error {
			return func(int) error {
				var requests []*backend.Request
				for i := range sequences {
					r := e.request(random, 16, answer)
					r.Sampling = s
					r.Sampling.Seed = uint32(i)
					requests = append(requests, r)
				}
				_, n, err := rig.together(ctx, requests)
				into.add(n)
				return err
			}
		}
		err = inTurns(e.pick(9, 3), run(sampled, backend.Sampling{Temperature: 0.8, TopK: 40, TopP: 0.95}), run(greedy, backend.Sampling{}))
		if err != nil {
			return nil, err
		}
		return []Figure{ratio("sampled ÷ greedy", sampled, greedy).atLeast(0.97)}, nil
	},
}
