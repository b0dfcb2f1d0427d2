package llama

import (
	"slices"
	"strings"
	"testing"
)

func TestParseArchs(t *testing.T) {
	for list, want := range map[string][]int{"800,900": {80, 90}, "900": {90}, "": nil, "1200, 750": {120, 75}, "n/a": nil, "0": nil} {
		if got := parseArchs(list); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", list, got, want)
		}
	}
}

// A library that can't be loaded has a reason, also one that no loader would take.
func TestWhyNot(t *testing.T) {
	if got := whyNot("/no/such/lib/ollama/libggml-cuda.so"); !strings.Contains(got, "No such file") {
		t.Error(got)
	}
	if got := whyNot("devices_test.go"); got == "" {
		t.Error("a text is a library")
	}
}

// There is no GPU of this name: an error, and nothing is loaded.
func TestUnknownDevice(t *testing.T) {
	if m, err := LoadModel("../../demo/parrot.gguf", ModelParams{Devices: []string{"CUDA99"}, GPULayers: -1}); m != nil || err == nil || !strings.Contains(err.Error(), "CUDA99") {
		t.Errorf("%v, %v", m, err)
	}
}
