package llama_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lorikeet/adapters/gguf"
	"lorikeet/backend/llama"
)

// What ggml would end the process for is an error: here, a header that says more than an
// assertion of llama.cpp allows.
func TestAssertionIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "base.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = gguf.WriteFile(f, []gguf.Entry{
		{Key: "general.architecture", Value: "llama"},
		{Key: "llama.context_length", Value: uint32(512)}, {Key: "llama.embedding_length", Value: uint32(64)}, {Key: "llama.block_count", Value: uint32(1)},
		{Key: "llama.expert_count", Value: uint32(1 << 20)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first leaves nothing behind that the second falls over
		m, err := llama.LoadModel(path, llama.ModelParams{})
		var failed *llama.Error
		if m != nil || !errors.As(err, &failed) || !strings.Contains(err.Error(), "GGML_ASSERT") {
			t.Fatalf("%v, %v", m, err)
		}
		t.Log(err)
	}
	step(t, open(t, "mqa"), 0, part{0, 0, 0, 4})
}
