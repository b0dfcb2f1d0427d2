package oracle

import (
	"maps"
	"math"
	"slices"
	"sync"
	"testing"

	"lorikeet/backend"
	"lorikeet/tests/testserver"
)

// Requests of the base and of all adapters that share steps get the log-probabilities
// that each gets alone.
func TestMixedEqualsAlone(t *testing.T) {
	for _, f := range load(t) {
		t.Run(f.Model, func(t *testing.T) {
			s := serve(t, f)
			tolerance := toleranceOf(t, f)
			names := slices.Sorted(maps.Keys(f.Logprobs))
			scores := func(name string, i int) []float64 {
				request := testserver.JSON{"model": f.Model, "cache_prompt": false}
				if name != "" {
					request["model"] = f.Model + ":" + name
				}
				return score(t, s, request, f.Prompts[i])
			}
			alone := map[string][][]float64{}
			for _, name := range names {
				for i := range f.Prompts {
					alone[name] = append(alone[name], scores(name, i))
				}
			}
			before := s.Engine.Stats().Steps[backend.ModeMixed]
			worst := 0.0
			for round := 0; round < 20 && (round == 0 || s.Engine.Stats().Steps[backend.ModeMixed] == before); round++ {
				var mu sync.Mutex
				var wg sync.WaitGroup
				for _, name := range names {
					for i := range f.Prompts {
						wg.Go(func() {
							got := scores(name, i)
							mu.Lock()
							defer mu.Unlock()
							for j := range got {
								worst = max(worst, math.Abs(got[j]-alone[name][i][j]))
							}
						})
					}
				}
				wg.Wait()
			}
			t.Logf("largest difference %.5f", worst)
			if mixed := s.Engine.Stats().Steps[backend.ModeMixed] - before; mixed == 0 {
				t.Error("no step was mixed")
			}
			if !(worst <= tolerance) {
				t.Errorf("a log-probability differs by %.5f", worst)
			}
		})
	}
}
