package bench

import (
	"context"

	"lorikeet/backend"
	"lorikeet/backend/engine"
)

var mixed = Scenario{
	Name:  "mixed",
	Shows: "16 sequences with 16 adapters in one step, against one adapter, and against one after the other",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		rig, err := e.Open(ctx, engine.Params{}, e.Folder)
		if err != nil {
			return nil, err
		}
		defer rig.Close()
		leases, err := rig.leaseAll(ctx)
		if err != nil {
			return nil, err
		}
		answer := e.pick(64, 48)
		random := e.random("mixed")
		requests := func(adapters int) []*backend.Request {
			var all []*backend.Request
			for i := range sequences {
				all = append(all, use(e.request(random, 16, answer), leases[i%adapters]))
			}
			return all
		}
		many, one := &series{name: "16 adapters", unit: "tok/s"}, &series{name: "1 adapter", unit: "tok/s"}
		manySteps, oneSteps := &series{name: "decoding alone: 16 adapters", unit: "steps/s"}, &series{name: "1 adapter", unit: "steps/s"}
		together := func(adapters int, tokens, steps *series) func(int) error {
			return func(int) error {
				w, n, err := rig.together(ctx, requests(adapters))
				if err != nil {
					return err
				}
				tokens.add(w.rate())
				steps.add(n)
				return nil
			}
		}
		if err := inTurns(e.pick(7, 2), together(sequences, many, manySteps), together(1, one, oneSteps)); err != nil {
			return nil, err
		}
		again, alone := &series{name: "16 at once", unit: "tok/s"}, &series{name: "one after the other", unit: "tok/s"}
		err = inTurns(e.pick(3, 1), together(sequences, again, &series{}), func(int) error {
			var seconds float64
			for _, r := range requests(sequences) {
				w, err := rig.wave(ctx, []*backend.Request{r})
				if err != nil {
					return err
				}
				seconds += w.end.Sub(w.start).Seconds()
			}
			alone.add(float64(sequences*answer) / seconds)
			return nil
		})
		if err != nil {
			return nil, err
		}
		return []Figure{
			ratio("16 adapters ÷ 1 adapter", many, one, manySteps.part(), oneSteps.part()).atLeast(0.85),
			ratio("16 adapters ÷ one after the other", again, alone).atLeast(4),
		}, nil
	},
}
