package engine

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/devices"
	"lorikeet/backend/llama"
	"lorikeet/backend/memory"
	"lorikeet/demo"
)

// A GPU that is configured and not there is an error at start; so is a base that can't fit.
func TestRefusedAtStart(t *testing.T) {
	path, done, err := demo.Model()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	all := -1
	huge := &memory.Model{Context: 512, Hidden: 1 << 14, Layers: []memory.Layer{{Key: 1 << 40, Value: 1}}}
	t.Run("no CUDA backend", func(t *testing.T) {
		var refused *devices.Error
		if _, err := New(Params{Path: path, GPULayers: &all}); !errors.As(err, &refused) || refused.Kind != devices.NoBackend {
			t.Errorf("%v", err)
		}
	})
	t.Run("too large", func(t *testing.T) {
		var refused *memory.Error
		if _, err := New(Params{Path: path, Sizes: huge}); !errors.As(err, &refused) || refused.Plan[0].Cache == 0 {
			t.Errorf("%v", err)
		}
	})
}

func TestChoose(t *testing.T) {
	some := 7
	found := devices.Found{Library: "x", Archs: []int{90}, Devices: []devices.Device{{Name: "CUDA0", Compute: 90}, {Name: "CUDA1", Compute: 90}}}
	where, chosen, err := Params{GPULayers: &some, Devices: []string{"CUDA1", "CUDA0"}, Split: []float64{3, 1}}.choose(found)
	if err != nil || where.GPULayers != 7 || !slices.Equal(where.Devices, []string{"CUDA1", "CUDA0"}) || !slices.Equal(where.Split, []float64{3, 1}) || len(chosen) != 2 {
		t.Errorf("%+v, %v", where, err)
	}
	if where, _, err := (Params{}).choose(devices.Found{}); err != nil || len(where.Devices) != 0 || where.GPULayers != 0 {
		t.Errorf("without GPUs: %+v, %v", where, err)
	}
}

// What is estimated are the defaults that the engine takes.
func TestMemoryConfig(t *testing.T) {
	off := false
	p := Params{Sizes: &memory.Model{Context: 2048, F32: true}, Rank: 40, Flash: &off}
	onGPU := p.memory(true, llama.ModelParams{GPULayers: -1})
	want := memory.Config{
		GPULayers: -1, Context: 2048, CacheTokens: 4 * 2048, CacheType: backend.F32, StepTokens: 512, Sequences: 16, Slots: 17, Rank: 64, PoolType: backend.F32,
	}
	if got := onGPU; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := p.memory(false, llama.ModelParams{}); got.Rank != 40 || got.GPULayers != 0 {
		t.Errorf("on the CPU: %+v", got)
	}
	p.Slots = -1
	if got := p.memory(false, llama.ModelParams{}); got.Slots != 1 {
		t.Errorf("without adapters: %+v", got)
	}
}

func TestFlash(t *testing.T) {
	on, off := true, false
	for _, tt := range []struct {
		wish *bool
		gpu  bool
		want llama.FlashAttention
	}{
		{nil, false, llama.FlashOn}, {&on, false, llama.FlashOn}, {&off, false, llama.FlashOff},
		{nil, true, llama.FlashAuto}, {&on, true, llama.FlashAuto}, {&off, true, llama.FlashOff},
	} {
		if got := (&Params{Flash: tt.wish}).flash(tt.gpu); got != tt.want {
			t.Errorf("%v, GPU %v: %v, want %v", tt.wish, tt.gpu, got, tt.want)
		}
	}
}

func TestHostFree(t *testing.T) {
	if free := hostFree(); free < 1<<20 || free > 1<<50 {
		t.Errorf("%d bytes", free)
	}
}
