// Package oracle compares Lorikeet, through HTTP, with the log-probabilities that
// transformers + peft give (oracle.py computed them).
package oracle

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lorikeet/backend/engine"
	"lorikeet/tests/testserver"
)

// Tolerances on each log-probability. With weights in F16, llama.cpp rounds the
// activations to F16 too.
const (
	toleranceF16 = 0.02
	toleranceF32 = 0.001
)

type figures struct {
	Model    string
	Texts    []string
	Prompts  [][]int
	Logprobs map[string][][]float64 // by adapter, "" is the base
}

func load(t *testing.T) []figures {
	t.Helper()
	data, err := os.ReadFile("testdata/figures.json")
	if err != nil {
		t.Fatal(err)
	}
	var out []figures
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func serve(t *testing.T, f figures) *testserver.Server {
	t.Helper()
	if f.Texts != nil {
		return testserver.Demo(t, engine.Params{})
	}
	dir := filepath.Join("testdata", f.Model)
	targets := engine.DefaultTargets
	if f.Model == "gqa-untied" {
		targets = append(slices.Clone(targets), "output")
	}
	return testserver.Start(t, f.Model, engine.Params{Path: filepath.Join(dir, "base.gguf"), Targets: targets}, os.DirFS(filepath.Join(dir, "adapters")))
}

func TestLogprobs(t *testing.T) {
	for _, f := range load(t) {
		t.Run(f.Model, func(t *testing.T) {
			s := serve(t, f)
			tolerance := toleranceF32
			if f.Texts != nil {
				tolerance = toleranceF16
			}
			for adapter, want := range f.Logprobs {
				name := f.Model
				if adapter != "" {
					name += ":" + adapter
				}
				worst, off := 0.0, 0.0
				for i, p := range f.Prompts {
					got := score(t, s, name, p)
					base := f.Logprobs[""][i]
					if len(got) != len(want[i]) {
						t.Fatalf("%s: prompt %d: %d tokens scored, want %d", name, i, len(got), len(want[i]))
					}
					for j := range got {
						worst = max(worst, math.Abs(got[j]-want[i][j]))
						off = max(off, math.Abs(base[j]-want[i][j]))
					}
				}
				t.Logf("%-26s largest difference %.5f (the adapter changes up to %.2f)", name, worst, off)
				if !(worst <= tolerance) {
					t.Errorf("%s: a log-probability differs by %.5f", name, worst)
				}
				if adapter != "" && off < 10*toleranceF16 {
					t.Errorf("%s: the adapter changes so little (%.4f) that the test shows nothing", name, off)
				}
			}
		})
	}
}

// score returns the log-probabilities of a prompt's tokens but the first, the way
// evaluation harnesses ask for them.
func score(t *testing.T, s *testserver.Server, model string, prompt []int) []float64 {
	t.Helper()
	c := s.Complete(testserver.JSON{"model": model, "prompt": [][]int{prompt}, "max_tokens": 1, "echo": true, "logprobs": 1, "temperature": 0})
	lp := c.Choices[0].Logprobs.TokenLogprobs
	if len(lp) != len(prompt)+1 || lp[0] != nil {
		t.Fatalf("%d entries for %d tokens and one generated, first %v", len(lp), len(prompt), lp[0])
	}
	var out []float64
	for _, p := range lp[1:len(prompt)] {
		out = append(out, *p)
	}
	return out
}

// The tokenizer agrees with transformers', special tokens included.
func TestTokens(t *testing.T) {
	for _, f := range load(t) {
		if f.Texts == nil {
			continue
		}
		s := serve(t, f)
		for i, text := range f.Texts {
			got, err := s.Engine.Tokenize(text, true)
			if err != nil {
				t.Fatal(err)
			}
			var ids []int
			for _, id := range got {
				ids = append(ids, int(id))
			}
			if !slices.Equal(ids, f.Prompts[i]) {
				t.Errorf("%q: tokens %v, want %v", text, ids, f.Prompts[i])
			}
		}
	}
}
