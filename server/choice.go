package server

import (
	"lorikeet/api"
	"lorikeet/backend"
)

// choice turns events into pieces of one answer.
type choice struct {
	req       *api.CompletionRequest
	engine    backend.Engine
	index     int
	prompt    []backend.Token // until its ids were sent
	echo      string          // the prompt, until it was sent
	written   []string        // what the tokens of echo stand for; nil if that is not told
	logprobs  *logprobList    // nil if none are wanted
	generated int             // tokens so far

	sum    float64 // of the log-probabilities of the tokens so far
	scored int
}

func newChoice(req *api.CompletionRequest, e backend.Engine, index int, prompt []backend.Token) *choice {
	c := &choice{req: req, engine: e, index: index}
	if req.TokenIDs {
		c.prompt = prompt
	}
	if req.Logprobs >= 0 {
		c.logprobs = &logprobList{engine: e, top: req.Logprobs, ids: req.TokensAsIDs}
	}
	return c
}

func (c *choice) piece(ev backend.Event) api.Choice {
	out := api.Choice{Index: c.index, Text: c.echo + ev.Text}
	c.echo = ""
	if c.logprobs != nil {
		var prompt []backend.TokenInfo
		if c.req.Echo {
			prompt = c.spell(ev.Prompt)
		}
		out.Logprobs = c.logprobs.list(prompt, ev.Tokens)
	}
	if c.req.PromptLogprobs >= 0 && ev.Prompt != nil {
		out.PromptLogprobs = c.promptLogprobs(ev.Prompt)
	}
	if c.req.TokenIDs {
		out.PromptTokenIDs, c.prompt = c.prompt, nil
		out.TokenIDs = []int32{}
	}
	for _, t := range ev.Tokens {
		c.sum += float64(t.Logprob)
		c.scored++
		if c.req.TokenIDs {
			out.TokenIDs = append(out.TokenIDs, t.ID)
		}
	}
	if ev.Finish != "" {
		reason := string(ev.Finish)
		out.FinishReason = &reason
	}
	return out
}

// spell gives the prompt's tokens the text that they have in the echo.
func (c *choice) spell(prompt []backend.TokenInfo) []backend.TokenInfo {
	for i := range prompt {
		if i < len(c.written) {
			prompt[i].Text = c.written[i]
		}
	}
	return prompt
}

// promptLogprobs tells of each token of the prompt, and of the most likely ones in its
// place.
func (c *choice) promptLogprobs(prompt []backend.TokenInfo) []map[string]api.PromptLogprob {
	out := make([]map[string]api.PromptLogprob, len(prompt))
	for i, t := range prompt {
		if !t.Scored {
			continue
		}
		out[i] = map[string]api.PromptLogprob{}
		put := func(id backend.Token, lp float32, rank *int) {
			out[i][tokenID(id)] = api.PromptLogprob{Logprob: api.Logprob(lp), Rank: rank, Decoded: api.TokenText(c.engine.Piece(id, true))}
		}
		put(t.ID, t.Logprob, nil)
		for n, top := range t.Top {
			rank := n + 1
			if n < c.req.PromptLogprobs || top.ID == t.ID {
				put(top.ID, top.Logprob, &rank)
			}
		}
	}
	return out
}

// likelihood is the mean log-probability of a token.
func (c *choice) likelihood() float64 { return c.sum / float64(max(1, c.scored)) }
