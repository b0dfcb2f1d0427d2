package server

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
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
	g, err := t.generate(r.Context(), c.requests)
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
			ID: "cmpl-" + randomID(), Object: "text_completion", Created: time.Now().Unix(), Model: req.Model,
			SystemFingerprint: t.fingerprint(),
		},
	}
	engine := t.base.Engine
	if err := checkVocabulary(engine, &req.Sampling, req.StopTokens); err != nil {
		return nil, err
	}
	common, err := template(engine, req)
	if err != nil {
		return nil, err
	}
	for _, p := range req.Prompts {
		tokens, err := c.prompt(engine, p)
		if err != nil {
			return nil, err
		}
		c.usage.PromptTokens += len(tokens)
		r := common
		r.Prompt = tokens
		t.place(&r)
		for j := range req.BestOf {
			own := r
			own.Sampling.Seed += uint32(j)
			c.requests = append(c.requests, &own)
			c.choices = append(c.choices, newChoice(req, engine, len(c.choices), tokens))
		}
	}
	return c, nil
}

// prompt makes the tokens of a prompt.
func (c *completion) prompt(e backend.Engine, p api.Prompt) ([]backend.Token, error) {
	tokens, err := promptTokens(e, p, c.req.AddSpecialTokens, "prompt")
	if err != nil {
		return nil, err
	}
	if c.req.Suffix == "" {
		return truncated(e, tokens, c.req.TruncateTo, c.req.MaxTokens), nil
	}
	suffix, err := e.Tokenize(c.req.Suffix, false)
	if err != nil {
		return nil, err
	}
	return infill(e, truncated(e, tokens, c.req.TruncateTo, c.req.MaxTokens+marks+len(suffix)), suffix)
}

// echo gives the choices their prompts to begin with, if the client wants that. The
// engine has accepted the prompts by then: their length is bounded.
func (c *completion) echo(e backend.Engine) {
	if !c.req.Echo {
		return
	}
	for i, p := range c.req.Prompts {
		first := i * c.req.BestOf
		tokens := c.requests[first].Prompt
		text := p.Text
		var written []string // what each token stands for
		if p.Tokens != nil || c.req.Logprobs >= 0 || c.req.TruncateTo != 0 {
			written = spelled(e, tokens, p)
			text = strings.Join(written, "")
		}
		for _, ch := range c.choices[first : first+c.req.BestOf] {
			ch.echo, ch.written = text, written
		}
	}
}

// spelled is what the tokens of a prompt stand for: of a text also the special tokens that
// are written in it, but not one that was put before it.
func spelled(e backend.Engine, tokens []backend.Token, p api.Prompt) []string {
	out := make([]string, len(tokens))
	for i, t := range tokens {
		name := string(e.Piece(t, true))
		added := i == 0 && t == e.Info().BOS && !strings.HasPrefix(p.Text, name)
		out[i] = string(e.Piece(t, p.Tokens == nil && !added))
	}
	return out
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
		o.Text += piece.Text
		o.FinishReason = piece.FinishReason
		o.Logprobs = appendLogprobs(o.Logprobs, piece.Logprobs)
		o.TokenIDs = append(o.TokenIDs, piece.TokenIDs...)
		if piece.PromptLogprobs != nil {
			o.PromptLogprobs = piece.PromptLogprobs
		}
		if piece.PromptTokenIDs != nil {
			o.PromptTokenIDs = piece.PromptTokenIDs
		}
	}
	c.head.Choices = c.best(out)
	c.head.Usage = api.OptionalUsage{Present: true, Usage: c.total()}
	return nil
}

// best are the answers to each prompt whose tokens are the most likely, on average.
func (c *completion) best(all []api.Choice) []api.Choice {
	var best []api.Choice
	for first := 0; first < len(all); first += c.req.BestOf {
		order := make([]int, c.req.BestOf)
		for j := range order {
			order[j] = first + j
		}
		if c.req.BestOf > c.req.N {
			slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(c.choices[b].likelihood(), c.choices[a].likelihood()) })
		}
		for _, i := range order[:c.req.N] {
			all[i].Index = len(best)
			best = append(best, all[i])
		}
	}
	return best
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
		if c.req.UsageSoFar {
			c.head.Usage.Usage = c.total()
		}
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
	ch := c.choices[ev.index]
	c.usage.CompletionTokens += ev.Generated - ch.generated
	ch.generated = ev.Generated
	if ev.Finish != "" && ev.index%c.req.BestOf == 0 { // a prompt counts once, as its first choice met it
		c.usage.PromptTokensDetails.CachedTokens += ev.Cached
	}
	return ch.piece(ev.Event)
}

func (c *completion) total() *api.Usage {
	c.usage.TotalTokens = c.usage.PromptTokens + c.usage.CompletionTokens
	return &c.usage
}
