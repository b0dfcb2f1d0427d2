package server

import (
	"context"
	"net/http"

	"lorikeet/api"
	"lorikeet/backend"
	"lorikeet/chat"
)

// dialogue is a conversation that is being answered: what chats and responses share.
type dialogue struct {
	*generation
	target  *target
	req     *api.ChatRequest
	input   string // the member with the messages, as errors name it
	parsers []*chat.Parser
	called  []bool // choices that have called a tool
	tokens  []int  // that choices have generated
	usage   api.Usage
}

// begin resolves the model, renders the conversation and submits the choices. If it
// fails, ok is false and the client has its answer; else the caller closes the dialogue.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, req *api.ChatRequest, input string) (d *dialogue, ok bool) {
	t, apiErr := s.resolve(w, r, req.Model, req.LoRA)
	if apiErr != nil {
		writeError(w, r, apiErr)
		return nil, false
	}
	d = &dialogue{target: t, req: req, input: input}
	requests, err := d.requests(r.Context(), s.templates[t.base])
	if err == nil {
		d.generation, err = t.generate(r.Context(), requests)
	}
	if err != nil {
		t.release()
		writeError(w, r, d.error(err))
		return nil, false
	}
	if names := t.adapters(); names != "" {
		w.Header().Set(adapterHeader, names)
	}
	return d, true
}

// close waits until the engine is through, and gives the adapters back. It may be
// called twice.
func (d *dialogue) close() {
	d.finish()
	d.target.release()
}

func (d *dialogue) error(err error) *api.Error { return chatError(err, d.req.Model, d.input) }

// requests makes the engine's requests, one for each choice.
func (d *dialogue) requests(ctx context.Context, template func() (*chat.Template, error)) ([]*backend.Request, error) {
	engine := d.target.base.Engine
	if err := checkVocabulary(engine, &d.req.Sampling, d.req.StopTokens); err != nil {
		return nil, err
	}
	t, err := template()
	if err != nil {
		return nil, err
	}
	c := conversation(d.req)
	text, err := t.Render(ctx, c)
	if err != nil {
		return nil, err
	}
	tokens, err := conversationTokens(engine, text)
	if err != nil {
		return nil, err
	}
	d.usage.PromptTokens = len(tokens)
	common := backend.Request{
		Prompt: tokens, NoCache: d.req.NoCache, MaxTokens: d.req.MaxTokens, Sampling: sampling(&d.req.Sampling),
		Stop: d.req.Stop, StopTokens: d.req.StopTokens, IncludeStop: d.req.IncludeStop, Logprobs: d.req.Logprobs,
	}
	if common.MaxTokens == 0 { // the rest of the context; the engine refuses a prompt that leaves nothing
		common.MaxTokens = max(1, engine.Info().Context-len(tokens))
	}
	if common.Sampling.BadWords, err = badWords(engine, d.req.BadWords); err != nil {
		return nil, err
	}
	choice := chatChoice(d.req.ToolChoice)
	if choice.Mode != chat.None {
		constraint, err := t.Constrain(c.Tools, choice)
		if err != nil {
			return nil, err
		}
		common.Sampling.Grammar, common.Sampling.GrammarAfter = constraint.Grammar, constraint.After
		common.SpecialText = true // what marks a call may be a special token
	}
	d.target.place(&common)
	var out []*backend.Request
	for j := range d.req.N {
		own := common
		own.Sampling.Seed += uint32(j)
		out = append(out, &own)
		if choice.Mode != chat.None {
			d.parsers = append(d.parsers, t.NewParser(c.Tools, choice))
		}
	}
	d.called, d.tokens = make([]bool, d.req.N), make([]int, d.req.N)
	return out, nil
}

// piece is what an event adds to its choice.
type piece struct {
	chat.Delta
	logprobs []api.TokenLogprob // nil if none are wanted
	finish   string             // OpenAI's reason, with the last piece
}

func (d *dialogue) piece(ev choiceEvent) piece {
	d.usage.CompletionTokens += ev.Generated - d.tokens[ev.index]
	d.usage.TotalTokens = d.usage.PromptTokens + d.usage.CompletionTokens
	d.tokens[ev.index] = ev.Generated
	p := piece{Delta: chat.Delta{Content: ev.Text}}
	if d.req.Logprobs >= 0 {
		p.logprobs = tokenLogprobs(d.target.base.Engine, ev.Tokens)
	}
	if d.parsers != nil {
		p.Delta = d.parsers[ev.index].Add(ev.Text)
	}
	if ev.Finish == "" {
		d.called[ev.index] = d.called[ev.index] || len(p.Calls) > 0
		return p
	}
	if d.parsers != nil {
		rest := d.parsers[ev.index].End()
		p.Content += rest.Content
		p.Calls = append(p.Calls, rest.Calls...)
	}
	d.called[ev.index] = d.called[ev.index] || len(p.Calls) > 0
	if ev.index == 0 { // the prompt counts once
		d.usage.PromptTokensDetails.CachedTokens = ev.Cached
	}
	p.finish = string(ev.Finish)
	// As OpenAI has it, an answer that could be nothing but a named call just stops.
	if d.called[ev.index] && ev.Finish == backend.FinishStop && d.req.ToolChoice.Mode != api.ToolsNamed {
		p.finish = "tool_calls"
	}
	return p
}

// tokenLogprobs describes the tokens of the answer. Those that are not in its text,
// such as the one that ends it, are left out.
func tokenLogprobs(e backend.Engine, infos []backend.TokenInfo) []api.TokenLogprob {
	out := []api.TokenLogprob{}
	for _, i := range infos {
		if i.Text == "" {
			continue
		}
		t := api.TokenLogprob{LikelyToken: api.NewLikelyToken([]byte(i.Text), i.Logprob), TopLogprobs: []api.LikelyToken{}}
		for _, top := range i.Top {
			t.TopLogprobs = append(t.TopLogprobs, api.NewLikelyToken(e.Piece(top.ID, true), top.Logprob))
		}
		out = append(out, t)
	}
	return out
}
