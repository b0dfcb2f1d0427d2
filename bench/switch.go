package bench

import (
	"context"
	"fmt"
	"time"

	"lorikeet/backend"
	"lorikeet/backend/engine"
)

var switching = Scenario{
	Name:  "switch",
	Shows: "one sequence, whose adapter is another one in each request, against always the same one; all are resident",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		rig, err := e.Open(ctx, engine.Params{}, e.Folder)
		if err != nil {
			return nil, err
		}
		defer rig.Close()
		if _, err := rig.leaseAll(ctx); err != nil {
			return nil, err
		}
		var figures []Figure
		for _, tokens := range []int{1, 16} {
			f, err := e.compareSwitching(ctx, rig, tokens)
			if err != nil {
				return nil, err
			}
			figures = append(figures, f.atLeast(0.97))
		}
		return figures, nil
	},
}

// compareSwitching measures requests of so many steps each. Prompts have one token, so
// that the first step is like the others.
func (e *Env) compareSwitching(ctx context.Context, rig *Rig, tokens int) (Figure, error) {
	names := rig.Manager.Names()
	random := e.random(fmt.Sprint("switch ", tokens))
	prompts := make([][]backend.Token, max(8, e.pick(96, 48)/tokens)) // the same for both
	for i := range prompts {
		prompts[i] = e.prompt(random, 1)
	}
	run := func(into *series, adapters int) func(int) error {
		return func(round int) error {
			before, start := rig.Engine.Stats().Steps, time.Now()
			for i, prompt := range prompts {
				lease, err := rig.acquire(ctx, names[(round+i)%len(names)%adapters])
				if err != nil {
					return err
				}
				_, err = rig.ask(ctx, use(&backend.Request{Prompt: prompt, MaxTokens: tokens, Logprobs: -1, NoCache: true}, lease))
				lease.Release()
				if err != nil {
					return err
				}
			}
			took, steps := time.Since(start), rig.Engine.Stats().Steps
			if n := steps[backend.ModeUniform] - before[backend.ModeUniform]; n != uint64(len(prompts)*tokens) {
				return fmt.Errorf("%d steps for %d requests of %d", n, len(prompts), tokens)
			}
			into.add(float64(len(prompts)*tokens) / took.Seconds())
			return nil
		}
	}
	other, same := &series{name: "another", unit: "steps/s"}, &series{name: "the same", unit: "steps/s"}
	if err := inTurns(e.pick(7, 3), run(other, len(names)), run(same, 1)); err != nil {
		return Figure{}, err
	}
	name := "another adapter in each step ÷ the same"
	if tokens > 1 {
		name = fmt.Sprintf("another adapter every %d steps ÷ the same", tokens)
	}
	return ratio(name, other, same), nil
}
