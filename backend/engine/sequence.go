package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"lorikeet/backend"
	"lorikeet/backend/llama"
	"lorikeet/backend/prefix"
	"lorikeet/backend/text"
)

// sequence is one request in the engine. The owner owns it, but for ctx and
// events' reading end.
type sequence struct {
	ctx     context.Context
	req     *backend.Request
	events  chan backend.Event
	unwatch func() bool // stops watching ctx

	flow    string         // the queue it waits in: its version
	sampler *llama.Sampler // nil if the most likely token is taken
	text    *text.Assembler
	model   *llama.Model
	ends    []backend.Token // of generation, then what else ends the answer
	eog     int             // of ends, those of generation
	mean    bool            // the embedding is that of all tokens

	id        int             // in the KV cache
	tokens    []backend.Token // the prompt and what was generated; the cache holds the first past ones
	past      int
	cached    int // of the prompt, when it was first admitted
	generated int
	scored    []backend.TokenInfo // of the prompt, until the first event
	piece     []byte              // scratch

	sum    []float64   // of the embeddings so far
	hidden [][]float32 // embeddings of this step

	rows  []llama.Row // outputs of this step; the last one is for the next token
	out   outcome     // of this step
	slow  bool        // a goroutine of its own chooses its next token: the owner keeps off
	ended bool
}

// outcome is what a step, or a slow choice, has come to for a sequence.
type outcome struct {
	event    backend.Event
	last     bool // the sequence ends with event
	broken   bool // the step's numbers are not finite
	slowly   bool // the choice must be made slowly, from row
	row      llama.Row
	generate bool // a token was generated
}

// minTemperature is the least that makes a difference to greedy choice; logits
// divided by much less overflow.
const minTemperature = 1e-3

// newSequence makes the sequence of a request; its error is the grammar's.
func newSequence(ctx context.Context, r *backend.Request, e *Engine) (*sequence, error) {
	s := &sequence{
		ctx: ctx, req: r, model: e.model, ends: slices.Concat(e.ends, r.StopTokens), eog: len(e.ends),
		mean:   r.Embed && e.info.Pooling == backend.PoolMean,
		events: make(chan backend.Event, e.params.Events+1),
		text:   text.NewAssembler(r.Stop, r.IncludeStop, r.Logprobs >= 0, r.Sampling.MinTokens),
		tokens: slices.Clip(r.Prompt), flow: r.Version,
	}
	if s.unnamed() {
		s.flow = fmt.Sprint("slot ", r.Slot)
	}
	if plain(&r.Sampling) {
		return s, nil
	}
	adjusted := *r
	if adjusted.Sampling.Temperature < minTemperature {
		adjusted.Sampling.Temperature = 0
	}
	var err error
	s.sampler, err = e.model.NewSampler(&adjusted, s.ends)
	return s, err
}

// plain tells whether the most likely token is taken, whatever it is.
func plain(s *backend.Sampling) bool {
	return s.Temperature < minTemperature && (s.RepetitionPenalty == 0 || s.RepetitionPenalty == 1) && s.PresencePenalty == 0 &&
		s.FrequencyPenalty == 0 && len(s.LogitBias) == 0 && s.MinTokens == 0 && !s.IgnoreEOS && s.Allowed == nil &&
		len(s.BadWords) == 0 && s.Grammar == ""
}

// unnamed tells whether nobody knows what lies in the sequence's slot: then nothing
// of it is shared.
func (s *sequence) unnamed() bool { return s.req.Slot != 0 && s.req.Version == "" }

// prompt is the sequence's tokens as the account of the cache knows them.
func (s *sequence) prompt() prefix.Prompt {
	return prefix.Prompt{Tokens: s.tokens, From: s.req.SlotFrom, Version: s.version(len(s.tokens))}
}

// version of the token at position i.
func (s *sequence) version(i int) string {
	if i < s.req.SlotFrom {
		return ""
	}
	return s.flow
}

// reusable is how many of the sequence's tokens may come from the cache: the last
// one is computed for its output, and all are if all outputs are wanted.
func (s *sequence) reusable() int {
	if s.req.NoCache || s.unnamed() || s.allOutputs() {
		return 0
	}
	return len(s.tokens) - 1
}

// scoring tells whether the log-probabilities of the prompt are still wanted.
func (s *sequence) scoring() bool {
	return s.req.PromptLogprobs && !s.req.Embed && s.generated == 0
}

// allOutputs tells whether the output of every token is wanted, not of the last only.
func (s *sequence) allOutputs() bool { return s.scoring() || s.mean }

func (s *sequence) pending() int { return len(s.tokens) - s.past }

// inPrompt tells whether several tokens, or the first output, are to be computed.
func (s *sequence) inPrompt() bool { return s.generated == 0 || s.pending() > 1 }

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
	ev.Generated, ev.Cached = s.generated, s.cached
	s.ended = true
	s.events <- ev
	close(s.events)
	s.unwatch()
	s.close()
}

func (s *sequence) close() {
	if s.sampler != nil {
		s.sampler.Close()
	}
}

// add puts n of the sequence's tokens into the batch, with the outputs that are
// wanted; collect reads them after the step.
func (s *sequence) add(c *llama.Context, n, slot int) {
	if s.req.Embed {
		c.Embed()
	}
	for i := s.past; i < s.past+n; i++ {
		c.Add(s.tokens[i], i, s.id, slot, i == len(s.tokens)-1 || s.allOutputs())
	}
}

// collect takes the outputs of the n tokens that lie in the batch from first on.
func (s *sequence) collect(c *llama.Context, first, n int) {
	s.rows, s.hidden = s.rows[:0], s.hidden[:0]
	if !s.allOutputs() && s.past < len(s.tokens) {
		return
	}
	if !s.allOutputs() {
		first, n = first+n-1, 1
	}
	for i := range n {
		if s.req.Embed {
			s.hidden = append(s.hidden, c.Embedding(first+i))
		} else {
			s.rows = append(s.rows, c.Row(first+i))
		}
	}
}

// advance turns the outputs of a step into what they come to. It touches nothing but
// the sequence: sequences advance side by side.
func (s *sequence) advance() {
	s.out = outcome{}
	if s.req.Embed {
		s.embed()
		return
	}
	rows := s.rows
	if s.scoring() {
		s.scorePrompt(rows)
	}
	if s.past < len(s.tokens) {
		return
	}
	row := rows[len(rows)-1]
	if s.req.MaxTokens == 0 {
		s.out.broken = !row.Finite()
		s.out.last = true
		s.out.event = backend.Event{Prompt: s.scored, Finish: backend.FinishLength}
		return
	}
	if s.sampler == nil {
		t, ok := row.Argmax()
		if !ok {
			s.out.broken = true
			return
		}
		s.accept(t, row)
		return
	}
	if !row.Finite() {
		s.out.broken = true
		return
	}
	t, slow, err := s.sampler.Sample(row, s.bannedEnds())
	switch {
	case err != nil:
		s.fail(err)
	case slow:
		s.out.slowly, s.out.row = true, row.Keep()
	default:
		s.accept(t, row)
	}
}

// chooseSlowly chooses the next token where advance could not.
func (s *sequence) chooseSlowly() {
	row := s.out.row
	s.out = outcome{}
	t, err := s.sampler.SampleSlowly(row, s.bannedEnds())
	if err != nil {
		s.fail(err)
		return
	}
	s.accept(t, row)
}

// bannedEnds is how many of the ends, from the first on, must not be chosen now.
func (s *sequence) bannedEnds() int {
	switch {
	case s.generated < s.req.Sampling.MinTokens:
		return len(s.ends)
	case s.req.Sampling.IgnoreEOS:
		return s.eog
	}
	return 0
}

// fail ends the sequence for want of a token. An answer whose grammar is at its end
// may have none left but those that are not to end it yet: it is complete.
func (s *sequence) fail(err error) {
	s.out.last = true
	switch {
	case errors.Is(err, llama.ErrTooLong):
		s.out.event = backend.Event{Err: backend.ErrGrammar}
	case s.sampler.Bound() && s.generated > 0:
		s.out.event = backend.Event{Prompt: s.scored, Finish: backend.FinishStop}
		s.out.event.Text, s.out.event.Tokens = s.text.Flush()
	default:
		s.out.event = backend.Event{Err: backend.ErrNoToken}
	}
}

// scorePrompt collects the log-probabilities of the prompt tokens that follow those
// whose outputs the rows are.
func (s *sequence) scorePrompt(rows []llama.Row) {
	begin := s.past - len(rows)
	if begin == 0 {
		s.scored = append(s.scored, backend.TokenInfo{ID: s.tokens[0], Text: s.pieceOf(s.tokens[0])})
	}
	for i, row := range rows {
		if begin+i+1 < len(s.tokens) {
			s.scored = append(s.scored, s.score(row, s.tokens[begin+i+1]))
		}
	}
}

func (s *sequence) score(row llama.Row, t backend.Token) backend.TokenInfo {
	lp, top := row.Logprobs(t, max(0, s.req.Logprobs))
	return backend.TokenInfo{ID: t, Text: s.pieceOf(t), Logprob: lp, Scored: true, Top: top}
}

func (s *sequence) pieceOf(t backend.Token) string {
	s.piece = s.model.AppendPiece(s.piece[:0], t, s.req.SpecialText)
	return string(s.piece)
}

// accept appends a generated token, whose distribution row is, to the sequence.
func (s *sequence) accept(t backend.Token, row llama.Row) {
	prompt := s.scored
	s.scored = nil
	info := backend.TokenInfo{ID: t}
	if s.req.Logprobs >= 0 {
		info = s.score(row, t)
	}
	s.generated++
	s.tokens = append(s.tokens, t)
	s.out.generate = true
	end := slices.Contains(s.ends, t)
	s.piece = s.piece[:0]
	if !end || s.req.IncludeStop {
		s.piece = s.model.AppendPiece(s.piece, t, s.req.SpecialText)
	}
	ev := backend.Event{Prompt: prompt, Generated: s.generated, Cached: s.cached}
	var stopped bool
	ev.Text, ev.Tokens, stopped = s.text.Add(s.piece, info)
	switch {
	case stopped:
		ev.Finish = backend.FinishStop
	case end, s.generated == s.req.MaxTokens:
		rest, tokens := s.text.Flush()
		ev.Text += rest
		ev.Tokens = append(ev.Tokens, tokens...)
		ev.Finish = backend.FinishLength
		if end {
			ev.Finish = backend.FinishStop
		}
	}
	s.out.event, s.out.last = ev, ev.Finish != ""
}
