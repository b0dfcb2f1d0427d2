package llama_test

import (
	"errors"
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/llama"
)

// A step that ggml would end the process for: a slot behind the pool's end, which an
// assertion refuses to look at.
func TestLost(t *testing.T) {
	c := open(t, "mqa")
	c.Clear()
	c.Add(5, 0, 0, 4000, true)
	err := c.Decode(backend.ModeUniform)
	var failed *llama.Error
	if !errors.Is(err, llama.ErrLost) || !errors.As(err, &failed) || failed.Reason == "" {
		t.Errorf("%v", err)
	}
	if errors.Is(&llama.Error{Op: "decode", Code: -1000}, llama.ErrLost) {
		t.Error("any error is ErrLost")
	}
}
