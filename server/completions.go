package server

import (
	"net/http"
	"time"

	"lorikeet/api"
	"lorikeet/api/sse"
	"lorikeet/backend"
)

// adapterHeader tells which adapter versions have answered: name@digest, separated by
// commas.
const adapterHeader = "X-Lorikeet-Adapter"

// completions answers POST /v1/completions.
func (s *Server) completions(w http.ResponseWriter, r *http.Request) {
	req, ok := accept(s, w, r, api.DecodeCompletion)
	if !ok {
		return
	}
	t, apiErr := s.resolve(w, r, req.Model, req.LoRA)
	if apiErr != nil {
		writeError(w, r, apiErr)
		return
	}
	defer t.release()
	c, err := newCompletion(req, t)
	if err != nil {
		writeError(w, r, apiError(err, req.Model))
		return
	}
	g, err := generate(r.Context(), t.base.Engine, c.requests)
	if err != nil {
		writeError(w, r, apiError(err, req.Model))
		return
	}
	defer g.finish() // before the lease is released
	c.echo(t.base.Engine)
	if names := t.adapters(); names != "" {
		w.Header().Set(adapterHeader, names)
	}
	if req.Stream {
		c.stream(w, r, g)
		return
	}
	apiErr = c.collect(g)
	g.finish()
	t.release() // a client that reads slowly does not keep the slot
	if apiErr != nil {
		writeError(w, r, apiErr)
		return
	}
	writeJSON(w, http.StatusOK, &c.head)
}

// completion turns the events of a request's choices into a response. Choice
// prompt·n + j is the j-th answer to a prompt.
type completion struct {
	req      *api.CompletionRequest
	head     api.Completion // without choices
	requests []*backend.Request
	choices  []*choice
	usage    api.Usage
}

func newCompletion(req *api.CompletionRequest, t *target) (*completion, error) {
	c := &completion{
		req: req,
		head: api.Completion{
			ID: "cmpl-" + randomHex(12), Object: "text_completion", Created: time.Now().Unix(), Model: req.Model,
			SystemFingerprint: t.fingerprint(),
		},
	}
	engine := t.base.Engine
	if err := checkVocabulary(engine, req); err != nil {
		return nil, err
	}
	common := template(req)
	for _, p := range req.Prompts {
		tokens, err := promptTokens(engine, p, req.AddSpecialTokens)
		if err != nil {
			return nil, err
		}
		c.usage.PromptTokens += len(tokens)
		r := common
		r.Prompt = tokens
		t.place(&r)
		for j := range req.N {
			own := r
			own.Sampling.Seed += uint32(j)
			c.requests = append(c.requests, &own)
			ch := &choice{index: len(c.choices)}
			if req.Logprobs >= 0 {
				ch.logprobs = &logprobList{engine: engine}
			}
			c.choices = append(c.choices, ch)
		}
	}
	return c, nil
}

// echo gives the choices their prompts to begin with, if the client wants that. The
// engine has accepted the prompts by then: their length is bounded.
func (c *completion) echo(e backend.Engine) {
	if !c.req.Echo {
		return
	}
	for i, p := range c.req.Prompts {
		text := p.Text
		first := i * c.req.N
		if p.Tokens != nil || c.req.Logprobs >= 0 { // text_offset counts what tokens stand for
			text = textOf(e, c.requests[first].Prompt)
		}
		for _, ch := range c.choices[first : first+c.req.N] {
			ch.echo = text
		}
	}
}

func textOf(e backend.Engine, tokens []backend.Token) string {
	var b []byte
	for _, t := range tokens {
		b = append(b, e.Piece(t, false)...)
	}
	return string(b)
}

// collect puts everything into one response.
func (c *completion) collect(g *generation) *api.Error {
	out := make([]api.Choice, len(c.choices))
	for ev := range g.events {
		if ev.Err != nil {
			return apiError(ev.Err, c.req.Model)
		}
		piece := c.piece(ev)
		o := &out[ev.index]
		o.Index = ev.index
		o.Text += piece.Text
		o.FinishReason = piece.FinishReason
		o.Logprobs = appendLogprobs(o.Logprobs, piece.Logprobs)
	}
	c.head.Choices = out
	c.head.Usage = api.OptionalUsage{Present: true, Usage: c.total()}
	return nil
}

// stream writes each event as it comes.
func (c *completion) stream(w http.ResponseWriter, r *http.Request, g *generation) {
	out := sse.NewWriter(w)
	c.head.Usage = api.OptionalUsage{Present: c.req.IncludeUsage}
	for ev := range g.events {
		if ev.Err != nil {
			e := apiError(ev.Err, c.req.Model)
			if !out.Begun() {
				writeError(w, r, e)
				return
			}
			if out.Send(e) == nil {
				_ = out.Done()
			}
			return
		}
		c.head.Choices = []api.Choice{c.piece(ev)}
		if out.Send(&c.head) != nil {
			return // the client is gone
		}
	}
	if c.req.IncludeUsage {
		c.head.Choices = []api.Choice{}
		c.head.Usage.Usage = c.total()
		if out.Send(&c.head) != nil {
			return
		}
	}
	_ = out.Done() // the client may leave now
}

// piece is what an event adds to its choice.
func (c *completion) piece(ev choiceEvent) api.Choice {
	if ev.Finish != "" {
		c.usage.CompletionTokens += ev.Generated
		if ev.index%c.req.N == 0 { // a prompt counts once, as its first choice met it
			c.usage.PromptTokensDetails.CachedTokens += ev.Cached
		}
	}
	return c.choices[ev.index].piece(ev.Event)
}

func (c *completion) total() *api.Usage {
	c.usage.TotalTokens = c.usage.PromptTokens + c.usage.CompletionTokens
	return &c.usage
}

// choice turns events into pieces of one answer.
type choice struct {
	index    int
	echo     string       // the prompt, until it was sent
	logprobs *logprobList // nil if none are wanted
}

func (c *choice) piece(ev backend.Event) api.Choice {
	out := api.Choice{Index: c.index, Text: c.echo + ev.Text}
	c.echo = ""
	if c.logprobs != nil {
		out.Logprobs = c.logprobs.list(ev.Prompt, ev.Tokens)
	}
	if ev.Finish != "" {
		reason := string(ev.Finish)
		out.FinishReason = &reason
	}
	return out
}
