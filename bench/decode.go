package bench

import (
	"context"
	"fmt"
	"os"

	"lorikeet/adapters"
	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/bench/synth"
)

var decode = Scenario{
	Name:  "decode",
	Shows: "1, 16 and 64 sequences that generate: of the base, with one adapter, with an adapter each",
	Named: true, // 64 sequences take a CPU minutes
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		folder, err := synth.Many(e.Folder, decodeMost)
		if err != nil {
			return nil, err
		}
		rig, err := e.Open(ctx, engine.Params{Context: 256, Sequences: decodeMost, Slots: decodeMost}, folder)
		if err != nil {
			return nil, err
		}
		defer rig.Close()
		leases, err := rig.leaseAll(ctx)
		if err != nil {
			return nil, err
		}
		var figures []Figure
		for _, n := range []int{1, 16, decodeMost} {
			f, err := e.decodeOf(ctx, rig, leases[:n])
			if err != nil {
				return nil, fmt.Errorf("%d sequences: %w", n, err)
			}
			figures = append(figures, f)
		}
		return figures, nil
	},
}

const decodeMost = 64 // sequences

// decodeOf measures as many sequences as there are adapters.
func (e *Env) decodeOf(ctx context.Context, rig *Rig, leases []*adapters.Lease) (Figure, error) {
	n := len(leases)
	answer := e.pick(96, 64)
	random := e.random("decode")
	kinds := []struct {
		series *series
		lease  func(i int) *adapters.Lease // nil: the base
	}{
		{&series{name: "an adapter each", unit: "tok/s"}, func(i int) *adapters.Lease { return leases[i] }},
		{&series{name: "one adapter", unit: "tok/s"}, func(int) *adapters.Lease { return leases[0] }},
		{&series{name: "base", unit: "tok/s"}, nil},
	}
	var turns []func(int) error
	for _, k := range kinds {
		turns = append(turns, func(int) error {
			var requests []*backend.Request
			for i := range n {
				r := e.request(random, 4, answer) // short: the last of 64 begins before the first ends
				if k.lease != nil {
					use(r, k.lease(i))
				}
				requests = append(requests, r)
			}
			_, steps, err := rig.together(ctx, requests)
			k.series.add(steps * float64(n))
			return err
		})
	}
	if err := inTurns(e.pick(5, 2), turns...); err != nil {
		return Figure{}, err
	}
	parts := []Part{kinds[2].series.part()}
	// Each step of the base reads all of its weights, but for the embeddings.
	if st, err := os.Stat(e.Base); err == nil && e.bandwidth > 0 {
		read := float64(st.Size()) - float64(2*e.Config.Hidden*e.Config.Vocabulary)
		steps := kinds[2].series.part().Value / float64(n)
		parts = append(parts, Part{"weights read by the base, of the memory's bandwidth", 100 * read * steps / (e.bandwidth * 1e9), "%"})
	}
	name := fmt.Sprintf("%d sequences: an adapter each ÷ one adapter", n)
	return ratio(name, kinds[0].series, kinds[1].series, parts...).atLeast(0.85), nil
}
