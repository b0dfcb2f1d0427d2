package engine

import (
	"math"

	"lorikeet/backend"
)

// embed adds a step's embeddings to the sum; with the last token's it is complete.
func (s *sequence) embed() {
	for _, h := range s.hidden {
		if s.sum == nil {
			s.sum = make([]float64, len(h))
		}
		for i, v := range h {
			s.sum[i] += float64(v)
		}
	}
	for _, v := range s.sum {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			s.out.broken = true
			return
		}
	}
	if s.past < len(s.tokens) {
		return
	}
	n := 1
	if s.mean {
		n = len(s.tokens)
	}
	out := make([]float32, len(s.sum))
	for i, v := range s.sum {
		out[i] = float32(v / float64(n))
	}
	s.out.last = true
	s.out.event = backend.Event{Embedding: out, Finish: backend.FinishStop}
}
