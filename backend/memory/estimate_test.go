package memory

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"lorikeet/backend"
)

const gib = 1 << 30

// eight is the shape of a model of 8 billion parameters, in F16.
func eight() *Model {
	const hidden, forward, kv, vocabulary = 4096, 14336, 1024, 128256
	m := &Model{Context: 8192, Hidden: hidden, FeedForward: forward, Heads: 32, Vocabulary: vocabulary, Input: 2 * hidden * vocabulary, Output: 2 * hidden * vocabulary}
	for range 32 {
		l := Layer{Key: kv, Value: kv}
		for _, w := range []backend.Weight{
			{Name: "attn_q", In: hidden, Out: hidden}, {Name: "attn_k", In: hidden, Out: kv}, {Name: "attn_v", In: hidden, Out: kv},
			{Name: "attn_output", In: hidden, Out: hidden}, {Name: "ffn_gate", In: hidden, Out: forward}, {Name: "ffn_up", In: hidden, Out: forward},
			{Name: "ffn_down", In: forward, Out: hidden},
		} {
			l.Targets = append(l.Targets, w)
			l.Bytes += int64(2 * w.In * w.Out)
		}
		m.Layers = append(m.Layers, l)
	}
	return m
}

func config() Config {
	return Config{GPULayers: -1, CacheTokens: 16384, CacheType: backend.F16, StepTokens: 512, Sequences: 16, Flash: true, Slots: 17, Rank: 64, PoolType: backend.F16}
}

func host(free int64) Device { return Device{Name: "CPU", Free: free} }

func gpu(name string, free int64) Device { return Device{Name: name, Free: free} }

func TestEstimate(t *testing.T) {
	const (
		layer     = 2 * (2*4096*4096 + 2*4096*1024 + 3*4096*14336) // bytes
		output    = 2 * 4096 * 128256
		cache     = 16384 * 2 * 1024 * 2                                           // of a layer
		poolLayer = 17 * 64 * 2 * (2*(4096+4096) + 2*(4096+1024) + 3*(4096+14336)) // of a layer
	)
	for _, tt := range []struct {
		name    string
		change  func(*Model, *Config)
		devices []Device
		want    []Use // what is compared: layers, weights, cache, pool
	}{
		{"host only", nil, []Device{host(64 * gib)}, []Use{{Layers: 32, Cache: 32 * cache, Pool: 32 * poolLayer, Mapped: 32*layer + 2*output}}},
		{"one GPU", nil, []Device{host(8 * gib), gpu("a", 80*gib)}, []Use{
			{Mapped: output}, {Layers: 32, Weights: 32*layer + output, Cache: 32 * cache, Pool: 32 * poolLayer}}},
		{"tied embeddings are copied", func(m *Model, _ *Config) { m.Tied, m.Output = true, 0 }, []Device{host(8 * gib), gpu("a", 80*gib)}, []Use{
			{Mapped: output}, {Layers: 32, Weights: 32*layer + output, Cache: 32 * cache, Pool: 32 * poolLayer}}},
		{"some layers: the last ones, and no output", func(_ *Model, c *Config) { c.GPULayers = 10 }, []Device{host(64 * gib), gpu("a", 80*gib)}, []Use{
			{Layers: 22, Cache: 22 * cache, Pool: 22 * poolLayer, Mapped: 22*layer + 2*output}, {Layers: 10, Weights: 10 * layer, Cache: 10 * cache, Pool: 10 * poolLayer}}},
		{"a quantized base is laid out anew on the host", func(m *Model, c *Config) { m.Quantized, c.GPULayers = true, 0 }, []Device{host(64 * gib), gpu("a", 80*gib)}, []Use{
			{Layers: 32, Weights: 32*layer + output, Mapped: output, Cache: 32 * cache, Pool: 32 * poolLayer}, {}}},
		{"two GPUs by their memory", nil, []Device{host(8 * gib), gpu("a", 60*gib), gpu("b", 20*gib)}, []Use{
			{Mapped: output},
			{Layers: 25, Weights: 25 * layer, Cache: 25 * cache, Pool: 25 * poolLayer},
			{Layers: 7, Weights: 7*layer + output, Cache: 7 * cache, Pool: 7 * poolLayer}}},
		{"two GPUs by their shares", func(_ *Model, c *Config) { c.Split = []float64{1, 1} }, []Device{host(8 * gib), gpu("a", 60*gib), gpu("b", 20*gib)}, []Use{
			{Mapped: output},
			{Layers: 17, Weights: 17 * layer, Cache: 17 * cache, Pool: 17 * poolLayer},
			{Layers: 15, Weights: 15*layer + output, Cache: 15 * cache, Pool: 15 * poolLayer}}},
		{"a share of nothing", func(_ *Model, c *Config) { c.Split = []float64{0, 1} }, []Device{host(8 * gib), gpu("a", 60*gib), gpu("b", 60*gib)}, []Use{
			{Mapped: output}, {}, {Layers: 32, Weights: 32*layer + output, Cache: 32 * cache, Pool: 32 * poolLayer}}},
		{"no adapters", func(_ *Model, c *Config) { c.Slots = 1 }, []Device{host(8 * gib), gpu("a", 80*gib)}, []Use{
			{Mapped: output}, {Layers: 32, Weights: 32*layer + output, Cache: 32 * cache}}},
		{"the cache is rounded up", func(_ *Model, c *Config) { c.CacheTokens, c.Slots = 16129, 0 }, []Device{host(8 * gib), gpu("a", 80*gib)}, []Use{
			{Mapped: output}, {Layers: 32, Weights: 32*layer + output, Cache: 32 * cache}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, c := eight(), config()
			if tt.change != nil {
				tt.change(m, &c)
			}
			p, err := Estimate(m, c, tt.devices)
			if err != nil {
				t.Fatal(err)
			}
			for i, u := range p {
				used := u.Layers > 0 || u.Weights > 0
				if gpu := i > 0; used && u.Compute == 0 || gpu && used != (u.Runtime > 0) {
					t.Errorf("%s: computation %d, CUDA %d", u.Name, u.Compute, u.Runtime)
				}
				if u.Device != tt.devices[i] {
					t.Errorf("device %+v", u.Device)
				}
				u.Device, u.Compute, u.Runtime = Device{}, 0, 0
				if u != tt.want[i] {
					t.Errorf("device %d: %+v, want %+v", i, u, tt.want[i])
				}
			}
		})
	}
}

// What is refused comes with changes, each of which is enough, and none of which could
// be smaller.
func TestRefusal(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(*Config)
		devices []Device
		advice  []string // how each begins; nil: it fits
		says    []string
	}{
		{"fits", nil, []Device{host(8 * gib), gpu("CUDA0", 24*gib)}, nil, nil},
		{"cache and pool too large", nil, []Device{host(8 * gib), gpu("CUDA0", 21*gib)}, []string{"slots: ", "cache_tokens: ", "gpu_layers: "},
			[]string{"CUDA0 has 21 GiB free and the base takes 22 GiB", "weights 14 GiB", "KV cache 2.0 GiB", "adapter pool 5.3 GiB", "32 of 32 layers"}},
		{"F32 cache", func(c *Config) { c.CacheType = backend.F32 }, []Device{host(8 * gib), gpu("CUDA0", 23*gib)}, []string{"kv_cache_type: f16", "slots: ", "cache_tokens: ", "gpu_layers: "}, nil},
		{"weights alone too large", nil, []Device{host(64 * gib), gpu("CUDA0", 8*gib)}, []string{"gpu_layers: "}, nil},
		{"the host too small for what the GPU lacks", nil, []Device{host(1 * gib), gpu("CUDA0", 8*gib)}, []string{}, []string{"No single setting makes it fit"}},
		{"host only", nil, []Device{host(7 * gib)}, []string{"slots: ", "cache_tokens: "}, []string{"CPU has 7.0 GiB free"}},
		{"both GPUs too small", func(c *Config) { c.Split = []float64{1, 1} }, []Device{host(64 * gib), gpu("CUDA0", 9*gib), gpu("CUDA1", 9*gib)}, nil, []string{"CUDA0 has", "CUDA1 has"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, c := eight(), config()
			if tt.change != nil {
				tt.change(&c)
			}
			p, err := Estimate(m, c, tt.devices)
			if tt.advice == nil && tt.says == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || p.Fits() {
				t.Fatalf("%v", err)
			}
			t.Log(err)
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("does not say %q", s)
				}
			}
			if tt.advice != nil && !slices.EqualFunc(e.Advice, tt.advice, strings.HasPrefix) {
				t.Errorf("advice %q, want %q", e.Advice, tt.advice)
			}
		})
	}
}

// Each piece of advice is the largest value that fits.
func TestAdviceIsTight(t *testing.T) {
	m, c := eight(), config()
	devices := []Device{host(16 * gib), gpu("CUDA0", 21*gib)}
	fits := func(change func(*Config)) bool {
		changed := c
		change(&changed)
		_, err := Estimate(m, changed, devices)
		return err == nil
	}
	_, err := Estimate(m, c, devices)
	var e *Error
	if !errors.As(err, &e) || len(e.Advice) != 3 {
		t.Fatalf("%v", err)
	}
	for i, set := range []func(*Config, int){
		func(c *Config, n int) { c.Slots = n + 1 },
		func(c *Config, n int) { c.CacheTokens = n },
		func(c *Config, n int) { c.GPULayers = n },
	} {
		n := numberIn(t, e.Advice[i])
		if !fits(func(c *Config) { set(c, n) }) {
			t.Errorf("%s does not fit", e.Advice[i])
		}
		if fits(func(c *Config) { set(c, n+1) }) {
			t.Errorf("%s: one more fits too", e.Advice[i])
		}
	}
}

func numberIn(t *testing.T, s string) int {
	t.Helper()
	n := 0
	for _, r := range s {
		if r >= '0' && r <= '9' {
			n = 10*n + int(r-'0')
		}
	}
	return n
}

func TestPadRank(t *testing.T) {
	for _, tt := range []struct {
		rank int
		typ  backend.DataType
		gpu  bool
		want int
	}{
		{8, backend.F16, false, 8}, {8, backend.F16, true, 64}, {64, backend.F16, true, 64}, {65, backend.F16, true, 128},
		{8, backend.F32, true, 32}, {33, backend.F32, true, 64}, {24, backend.F32, false, 24},
	} {
		got := PadRank(tt.rank, tt.typ, tt.gpu)
		if got != tt.want {
			t.Errorf("rank %d, %s, GPU %v: %d, want %d", tt.rank, tt.typ, tt.gpu, got, tt.want)
		}
		if w := (backend.Weight{In: 4096, Out: 1024}); tt.gpu && !Fast(w, got, tt.typ) {
			t.Errorf("rank %d is not fast", got)
		}
	}
	for _, w := range []backend.Weight{{In: 4000, Out: 1024}, {In: 4096, Out: 1000}} {
		if Fast(w, 64, backend.F16) {
			t.Errorf("%+v is not fast", w)
		}
	}
	if FastTokens(14336) != 128 || FastTokens(1024) != 512 {
		t.Error("FastTokens")
	}
}
