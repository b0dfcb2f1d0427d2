package server

import (
	"net/http"
	"time"

	"lorikeet/api"
	"lorikeet/api/sse"
	"lorikeet/chat"
)

// chatCompletions answers POST /v1/chat/completions.
func (s *Server) chatCompletions(w http.ResponseWriter, r *http.Request) {
	req, ok := accept(s, w, r, api.DecodeChat)
	if !ok {
		return
	}
	d, ok := s.begin(w, r, req, "messages")
	if !ok {
		return
	}
	defer d.close()
	if req.Stream {
		d.streamChat(w, r)
		return
	}
	answer, apiErr := d.collectChat()
	d.close() // a client that reads slowly does not keep the slot
	if apiErr != nil {
		writeError(w, r, apiErr)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// collectChat puts everything into one response.
func (d *dialogue) collectChat() (*api.ChatCompletion, *api.Error) {
	out := &api.ChatCompletion{
		ID: "chatcmpl-" + randomID(), Object: "chat.completion", Created: time.Now().Unix(), Model: d.req.Model,
		SystemFingerprint: d.target.fingerprint(), Choices: make([]api.ChatChoice, d.req.N), Usage: &d.usage,
	}
	text := make([][]byte, d.req.N)
	for ev := range d.events {
		if ev.Err != nil {
			return nil, d.error(ev.Err)
		}
		p, c := d.piece(ev), &out.Choices[ev.index]
		text[ev.index] = append(text[ev.index], p.Content...)
		for _, call := range p.Calls {
			c.Message.ToolCalls = addCall(c.Message.ToolCalls, call)
		}
		if p.logprobs != nil {
			if c.Logprobs == nil {
				c.Logprobs = &api.ChatLogprobs{Content: []api.TokenLogprob{}}
			}
			c.Logprobs.Content = append(c.Logprobs.Content, p.logprobs...)
		}
		c.FinishReason = p.finish
	}
	for i := range out.Choices {
		c := &out.Choices[i]
		c.Index, c.Message.Role = i, "assistant"
		if len(text[i]) > 0 || len(c.Message.ToolCalls) == 0 {
			content := string(text[i])
			c.Message.Content = &content
		}
	}
	return out, nil
}

// addCall adds a piece of a call to the calls before.
func addCall(calls []api.ToolCall, d chat.CallDelta) []api.ToolCall {
	for len(calls) <= d.Index {
		calls = append(calls, api.ToolCall{Type: "function"})
	}
	c := &calls[d.Index]
	c.ID += d.ID
	c.Function.Name += d.Name
	c.Function.Arguments += d.Arguments
	return calls
}

// streamChat writes each event as it comes.
func (d *dialogue) streamChat(w http.ResponseWriter, r *http.Request) {
	c := &chatStream{out: sse.NewWriter(w), begun: make([]bool, d.req.N), chunk: api.ChatChunk{
		ID: "chatcmpl-" + randomID(), Object: "chat.completion.chunk", Created: time.Now().Unix(), Model: d.req.Model,
		SystemFingerprint: d.target.fingerprint(), Usage: api.OptionalUsage{Present: d.req.IncludeUsage},
	}}
	for ev := range d.events {
		if ev.Err != nil {
			e := d.error(ev.Err)
			if !c.out.Begun() {
				writeError(w, r, e)
				return
			}
			if c.out.Send(e) == nil {
				_ = c.out.Done()
			}
			return
		}
		p := d.piece(ev)
		if d.req.UsageSoFar {
			c.chunk.Usage.Usage = &d.usage
		}
		if c.send(ev.index, p) != nil {
			return // the client is gone
		}
	}
	if d.req.IncludeUsage {
		c.chunk.Choices = []api.ChatChunkChoice{}
		c.chunk.Usage.Usage = &d.usage
		if c.out.Send(&c.chunk) != nil {
			return
		}
	}
	_ = c.out.Done() // the client may leave now
}

// chatStream cuts pieces into chunks as clients put them together: first the role, then
// text or one call in each, last the reason why the choice ended.
type chatStream struct {
	out   *sse.Writer
	chunk api.ChatChunk // without choices
	begun []bool        // choices that have their role
}

func (c *chatStream) send(index int, p piece) error {
	var deltas []api.ChatChunkChoice
	add := func(d api.ChatDelta) { deltas = append(deltas, api.ChatChunkChoice{Index: index, Delta: d}) }
	empty := ""
	if !c.begun[index] {
		c.begun[index] = true
		add(api.ChatDelta{Role: "assistant", Content: &empty})
	}
	if p.Content != "" || len(p.logprobs) > 0 {
		add(api.ChatDelta{Content: &p.Content})
		if p.logprobs != nil {
			deltas[len(deltas)-1].Logprobs = &api.ChatLogprobs{Content: p.logprobs}
		}
	}
	for _, call := range p.Calls {
		t := api.ToolCall{Index: &call.Index, ID: call.ID, Function: api.FunctionCall{Name: call.Name, Arguments: call.Arguments}}
		if call.ID != "" {
			t.Type = "function"
		}
		add(api.ChatDelta{ToolCalls: []api.ToolCall{t}})
	}
	if p.finish != "" {
		add(api.ChatDelta{})
		deltas[len(deltas)-1].FinishReason = &p.finish
	}
	for i := range deltas {
		c.chunk.Choices = deltas[i : i+1]
		if err := c.out.Send(&c.chunk); err != nil {
			return err
		}
	}
	return nil
}
