package engine_test

import (
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/backend/enginetest"
)

const demoModel = "../../demo/parrot.gguf"

func open(t *testing.T, p engine.Params) backend.Engine {
	t.Helper()
	p.Path = demoModel
	e, err := engine.New(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) backend.Engine { return open(t, engine.Params{Slots: 4}) })
}
