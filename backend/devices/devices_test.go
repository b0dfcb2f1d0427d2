package devices_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	. "lorikeet/backend/devices"
)

func layers(n int) *int { return &n }

func TestChoose(t *testing.T) {
	h100 := Device{Name: "CUDA0", Description: "NVIDIA H100", Compute: 90, Free: 80 << 30, Total: 80 << 30}
	a100 := Device{Name: "CUDA1", Description: "NVIDIA A100", Compute: 80, Free: 40 << 30, Total: 40 << 30}
	none := Found{}
	both := Found{Library: "/lib/ollama/libggml-cuda.so", Archs: []int{80, 90}, Devices: []Device{h100, a100}}
	newOnly := both
	newOnly.Archs = []int{90}
	empty := Found{Library: both.Library, Archs: both.Archs}
	noDriver := Found{Library: both.Library, Failure: "libcuda.so.1: cannot open shared object file: No such file or directory"}
	noCUBLAS := Found{Library: both.Library, Failure: "libcublas.so.12: cannot open shared object file: No such file or directory"}

	type want struct {
		layers  int
		devices []Device
		kind    Kind
		says    []string // nil: no error
	}
	all := want{layers: -1, devices: []Device{h100, a100}}
	cpu := want{}
	refused := func(kind Kind, says ...string) want { return want{kind: kind, says: says} }
	for _, tt := range []struct {
		name  string
		wish  Wish
		found Found
		want  want
	}{
		{"nothing wished, nothing there", Wish{}, none, cpu},
		{"nothing wished, GPUs there", Wish{}, both, all},
		{"CPU wished, GPUs there", Wish{Layers: layers(0)}, both, cpu},
		{"CPU wished, no driver", Wish{Layers: layers(0)}, noDriver, cpu},
		{"all wished", Wish{Layers: layers(-1)}, both, all},
		{"some layers", Wish{Layers: layers(12)}, both, want{layers: 12, devices: []Device{h100, a100}}},
		{"by name, in that order", Wish{Names: []string{"cuda1", "CUDA0"}, Split: []float64{1, 2}}, both, want{layers: -1, devices: []Device{a100, h100}}},

		{"GPU wished, no backend", Wish{Layers: layers(-1)}, none, refused(NoBackend, "lib/ollama/libggml-cuda.so", "make cuda", "gpu_layers: 0")},
		{"device named, no backend", Wish{Names: []string{"CUDA0"}}, none, refused(NoBackend, "make cuda")},
		{"no driver", Wish{Layers: layers(-1)}, noDriver, refused(NoDriver, "libcuda.so.1", "driver", "container toolkit", "gpu_layers: 0")},
		{"nothing wished, but a backend without driver", Wish{}, noDriver, refused(NoDriver, "gpu_layers: 0")},
		{"no cuBLAS", Wish{}, noCUBLAS, refused(Unloadable, "libcublas.so.12")},
		{"no GPU", Wish{}, empty, refused(NoDevice, "nvidia-smi", "CUDA_VISIBLE_DEVICES")},
		{"unknown device", Wish{Names: []string{"CUDA7"}}, both, refused(Unknown, `"CUDA7"`, "CUDA0 (NVIDIA H100), CUDA1 (NVIDIA A100)")},
		{"device twice", Wish{Names: []string{"CUDA0", "cuda0"}}, both, refused(Unknown, "twice")},
		{"wrong architecture", Wish{}, newOnly, refused(WrongArch, "CUDA1 (NVIDIA A100) has compute capability 8.0", "built for 9.0", "CUDA_ARCHS=80")},
		{"wrong architecture elsewhere", Wish{Names: []string{"CUDA0"}}, newOnly, want{layers: -1, devices: []Device{h100}}},
		{"share missing", Wish{Split: []float64{1}}, both, refused(WrongSplit, "1 shares for 2 devices")},
		{"negative share", Wish{Split: []float64{1, -1}}, both, refused(WrongSplit, "-1")},
		{"no number", Wish{Split: []float64{1, math.NaN()}}, both, refused(WrongSplit, "NaN")},
		{"infinite share", Wish{Split: []float64{1, math.Inf(1)}}, both, refused(WrongSplit, "Inf")},
		{"shares of nothing", Wish{Split: []float64{0, 0}}, both, refused(WrongSplit, "above 0")},
		{"CPU wished, and devices", Wish{Layers: layers(0), Names: []string{"CUDA0"}}, both, refused(WrongSplit, "gpu_layers is 0")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, chosen, err := Choose(tt.wish, tt.found)
			if tt.want.says == nil {
				if err != nil || n != tt.want.layers || !slices.Equal(chosen, tt.want.devices) {
					t.Fatalf("%d layers, %+v, %v", n, chosen, err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Kind != tt.want.kind {
				t.Fatalf("%#v", err)
			}
			for _, s := range tt.want.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

// Code for an older capability runs on a newer device, through PTX.
func TestNewerDevice(t *testing.T) {
	f := Found{Library: "x", Archs: []int{80}, Devices: []Device{{Name: "CUDA0", Compute: 120}}}
	if _, chosen, err := Choose(Wish{}, f); err != nil || len(chosen) != 1 {
		t.Errorf("%v, %v", chosen, err)
	}
}
