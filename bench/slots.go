package bench

import (
	"context"
	"fmt"
	"math/rand/v2"

	"lorikeet/backend/engine"
	"lorikeet/bench/synth"
)

const (
	fewSlots    = 8
	overbooked  = 4 * fewSlots // adapters in use
	slotClients = sequences
)

var slots = Scenario{
	Name:  "slots",
	Shows: "time to the first token with 32 adapters in use on 8 slots, against 8 adapters; 16 clients, every adapter equally likely",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		var traffics []*traffic
		for _, n := range []int{overbooked, fewSlots} {
			folder, err := synth.Many(e.Folder, n)
			if err != nil {
				return nil, err
			}
			rig, err := e.Open(ctx, engine.Params{Slots: fewSlots}, folder)
			if err != nil {
				return nil, err
			}
			defer rig.Close()
			evenly := func(random *rand.Rand) int { return random.IntN(n) }
			t, err := newTraffic(ctx, "slots", rig, e, slotClients, e.pick(96, 48), evenly)
			if err != nil {
				return nil, err
			}
			traffics = append(traffics, t)
		}
		type side struct{ middle, p99, rate, running, loads *series }
		measure := func(t *traffic, s side) func(int) error {
			return func(int) error {
				r, err := t.run(ctx)
				s.middle.add(percentile(r.waits, 0.5))
				s.p99.add(percentile(r.waits, 0.99))
				s.rate.add(r.tokensPerSecond)
				s.running.add(r.generating)
				s.loads.add(r.loadsPerSecond)
				return err
			}
		}
		newSide := func(adapters int) side {
			named := func(what, unit string) *series {
				return &series{name: fmt.Sprintf("%d adapters: %s", adapters, what), unit: unit}
			}
			return side{named("p50", "ms"), named("p99", "ms"), named("throughput", "tok/s"), named("sequences generating", ""), named("loads", "/s")}
		}
		many, few := newSide(overbooked), newSide(fewSlots)
		if err := inTurns(e.pick(3, 1), measure(traffics[0], many), measure(traffics[1], few)); err != nil {
			return nil, err
		}
		return []Figure{ratio("p50 first token, 32 adapters ÷ 8 adapters", many.middle, few.middle,
			many.p99.part(), few.p99.part(), many.rate.part(), few.rate.part(), many.running.part(), few.running.part(), many.loads.part()).atMost(3)}, nil
	},
}
