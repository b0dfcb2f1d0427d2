package engine_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/backend/enginetest"
)

func embed(t *testing.T, e backend.Engine, prompt []backend.Token) backend.Event {
	t.Helper()
	a := enginetest.Generate(t, e, &backend.Request{Prompt: prompt, Embed: true, Logprobs: -1})
	if a.Last.Err != nil {
		t.Fatal(a.Last.Err)
	}
	return a.Last
}

// The mean is that of what each beginning of the prompt gives as its last, also if the
// prompt is computed in pieces and the cache has its beginning.
func TestPooling(t *testing.T) {
	last, mean := backend.PoolLast, backend.PoolMean
	whole := prompt(3, 30)
	want := make([]float64, 0)
	ends := open(t, engine.Params{Path: tinyModel, Pooling: &last})
	for n := 1; n <= len(whole); n++ {
		ev := embed(t, ends, whole[:n])
		if ev.Cached != n-1 {
			t.Fatalf("%d of %d tokens are from the cache", ev.Cached, n)
		}
		for i, v := range ev.Embedding {
			if n == 1 {
				want = append(want, 0)
			}
			want[i] += float64(v) / float64(len(whole))
		}
	}
	e := open(t, engine.Params{Path: tinyModel, Pooling: &mean, StepTokens: 7, Sequences: 4})
	for range 2 {
		ev := embed(t, e, whole)
		if ev.Cached != 0 {
			t.Errorf("%d tokens are from the cache: theirs are missing in the mean", ev.Cached)
		}
		for i, v := range ev.Embedding {
			if !near(v, float32(want[i])) {
				t.Fatalf("the mean is %v, want %v", ev.Embedding, want)
			}
		}
	}
}

// The base's file may say how its embeddings are made.
func TestPoolingOfTheFile(t *testing.T) {
	file, err := os.ReadFile(tinyModel)
	if err != nil {
		t.Fatal(err)
	}
	if p := open(t, engine.Params{Path: tinyModel}).Info().Pooling; p != backend.PoolLast {
		t.Errorf("pooling %d of a file that says nothing", p)
	}
	// Two keys more, behind the header; the second makes them a multiple of 32 bytes, to
	// which tensors are aligned.
	const header, kvs, uint32Type, stringType = 24, 16, 4, 8
	le := binary.LittleEndian
	var more []byte
	key := func(name string, typ uint32) {
		more = append(le.AppendUint64(more, uint64(len(name))), name...)
		more = le.AppendUint32(more, typ)
	}
	key("llama.pooling_type", uint32Type)
	more = le.AppendUint32(more, 1)
	key("x", stringType)
	more = append(le.AppendUint64(more, 9), "123456789"...)
	le.PutUint64(file[kvs:], le.Uint64(file[kvs:])+2)
	path := filepath.Join(t.TempDir(), "mean.gguf")
	if err := os.WriteFile(path, slices.Insert(file, header, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := open(t, engine.Params{Path: path}).Info().Pooling; p != backend.PoolMean {
		t.Errorf("pooling %d of a file that says mean", p)
	}
	last := backend.PoolLast
	if p := open(t, engine.Params{Path: path, Pooling: &last}).Info().Pooling; p != last {
		t.Errorf("pooling %d where the parameter says the last", p)
	}
}

// Sequences that generate beside embeddings answer as they do alone, to the bit of
// their choice, and steps without embeddings before and after do so too.
func TestEmbedBesideGeneration(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel})
	r := long(t, e)
	r.Logprobs, r.NoCache = 0, true
	want := enginetest.Generate(t, e, r)
	alone := embed(t, e, prompt(8, 40)).Embedding
	events, err := e.Submit(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		got := enginetest.Generate(t, e, &backend.Request{Prompt: prompt(8, 40), Embed: true, Logprobs: -1, NoCache: true}).Last.Embedding
		if !slices.EqualFunc(got, alone, near) {
			t.Errorf("beside another: %v, alone %v", got, alone)
		}
	}
	compare(t, 0, enginetest.Collect(t, events), want)
}

// An adapter of the largest finite weights ends its own embedding only.
func TestEmbeddingNotFinite(t *testing.T) {
	e := open(t, engine.Params{Path: demoModel})
	image := make([]byte, e.Info().Pool.ImageSize())
	for i := range image {
		image[i] = []byte{0xff, 0x7b}[i%2]
	}
	if err := e.FillSlot(t.Context(), 1, image); err != nil {
		t.Fatal(err)
	}
	a := enginetest.Generate(t, e, &backend.Request{Prompt: prompt(1, 9), Embed: true, Logprobs: -1, Slot: 1})
	if !errors.Is(a.Last.Err, backend.ErrDecode) || a.Last.Embedding != nil {
		t.Errorf("ends with %+v", a.Last)
	}
	embed(t, e, prompt(1, 9))
}
