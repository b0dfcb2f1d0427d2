package llama_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/enginetest"
	"lorikeet/backend/llama"
	"lorikeet/bench/synth"
)

const (
	steps   = 128
	targets = "attn_q,attn_k,attn_v,attn_output,ffn_gate,ffn_up,ffn_down"
)

// open makes a context of a tiny F32 model; slots 1, 2 and 3 hold different images.
func open(t *testing.T, model string) *llama.Context {
	t.Helper()
	return openWith(t, model, llama.ContextParams{Threads: 1, Flash: llama.FlashOn})
}

// openWith takes threads, attention and types from p.
func openWith(t *testing.T, model string, p llama.ContextParams) *llama.Context {
	t.Helper()
	runtime.LockOSThread() // until the test's goroutine ends
	path := filepath.Join("../../tests/oracle/testdata", model, "base.gguf")
	if filepath.IsAbs(model) {
		path = model
	}
	m, err := llama.LoadModel(path, llama.ModelParams{})
	if err != nil {
		t.Fatal(err)
	}
	p.CacheTokens, p.StepTokens, p.Sequences = 1024, steps, 8
	p.Pool.Slots, p.Pool.Rank, p.Pool.Targets = 4, 8, strings.Split(targets, ",")
	c, err := m.NewContext(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		m.Close()
	})
	for slot := 1; slot < 4; slot++ {
		image := enginetest.Image(c.Pool(), uint32(slot))
		for i, w := range c.Pool().Weights {
			n := c.Pool().ImageBytes(w)
			if err := c.SetSlotWeight(i, slot, image[:n]); err != nil {
				t.Fatal(err)
			}
			image = image[n:]
		}
	}
	return c
}

// token is the one that the tests feed at a position of a sequence.
func token(seq, pos int) backend.Token { return backend.Token(3 + (seq*31+pos*7)%200) }

// part is what one sequence gets of a step.
type part struct {
	seq, slot, from, to int
}

// step computes parts as one step and returns the log-probability of token 5 after
// the last token of each.
func step(t *testing.T, c *llama.Context, mode backend.Mode, parts ...part) []float32 {
	t.Helper()
	c.Clear()
	var outputs []int
	for _, p := range parts {
		for pos := p.from; pos < p.to; pos++ {
			i := c.Add(token(p.seq, pos), pos, p.seq, p.slot, pos == p.to-1)
			if pos == p.to-1 {
				outputs = append(outputs, i)
			}
		}
	}
	if err := c.Decode(mode); err != nil {
		t.Fatal(err)
	}
	out := make([]float32, len(outputs))
	for i, o := range outputs {
		out[i], _ = c.Row(o).Logprobs(5, 0)
	}
	return out
}

// alone computes what step gives for one part in a cache of its own.
func alone(t *testing.T, c *llama.Context, p part) float32 {
	t.Helper()
	mode := backend.ModeUniform
	if p.slot == 0 {
		mode = backend.ModeNone
	}
	const seq = 7
	c.Clear()
	at := 0
	for pos := range p.to {
		at = c.Add(token(p.seq, pos), pos, seq, p.slot, pos == p.to-1)
	}
	if err := c.Decode(mode); err != nil {
		t.Fatal(err)
	}
	lp, _ := c.Row(at).Logprobs(5, 0)
	c.Forget(seq)
	return lp
}

func near(a, b float32) bool { return math.Abs(float64(a-b)) < 1e-3 }

// llama.cpp takes a graph for reusable although the adapter was switched, if the
// shape of the step is the same.
func TestSwitchBetweenStepsOfOneShape(t *testing.T) {
	c := open(t, "mqa")
	for slot := 1; slot <= 2; slot++ {
		step(t, c, backend.ModeUniform, part{slot, slot, 0, 4})
	}
	var got [3][]float32
	for pos := 4; pos < 8; pos++ {
		for slot := 1; slot <= 2; slot++ {
			got[slot] = append(got[slot], step(t, c, backend.ModeUniform, part{slot, slot, pos, pos + 1})...)
		}
	}
	for slot := 1; slot <= 2; slot++ {
		for i, lp := range got[slot] {
			if want := alone(t, c, part{slot, slot, 0, 5 + i}); !near(lp, want) {
				t.Errorf("slot %d, position %d: %v, alone %v", slot, 4+i, lp, want)
			}
		}
	}
}

// The mode changes between steps of one shape: none, uniform, mixed, none.
func TestSwitchOfModes(t *testing.T) {
	c := open(t, "mqa")
	want := map[int]float32{}
	for slot := range 4 {
		want[slot] = alone(t, c, part{slot, slot, 0, 6})
	}
	if near(want[0], want[1]) || near(want[1], want[2]) {
		t.Fatalf("slots make no difference: %v", want)
	}
	check := func(mode backend.Mode, slots ...int) {
		t.Helper()
		var parts []part
		for _, slot := range slots {
			c.Forget(slot) // a sequence each, by the number of its slot
			parts = append(parts, part{slot, slot, 0, 6})
		}
		for i, lp := range step(t, c, mode, parts...) {
			if !near(lp, want[slots[i]]) {
				t.Errorf("%s %v: slot %d gives %v, alone %v", mode, slots, slots[i], lp, want[slots[i]])
			}
		}
	}
	check(backend.ModeNone, 0)
	check(backend.ModeUniform, 1)
	check(backend.ModeUniform, 2)
	check(backend.ModeNone, 0)
	check(backend.ModeMixed, 0, 1)
	check(backend.ModeMixed, 3, 2)
	check(backend.ModeMixed, 1, 0)
	check(backend.ModeNone, 0)
	check(backend.ModeMixed, 2, 0, 3, 1)
}

// In a mixed step every token finds its own slot, whatever the lengths; on the last
// layer only the rows that are read remain.
func TestMixedStepOfUnevenParts(t *testing.T) {
	f16 := llama.ContextParams{Threads: 1, Flash: llama.FlashOff, KeyType: backend.F16, ValueType: backend.F16}
	f16.Pool.Type = backend.F16
	for _, tt := range []struct {
		model string
		p     llama.ContextParams
		noise float64 // of kernels that differ with the shape of a step
	}{
		{"mqa", llama.ContextParams{Threads: 1, Flash: llama.FlashOn}, 1e-3},
		{"deep-mha", llama.ContextParams{Threads: 1, Flash: llama.FlashOn}, 1e-3},
		{"gqa-untied", llama.ContextParams{Threads: 1, Flash: llama.FlashOff}, 1e-3},
		{"gqa-untied", llama.ContextParams{Threads: 3, Flash: llama.FlashOn}, 1e-3},
		{"gqa-untied", f16, 0.1},
	} {
		near := func(a, b float32) bool { return math.Abs(float64(a-b)) < tt.noise }
		t.Run(fmt.Sprintf("%s, %d threads, flash %d, %s", tt.model, tt.p.Threads, tt.p.Flash, tt.p.Pool.Type), func(t *testing.T) {
			c := openWith(t, tt.model, tt.p)
			parts := []part{{0, 2, 0, 1}, {1, 0, 0, 40}, {2, 1, 0, 7}, {3, 2, 0, 13}, {4, 3, 0, 1}}
			got := step(t, c, backend.ModeMixed, parts...)
			for i, p := range parts {
				if want := alone(t, c, p); !near(got[i], want) {
					t.Errorf("%+v: %v, alone %v", p, got[i], want)
				}
			}
			// One more token each: all of the step's rows are read.
			for i := range parts {
				parts[i].from, parts[i].to = parts[i].to, parts[i].to+1
			}
			got = step(t, c, backend.ModeMixed, parts...)
			for i, p := range parts {
				if want := alone(t, c, p); !near(got[i], want) {
					t.Errorf("%+v: %v, alone %v", p, got[i], want)
				}
			}
		})
	}
}

// An empty slot is the base, in each mode.
func TestSlotZeroIsTheBase(t *testing.T) {
	c := open(t, "mqa")
	want := alone(t, c, part{0, 0, 0, 9})
	if got := step(t, c, backend.ModeMixed, part{0, 0, 0, 9}, part{1, 3, 0, 2}); !near(got[0], want) {
		t.Errorf("mixed: %v, base %v", got[0], want)
	}
}

// Weights that were repacked for the CPU lie in a buffer where an adapter's can't.
func TestQuantizedBase(t *testing.T) {
	config := synth.Config{Hidden: 256, Layers: 2, Heads: 4, KVHeads: 2, FeedForward: 512, Vocabulary: 1000, Context: 512, Seed: 1}
	for _, config.Type = range []synth.Type{synth.Q8_0, synth.Q4_0} {
		path, err := synth.Base(t.TempDir(), config)
		if err != nil {
			t.Fatal(err)
		}
		p := llama.ContextParams{Threads: 1, Flash: llama.FlashOn, KeyType: backend.F16, ValueType: backend.F16}
		p.Pool.Type = backend.F16
		c := openWith(t, path, p)
		parts := []part{{0, 2, 0, 1}, {1, 0, 0, 40}, {2, 1, 0, 7}, {3, 3, 0, 13}}
		got := step(t, c, backend.ModeMixed, parts...)
		for i, p := range parts {
			base := p
			base.slot = 0
			want, without := alone(t, c, p), alone(t, c, base)
			// Activations are quantized: the same token in a step of another shape differs by about a hundredth.
			if d := math.Abs(float64(got[i] - want)); d > 0.2 || p.slot != 0 && math.Abs(float64(got[i]-without)) < 5*d {
				t.Errorf("type %d, %+v: %v, alone %v, without adapter %v", config.Type, p, got[i], want, without)
			}
		}
	}
}

func TestCacheFull(t *testing.T) {
	c := open(t, "mqa")
	for seq := range 7 {
		step(t, c, backend.ModeNone, part{seq, 0, 0, 120})
		step(t, c, backend.ModeNone, part{seq, 0, 120, 140})
	}
	c.Clear()
	for pos := 140; pos < 140+steps; pos++ {
		c.Add(token(0, pos), pos, 0, 0, false)
	}
	if err := c.Decode(backend.ModeNone); !errors.Is(err, llama.ErrCacheFull) {
		t.Fatalf("got %v", err)
	}
	// The sequence is as it was: it goes on when there is room.
	for seq := 1; seq < 7; seq++ {
		c.Forget(seq)
	}
	got := step(t, c, backend.ModeNone, part{0, 0, 140, 141})[0]
	c.ForgetAll(false)
	step(t, c, backend.ModeNone, part{0, 0, 0, 100})
	if want := step(t, c, backend.ModeNone, part{0, 0, 100, 141})[0]; !near(got, want) {
		t.Errorf("after a full cache: %v, afresh %v", got, want)
	}
}

func TestLoadFailures(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.gguf")
	if err := os.WriteFile(garbage, []byte("this is no GGUF file at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile("../../demo/parrot.gguf")
	if err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(dir, "short.gguf")
	if err := os.WriteFile(short, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{garbage, short, filepath.Join(dir, "missing.gguf")} {
		var failed *llama.Error
		if m, err := llama.LoadModel(path, llama.ModelParams{}); m != nil || !errors.As(err, &failed) || failed.Reason == "" {
			t.Errorf("%s: %v", filepath.Base(path), err)
		} else {
			t.Log(err)
		}
	}
}
