package oracle

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lorikeet/adapters"
	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/backend/enginetest"
)

// The embeddings of all prompts, with each pooling, of a base and an adapter.
func TestEmbeddings(t *testing.T) {
	for _, f := range load(t) {
		if f.Texts != nil {
			continue // the demo has no figures
		}
		t.Run(f.Model, func(t *testing.T) {
			if len(f.Embeddings) != 2 {
				t.Fatalf("%d variants", len(f.Embeddings))
			}
			base := baseFile(t, f.Model)
			for _, pooling := range []backend.Pooling{backend.PoolLast, backend.PoolMean} {
				e, manager := openTiny(t, f.Model, engine.Params{Path: base, Rank: 24, Threads: 1, Pooling: &pooling})
				for adapter, want := range f.Embeddings {
					lease, err := manager.Acquire(t.Context(), refs(adapter))
					if err != nil {
						t.Fatal(err)
					}
					for i, prompt := range f.Prompts {
						expected, unadapted := want[i].Last, f.Embeddings[""][i].Last
						if pooling == backend.PoolMean {
							expected, unadapted = want[i].Mean, f.Embeddings[""][i].Mean
						}
						r := &backend.Request{Embed: true, Logprobs: -1, Slot: lease.Slot, Version: lease.Key}
						for _, id := range prompt {
							r.Prompt = append(r.Prompt, backend.Token(id))
						}
						got := enginetest.Generate(t, e, r).Last.Embedding
						if d := distance(got, expected); !(d <= toleranceOf(t, f)) {
							t.Errorf("%q, prompt %d, pooling %d: off by %.5f of its length", adapter, i, pooling, d)
						}
						if d := distance(got, unadapted); adapter != "" && d < 0.1 {
							t.Errorf("%q, prompt %d: the adapter changes so little (%.4f) that the test shows nothing", adapter, i, d)
						}
					}
					lease.Release()
				}
			}
		})
	}
}

func refs(adapter string) []adapters.Ref {
	if adapter == "" {
		return nil
	}
	return []adapters.Ref{{Name: adapter, Scale: 1}}
}

// openTiny opens an engine and a manager of a tiny model's adapters.
func openTiny(t *testing.T, model string, p engine.Params) (backend.Engine, *adapters.Manager) {
	t.Helper()
	e, err := engine.New(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	catalog, err := adapters.NewCatalog(adapters.Sources{Folder: &adapters.Folder{FS: os.DirFS(filepath.Join("testdata", model, "adapters"))}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(catalog.Close)
	manager := adapters.NewManager(catalog, e, adapters.Options{LoadTimeout: time.Minute, UnloadTimeout: time.Minute, HostBytes: 64 << 20})
	t.Cleanup(manager.Close)
	return e, manager
}

// distance is how far a vector is from the expected one, in terms of its length.
func distance(got []float32, want []float64) float64 {
	if len(got) != len(want) {
		return math.NaN()
	}
	var off, length float64
	for i, w := range want {
		off += (float64(got[i]) - w) * (float64(got[i]) - w)
		length += w * w
	}
	return math.Sqrt(off / length)
}
