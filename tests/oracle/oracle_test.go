// Package oracle compares Lorikeet, through HTTP, with the log-probabilities that
// transformers + peft give (oracle.py computed them).
package oracle

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lorikeet/backend/engine"
	"lorikeet/convert"
	"lorikeet/tests/testserver"
)

// Tolerances on each log-probability. With weights in F16, llama.cpp rounds the
// activations to F16 too; and so it does, on the CPU, for the GELU of gemma's: with a GELU
// that rounds alike, transformers came within 0.005 of all figures.
const (
	toleranceF16 = 0.02
	toleranceF32 = 0.001
)

// toleranceOf is a model's, or that of LORIKEET_TEST_TOLERANCE: GPUs round otherwise.
func toleranceOf(t *testing.T, f figures) float64 {
	t.Helper()
	if s := os.Getenv("LORIKEET_TEST_TOLERANCE"); s != "" {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if f.Texts != nil || strings.HasPrefix(f.Model, "gemma") {
		return toleranceF16
	}
	return toleranceF32
}

// figures are those of a model, in its folder under testdata.
type figures struct {
	Model    string
	Texts    []string
	Prompts  [][]int
	Logprobs map[string][][]float64 // by adapter, "" is the base
	Together *struct {
		Scales   map[string]float64 // of adapters that one request asks for
		Logprobs [][]float64
	}
	// Embeddings are by adapter, as Logprobs, of the base and one adapter.
	Embeddings map[string][]struct{ Last, Mean []float64 }
}

func load(t *testing.T) []figures {
	t.Helper()
	files, err := filepath.Glob("testdata/*/figures.json")
	if err != nil {
		t.Fatal(err)
	}
	var out []figures
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var f figures
		if err := json.Unmarshal(data, &f); err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	if len(out) < 12 {
		t.Fatalf("only %d models", len(out))
	}
	return out
}

func serve(t *testing.T, f figures) *testserver.Server {
	t.Helper()
	if f.Texts != nil {
		return testserver.Demo(t, engine.Params{})
	}
	targets := engine.DefaultTargets
	if _, ok := f.Logprobs["lm-head"]; ok {
		targets = append(slices.Clone(targets), "output")
	}
	return serveTiny(t, f.Model, f.Model, targets)
}

// serveTiny serves a model under testdata with the adapters of one of the same shape.
func serveTiny(t *testing.T, model, adaptersOf string, targets []string) *testserver.Server {
	t.Helper()
	params := engine.Params{Path: baseFile(t, model), Rank: 24, Targets: targets}
	return testserver.Start(t, model, params, os.DirFS(filepath.Join("testdata", adaptersOf, "adapters")))
}

// baseFile is the path of a tiny model in GGUF, converted if need be.
func baseFile(t *testing.T, model string) string {
	t.Helper()
	dir := filepath.Join("testdata", model)
	base := filepath.Join(dir, "base.gguf")
	if _, err := os.Stat(base); errors.Is(err, fs.ErrNotExist) {
		base = filepath.Join(t.TempDir(), "base.gguf")
		if _, err := convert.Base(t.Context(), os.DirFS(filepath.Join(dir, "base")), base, convert.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	return base
}

func TestLogprobs(t *testing.T) {
	for _, f := range load(t) {
		t.Run(f.Model, func(t *testing.T) {
			s := serve(t, f)
			tolerance := toleranceOf(t, f)
			for adapter, want := range f.Logprobs {
				request := testserver.JSON{"model": f.Model}
				if adapter != "" {
					request["model"] = f.Model + ":" + adapter
				}
				compare(t, s, f, adapter, request, want, tolerance)
			}
			if f.Together != nil {
				compare(t, s, f, "together", scaled(f.Model, f.Together.Scales), f.Together.Logprobs, tolerance)
			}
		})
	}
}

// scaled asks for adapters beside a base.
func scaled(base string, scales map[string]float64) testserver.JSON {
	list := []testserver.JSON{}
	for name, scale := range scales {
		list = append(list, testserver.JSON{"name": name, "scale": scale})
	}
	return testserver.JSON{"model": base, "lora": list}
}

// At scale 0 an adapter, and all of them together, give what the base gives, to the bit;
// also after they were applied, so that they are in their slots.
func TestScaleZero(t *testing.T) {
	for _, f := range load(t) {
		t.Run(f.Model, func(t *testing.T) {
			s := serve(t, f)
			all := map[string]float64{}
			requests := map[string]testserver.JSON{}
			for adapter := range f.Logprobs {
				if adapter != "" {
					all[adapter] = 0
					requests[adapter] = scaled(f.Model, map[string]float64{adapter: 0})
				}
			}
			requests["all together"] = scaled(f.Model, all)
			for i, prompt := range f.Prompts {
				base := score(t, s, testserver.JSON{"model": f.Model}, prompt)
				for name, request := range requests {
					if _, ok := f.Logprobs[name]; ok {
						score(t, s, testserver.JSON{"model": f.Model + ":" + name}, prompt)
					}
					if got := score(t, s, request, prompt); !slices.Equal(got, base) {
						t.Errorf("%s: prompt %d: %v, the base gives %v", name, i, got, base)
					}
				}
			}
		})
	}
}

// An adapter of lm_head is refused by name where the output can't be changed: it is the
// matrix of embeddings, or not among the targets. Others are served.
func TestHeadRefused(t *testing.T) {
	for _, tt := range []struct{ name, base string }{
		{"tied embeddings", "llama3-rope"},
		{"not a target", "gqa-untied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serveTiny(t, tt.base, "gqa-untied", engine.DefaultTargets)
			status, c := s.Do(testserver.JSON{"model": tt.base + ":lm-head", "prompt": []int{5}, "max_tokens": 1})
			const want = `tensor "base_model.model.lm_head.lora_A.weight": the base has no weight output.weight that adapters can change`
			if status != http.StatusBadRequest || c.Error == nil || !strings.Contains(c.Error.Message, want) {
				t.Errorf("status %d, %+v", status, c.Error)
			}
			s.Complete(testserver.JSON{"model": tt.base + ":layer1", "prompt": []int{5}, "max_tokens": 1})
		})
	}
}

// compare asks for the log-probabilities of all prompts.
func compare(t *testing.T, s *testserver.Server, f figures, adapter string, request testserver.JSON, want [][]float64, tolerance float64) {
	t.Helper()
	worst, off := 0.0, 0.0
	for i, p := range f.Prompts {
		got := score(t, s, request, p)
		base := f.Logprobs[""][i]
		if len(got) != len(want[i]) {
			t.Fatalf("%s: prompt %d: %d tokens scored, want %d", adapter, i, len(got), len(want[i]))
		}
		for j := range got {
			worst = max(worst, math.Abs(got[j]-want[i][j]))
			off = max(off, math.Abs(base[j]-want[i][j]))
		}
	}
	t.Logf("%-26s largest difference %.5f (the adapter changes up to %.2f)", f.Model+":"+adapter, worst, off)
	if !(worst <= tolerance) {
		t.Errorf("%s:%s: a log-probability differs by %.5f", f.Model, adapter, worst)
	}
	if adapter != "" && off < 10*toleranceF16 {
		t.Errorf("%s:%s: the adapter changes so little (%.4f) that the test shows nothing", f.Model, adapter, off)
	}
}

// score returns the log-probabilities of a prompt's tokens but the first, the way
// evaluation harnesses ask for them.
func score(t *testing.T, s *testserver.Server, request testserver.JSON, prompt []int) []float64 {
	t.Helper()
	body := testserver.JSON{"prompt": [][]int{prompt}, "max_tokens": 1, "echo": true, "logprobs": 1, "temperature": 0}
	for k, v := range request {
		body[k] = v
	}
	c := s.Complete(body)
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
