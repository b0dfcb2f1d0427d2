package fake_test

import (
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/enginetest"
	"lorikeet/backend/fake"
)

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) backend.Engine { return fake.New(256, 4) })
}
