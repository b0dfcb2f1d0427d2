package bench

import (
	"testing"

	"lorikeet/bench/synth"
)

func TestConfigOf(t *testing.T) {
	for _, tt := range []struct {
		size, typ string
		layers    int // 0: refused
		want      synth.Type
	}{
		{"", "", 12, synth.F16}, {"200m", "q8_0", 12, synth.Q8_0}, {"7b", "q4_0", 32, synth.Q4_0}, {"7b", "f16", 32, synth.F16},
		{"70b", "f16", 0, 0}, {"7b", "q3_k", 0, 0},
	} {
		c, err := configOf(tt.size, tt.typ)
		if refused := tt.layers == 0; refused != (err != nil) || !refused && (c.Layers != tt.layers || c.Type != tt.want) {
			t.Errorf("%q, %q: %+v, %v", tt.size, tt.typ, c, err)
		}
	}
}

// Those that must be named are not among all.
func TestChosen(t *testing.T) {
	all, err := choose(nil)
	if err != nil || len(all) != len(Scenarios)-1 {
		t.Errorf("%d of %d, %v", len(all), len(Scenarios), err)
	}
	for _, s := range all {
		if s.Named {
			t.Errorf("%s is run without being named", s.Name)
		}
	}
	if one, err := choose([]string{"decode"}); err != nil || len(one) != 1 {
		t.Errorf("%v, %v", one, err)
	}
}
