package sched

import "testing"

func TestPace(t *testing.T) {
	var p Pace
	if n := p.Chunk(2, 8, 1); n != 4*minChunk {
		t.Errorf("knows nothing yet: %d", n)
	}
	for range 50 {
		p.Observe(8, 0, 0.040)
		p.Observe(0, 100, 0.200)   // 2 ms a token
		p.Observe(8, 20, 0.080)    // the same
		p.Observe(8, 1, 1)         // too few to tell
		p.Observe(8, 20, 0.000001) // faster than without: no sense
	}
	for _, tt := range []struct {
		stretch             float64
		generating, prompts int
		want                int
	}{
		{2, 8, 1, 20}, {3, 8, 1, 40}, {2, 8, 8, 20},
		{2, 1, 15, 300},        // a crowd
		{1.01, 8, 1, minChunk}, // it goes on, whatever the clock says
		{1e12, 8, 1, maxChunk},
	} {
		if n := p.Chunk(tt.stretch, tt.generating, tt.prompts); n < tt.want-1 || n > tt.want+1 {
			t.Errorf("%+v: %d", tt, n)
		}
	}
	for range 50 { // the machine gets slower
		p.Observe(8, 0, 0.400)
		p.Observe(8, 20, 0.800)
	}
	if n := p.Chunk(2, 8, 1); n < 18 || n > 22 {
		t.Errorf("ten times slower: %d", n)
	}
}
