package convert

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ollama "github.com/ollama/ollama/llama"
	"github.com/ollama/ollama/ml"

	"lorikeet/adapters/gguf"
	"lorikeet/adapters/lora"
	"lorikeet/adapters/peft"
	"lorikeet/backend"
	"lorikeet/backend/engine"
)

func baseInfo(t *testing.T, path string) *backend.ModelInfo {
	t.Helper()
	info, err := gguf.Base(os.DirFS(filepath.Dir(path)), filepath.Base(path), append([]string{"output"}, engine.DefaultTargets...))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func image(t *testing.T, info *backend.ModelInfo, a *lora.Adapter) []byte {
	t.Helper()
	defer a.Close()
	if err := a.Check(info); err != nil {
		t.Fatal(err)
	}
	out := make([]byte, info.Pool.ImageSize())
	if err := lora.Image(out, info, []lora.Scaled{{Adapter: a, Scale: 1}}); err != nil {
		t.Fatal(err)
	}
	return out
}

// A converted adapter fills a slot with the very bytes that the PEFT directory does.
func TestAdapterImages(t *testing.T) {
	bases := map[string]string{"../demo": "../demo/parrot.gguf"}
	for _, dir := range oracleBases(t) {
		model := filepath.Dir(dir)
		bases[model] = filepath.Join(t.TempDir(), filepath.Base(model)+".gguf")
		if _, err := Base(t.Context(), os.DirFS(dir), bases[model], Options{}); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := filepath.Glob("../tests/oracle/testdata/*/base.gguf")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range kept {
		bases[filepath.Dir(path)] = path
	}
	for model, base := range bases {
		dirs, err := filepath.Glob(filepath.Join(model, "adapters", "*", peft.ConfigFile))
		if err != nil || len(dirs) == 0 {
			t.Fatalf("%s: no adapters, %v", model, err)
		}
		for _, config := range dirs {
			dir := filepath.Dir(config)
			t.Run(dir, func(t *testing.T) { roundTrip(t, dir, base) })
		}
	}
}

func roundTrip(t *testing.T, dir, base string) {
	info := baseInfo(t, base)
	info.Pool.Rank = 32
	out := filepath.Join(t.TempDir(), "adapter.gguf")
	s, err := Adapter(t.Context(), os.DirFS(dir), info, out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	from, err := peft.Read(os.DirFS(dir), info, "")
	if err != nil {
		t.Fatal(err)
	}
	if s.Tensors != from.Tensors || s.Rank != from.Rank() || s.Architecture != info.Architecture {
		t.Errorf("%+v", s)
	}
	to, err := gguf.Read(os.DirFS(filepath.Dir(out)), filepath.Base(out), math.MaxInt64, "")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(from.Invocation, to.Invocation) {
		t.Errorf("invocation %v, was %v", to.Invocation, from.Invocation)
	}
	if !bytes.Equal(image(t, info, from), image(t, info, to)) {
		t.Error("the images differ")
	}
}

// llama.cpp's own loader takes what is written.
func TestAdapterLoads(t *testing.T) {
	ollama.BackendInit()
	model := "../tests/oracle/testdata/gqa-untied"
	m, err := ollama.LoadModelFromFile(model+"/base.gguf", ollama.ModelParams{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ollama.NewContextWithModel(m, ollama.NewContextParams(32, 32, 1, 1, ml.FlashAttentionDisabled, "f32"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rank12", "rslora", "patterns", "lm-head", "activated"} {
		out := filepath.Join(t.TempDir(), name+".gguf")
		if _, err := Adapter(t.Context(), os.DirFS(filepath.Join(model, "adapters", name)), baseInfo(t, model+"/base.gguf"), out, Options{}); err != nil {
			t.Fatal(err)
		}
		if err := m.ApplyLoraFromFile(c, out, 1, 1); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAdapterRefusals(t *testing.T) {
	pirate := "../demo/adapters/pirate"
	for name, c := range map[string]struct {
		dir  string
		base func(*backend.ModelInfo)
		want string
	}{
		"no files":           {t.TempDir(), nil, peft.ConfigFile},
		"other architecture": {pirate, func(m *backend.ModelInfo) { m.Architecture = "mamba" }, "mamba"},
		"other shape":        {pirate, func(m *backend.ModelInfo) { m.Pool.Weights[0].In++ }, "columns"},
	} {
		t.Run(name, func(t *testing.T) {
			info := baseInfo(t, "../demo/parrot.gguf")
			if c.base != nil {
				c.base(info)
			}
			out := filepath.Join(t.TempDir(), "adapter.gguf")
			_, err := Adapter(t.Context(), os.DirFS(c.dir), info, out, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v", err)
			}
			if _, err := os.Lstat(out); err == nil {
				t.Error("a file was written")
			}
		})
	}
}
