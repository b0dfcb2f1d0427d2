package bench

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"lorikeet/backend/engine"
	"lorikeet/bench/synth"
)

const (
	zipfExponent = 1.0
	registered   = 1000
	zipfClients  = 2 * sequences
)

var zipf = Scenario{
	Name:  "zipf",
	Shows: "1000 adapters over 16 slots under Zipf traffic (s = 1, 32 clients), against 16 adapters",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		var traffics []*traffic
		for _, n := range []int{registered, sequences} {
			folder, err := synth.Many(e.Folder, n)
			if err != nil {
				return nil, err
			}
			rig, err := e.Open(ctx, engine.Params{}, folder)
			if err != nil {
				return nil, err
			}
			defer rig.Close()
			choice := newZipf(n, zipfExponent)
			t, err := newTraffic(ctx, "zipf", rig, e, zipfClients, e.pick(160, 96), choice.draw)
			if err != nil {
				return nil, err
			}
			traffics = append(traffics, t)
		}
		many, few := traffics[0], traffics[1]
		manyRate, fewRate := &series{name: "1000 adapters", unit: "tok/s"}, &series{name: "16 adapters", unit: "tok/s"}
		loads, hits := &series{name: "loads", unit: "/s"}, &series{name: "requests without a load", unit: "%"}
		manyRunning, fewRunning := &series{name: "sequences generating"}, &series{name: "with 16"}
		err := inTurns(e.pick(3, 1), func(int) error {
			r, err := many.run(ctx)
			manyRate.add(r.tokensPerSecond)
			loads.add(r.loadsPerSecond)
			hits.add(100 * r.hits)
			manyRunning.add(r.generating)
			return err
		}, func(int) error {
			r, err := few.run(ctx)
			fewRate.add(r.tokensPerSecond)
			fewRunning.add(r.generating)
			return err
		})
		if err != nil {
			return nil, err
		}
		return []Figure{
			ratio("1000 adapters ÷ 16 adapters", manyRate, fewRate, manyRunning.part(), fewRunning.part(), loads.part(), hits.part(),
				Part{"adapters asked for", float64(many.touched), ""}).atLeast(0.9),
		}, nil
	},
}

// zipfChoice draws from n things, the k-th of which is asked for 1/k^s as often as the
// first.
type zipfChoice struct{ upTo []float64 } // cumulative

func newZipf(n int, s float64) *zipfChoice {
	z := &zipfChoice{make([]float64, n)}
	sum := 0.0
	for k := range z.upTo {
		sum += math.Pow(float64(k+1), -s)
		z.upTo[k] = sum
	}
	return z
}

func (z *zipfChoice) draw(random *rand.Rand) int {
	i, _ := slices.BinarySearch(z.upTo, random.Float64()*z.upTo[len(z.upTo)-1])
	return min(i, len(z.upTo)-1)
}
