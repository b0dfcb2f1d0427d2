package memory_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"testing"

	"lorikeet/adapters/gguf"
	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/backend/llama"
	"lorikeet/backend/memory"
	"lorikeet/bench/synth"
	"lorikeet/demo"
)

// What llama.cpp allocates on the CPU, as it logs it, is what was estimated: at most 1 %
// more, and 10 % less.
func TestAgainstLlama(t *testing.T) {
	demoPath, done, err := demo.Model()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	dir := t.TempDir()
	large := synth.Default
	small := synth.Config{Hidden: 256, Layers: 4, Heads: 8, KVHeads: 2, FeedForward: 1024, Vocabulary: 1200, Context: 4096, Seed: 1}
	quantized := small
	quantized.Type = synth.Q8_0
	for _, tt := range []struct {
		name   string
		path   string
		config *synth.Config
		c      memory.Config
	}{
		{name: "demo", path: demoPath, c: memory.Config{CacheTokens: 2048, CacheType: backend.F32, StepTokens: 512, Sequences: 16, Flash: true}},
		{name: "200M", config: &large, c: memory.Config{CacheTokens: 8192, CacheType: backend.F16, StepTokens: 512, Sequences: 16, Flash: true}},
		{name: "200M, F32 cache", config: &large, c: memory.Config{CacheTokens: 5000, CacheType: backend.F32, StepTokens: 256, Sequences: 4, Flash: true}},
		{name: "200M, large cache, no flash", config: &large, c: memory.Config{CacheTokens: 16384, CacheType: backend.F16, StepTokens: 256, Sequences: 4}},
		{name: "small, wide feed-forward", config: &small, c: memory.Config{CacheTokens: 512, CacheType: backend.F16, StepTokens: 512, Sequences: 4, Flash: true}},
		{name: "small, large cache, no flash", config: &small, c: memory.Config{CacheTokens: 4096, CacheType: backend.F16, StepTokens: 512, Sequences: 4}},
		{name: "quantized", config: &quantized, c: memory.Config{CacheTokens: 2048, CacheType: backend.F16, StepTokens: 128, Sequences: 4, Flash: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.config == &large && testing.Short() {
				t.Skip("makes a base of 414 MB")
			}
			path := tt.path
			if tt.config != nil {
				var err error
				if path, err = synth.Base(dir, *tt.config); err != nil {
					t.Fatal(err)
				}
			}
			m, err := gguf.Sizes(os.DirFS(filepath.Dir(path)), filepath.Base(path), engine.DefaultTargets)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := memory.Estimate(m, tt.c, []memory.Device{{Name: "CPU", Free: 1 << 40}})
			if err != nil {
				t.Fatal(err)
			}
			got, real := plan[0], allocated(t, path, tt.c)
			compare := func(what string, got, want int64, under, over float64) { // in percent
				off := 100 * (float64(got)/float64(want) - 1)
				t.Logf("%-12s estimated %10d, allocated %10d (%+.1f %%)", what, got, want, off)
				if !(off >= -under && off <= over) {
					t.Errorf("%s: estimated %s, llama.cpp allocates %s (%+.1f %%)", what, memory.Bytes(got), memory.Bytes(want), off)
				}
			}
			weights, computation := real["model"], real["compute"]+real["output"]
			compare("weights", got.Mapped+got.Weights, weights, 0.1, 0.1)
			compare("KV cache", got.Cache, real["KV"], 0.01, 0.01)
			compare("computation", got.Compute, computation, 2, 30)
			compare("all", got.Mapped+got.Total(), weights+real["KV"]+computation, 1, 10)
		})
	}
}

// allocated loads a base and returns the bytes of llama.cpp's buffers by what they hold.
func allocated(t *testing.T, path string, c memory.Config) map[string]int64 {
	t.Helper()
	runtime.LockOSThread()
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	defer slog.SetDefault(before)
	model, err := llama.LoadModel(path, llama.ModelParams{})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	params := llama.ContextParams{
		CacheTokens: c.CacheTokens, StepTokens: c.StepTokens, Sequences: c.Sequences, Threads: 1,
		KeyType: c.CacheType, ValueType: c.CacheType, Flash: llama.FlashOff,
	}
	if c.Flash {
		params.Flash = llama.FlashOn
	}
	ctx, err := model.NewContext(params)
	if err != nil {
		t.Fatal(err)
	}
	ctx.Close()
	sum := map[string]int64{}
	for _, line := range regexp.MustCompile(`(model|KV|compute|output) +buffer size = +([0-9.]+) MiB`).FindAllStringSubmatch(log.String(), -1) {
		mib, err := strconv.ParseFloat(line[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum[line[1]] += int64(mib * (1 << 20))
	}
	if len(sum) != 4 {
		t.Fatalf("not all buffers were logged: %v", sum)
	}
	return sum
}
