package adapters

import (
	"testing"

	"lorikeet/backend"
)

func TestFrom(t *testing.T) {
	type tokens = []backend.Token
	tests := []struct {
		name       string
		slot       int
		invocation tokens
		prompt     tokens
		from       int
		active     bool
	}{
		{"base", 0, nil, tokens{1, 2}, 0, false},
		{"plain LoRA", 3, nil, tokens{1, 2}, 0, true},
		{"in the middle", 3, tokens{7, 8}, tokens{1, 7, 8, 2}, 1, true},
		{"at the start", 3, tokens{7, 8}, tokens{7, 8, 2}, 0, true},
		{"at the end", 3, tokens{7, 8}, tokens{1, 2, 7, 8}, 2, true},
		{"the whole prompt", 3, tokens{7, 8}, tokens{7, 8}, 0, true},
		{"the last of two", 3, tokens{7, 8}, tokens{7, 8, 1, 7, 8, 2}, 3, true},
		{"overlapping", 3, tokens{7, 7}, tokens{7, 7, 7}, 1, true},
		{"the last is cut off", 3, tokens{7, 8}, tokens{7, 8, 1, 7}, 0, true},
		{"one token", 3, tokens{7}, tokens{7, 1, 7}, 2, true},
		{"none", 3, tokens{7, 8}, tokens{8, 7, 1}, 0, false},
		{"longer than the prompt", 3, tokens{7, 8, 9}, tokens{7, 8}, 0, false},
		{"no prompt", 3, tokens{7}, nil, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := &Lease{Slot: tt.slot, Invocation: tt.invocation}
			if from, active := l.From(tt.prompt); from != tt.from || active != tt.active {
				t.Errorf("%d, %v; want %d, %v", from, active, tt.from, tt.active)
			}
		})
	}
}
