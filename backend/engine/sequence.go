package engine

import (
	"context"

	"lorikeet/backend"
	"lorikeet/backend/llama"
	"lorikeet/backend/text"
)

// sequence is one request in the engine. The owner owns it, but for ctx and
// events' reading end.
type sequence struct {
	ctx     context.Context
	req     *backend.Request
	events  chan backend.Event
	unwatch func() bool // stops watching ctx

	id      int // in the KV cache
	reserve int // tokens of the cache set aside for it
	sampler *llama.Sampler
	text    *text.Assembler

	past      int           // tokens in the cache
	next      backend.Token // generated, not yet computed
	generated int
	prompt    []backend.TokenInfo // collected until the first event
	piece     []byte              // scratch

	output int // where the distribution for its next token is in this step, or -1
}

func newSequence(ctx context.Context, r *backend.Request, events int) *sequence {
	return &sequence{
		ctx:     ctx,
		req:     r,
		events:  make(chan backend.Event, events+1),
		reserve: len(r.Prompt) + r.MaxTokens,
		text:    text.NewAssembler(r.Stop, r.Logprobs >= 0),
	}
}

// inPrompt tells whether prompt tokens remain to be computed.
func (s *sequence) inPrompt() bool { return s.past < len(s.req.Prompt) }

func (s *sequence) pending() int {
	if s.inPrompt() {
		return len(s.req.Prompt) - s.past
	}
	return 1
}

// emit sends an event without waiting. The last place of the buffer is kept for
// the last event.
func (s *sequence) emit(ev backend.Event) bool {
	if len(s.events) >= cap(s.events)-1 {
		return false
	}
	s.events <- ev
	return true
}

// end sends the last event.
func (s *sequence) end(ev backend.Event) {
	ev.Generated = s.generated
	s.events <- ev
	close(s.events)
	s.unwatch()
	if s.sampler != nil {
		s.sampler.Close()
	}
}

// add puts n of the sequence's tokens into the batch.
func (s *sequence) add(c *llama.Context, n int) {
	s.output = -1
	if !s.inPrompt() {
		s.output = c.Add(s.next, s.past, s.id, s.req.Slot, true)
		s.past++
		return
	}
	for range n {
		last := s.past == len(s.req.Prompt)-1
		i := c.Add(s.req.Prompt[s.past], s.past, s.id, s.req.Slot, last || s.req.PromptLogprobs)
		s.past++
		if last {
			s.output = i
		}
	}
}

// scorePrompt collects the log-probabilities of the prompt tokens that follow the
// n ones at batch position first.
func (s *sequence) scorePrompt(c *llama.Context, m *llama.Model, first, n int) {
	begin := s.past - n
	if begin == 0 {
		s.prompt = append(s.prompt, backend.TokenInfo{ID: s.req.Prompt[0], Text: s.pieceOf(m, s.req.Prompt[0])})
	}
	for i := range n {
		if begin+i+1 == len(s.req.Prompt) {
			break
		}
		s.prompt = append(s.prompt, s.score(c, m, first+i, s.req.Prompt[begin+i+1]))
	}
}

func (s *sequence) score(c *llama.Context, m *llama.Model, output int, t backend.Token) backend.TokenInfo {
	lp, top := c.Logprobs(output, t, max(0, s.req.Logprobs))
	return backend.TokenInfo{ID: t, Text: s.pieceOf(m, t), Logprob: lp, Scored: true, Top: top}
}

func (s *sequence) pieceOf(m *llama.Model, t backend.Token) string {
	s.piece = m.AppendPiece(s.piece[:0], t, false)
	return string(s.piece)
}

// minTemperature is the least that makes a difference to greedy choice; logits
// divided by much less overflow.
const minTemperature = 1e-3

// sample chooses the next token.
func (s *sequence) sample(c *llama.Context) backend.Token {
	if s.req.Sampling.Temperature < minTemperature {
		return c.Argmax(s.output)
	}
	if s.sampler == nil {
		s.sampler = llama.NewSampler(s.req.Sampling)
	}
	return s.sampler.Sample(c, s.output)
}

// advance generates one token from the step's output. It returns the last event
// when the sequence has ended with it.
func (s *sequence) advance(c *llama.Context, m *llama.Model) (last backend.Event, ended bool) {
	prompt := s.prompt
	s.prompt = nil
	if s.req.MaxTokens == 0 {
		return backend.Event{Prompt: prompt, Finish: backend.FinishLength}, true
	}
	t := s.sample(c)
	s.generated++
	info := backend.TokenInfo{ID: t}
	if s.req.Logprobs >= 0 {
		info = s.score(c, m, s.output, t)
	}
	endOfGeneration := m.IsEndOfGeneration(t)
	s.piece = s.piece[:0]
	if !endOfGeneration {
		s.piece = m.AppendPiece(s.piece, t, false)
	}
	ev := backend.Event{Prompt: prompt, Generated: s.generated}
	var stopped bool
	ev.Text, ev.Tokens, stopped = s.text.Add(s.piece, info)
	switch {
	case stopped:
		ev.Finish = backend.FinishStop
		return ev, true
	case endOfGeneration, s.generated == s.req.MaxTokens:
		rest, tokens := s.text.Flush()
		ev.Text += rest
		ev.Tokens = append(ev.Tokens, tokens...)
		ev.Finish = backend.FinishLength
		if endOfGeneration {
			ev.Finish = backend.FinishStop
		}
		return ev, true
	}
	s.next = t
	if ev.Text == "" && len(ev.Tokens) == 0 && len(ev.Prompt) == 0 {
		return backend.Event{}, false
	}
	if !s.emit(ev) {
		return backend.Event{Err: backend.ErrSlowReader}, true
	}
	return backend.Event{}, false
}
