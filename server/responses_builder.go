package server

import (
	"net/http"

	"lorikeet/api"
	"lorikeet/chat"
)

// responseBuilder makes a response of pieces, item by item, and tells each step as an
// event. One item at most is open: text goes to a message, calls have an item each.
type responseBuilder struct {
	response api.Response
	tell     func(api.ResponseEvent) error // an error ends it: the client is gone

	message   *api.MessageItem // the open item, or
	call      *api.CallItem
	callIndex int    // of call, as the parser counts
	text      []byte // of the open item: what is said, or arguments
	logprobs  []api.TokenLogprob
}

// begin tells that there is a response.
func (b *responseBuilder) begin() error {
	if err := b.whole("response.created"); err != nil {
		return err
	}
	return b.whole("response.in_progress")
}

func (b *responseBuilder) whole(event string) error {
	return b.tell(&api.WholeEvent{EventHead: api.EventHead{Type: event}, Response: &b.response})
}

// add takes a piece in; the last one brings the response to its end.
func (b *responseBuilder) add(p piece, usage *api.Usage) error {
	if len(p.Calls) > 0 && b.call != nil && p.Calls[0].Index == b.callIndex { // text behind it comes after it
		if err := b.addCall(p.Calls[0]); err != nil {
			return err
		}
		p.Calls = p.Calls[1:]
	}
	nothing := p.finish != "" && len(p.Calls) == 0 && len(b.response.Output) == 0 // then an empty message is the answer
	if p.Content != "" || len(p.logprobs) > 0 && b.call == nil && len(p.Calls) == 0 || nothing {
		if err := b.say(p.Content, p.logprobs); err != nil {
			return err
		}
	}
	for _, c := range p.Calls {
		if err := b.addCall(c); err != nil {
			return err
		}
	}
	if p.finish == "" {
		return nil
	}
	return b.end(p.finish, usage)
}

// say adds text to the open message, or to a new one.
func (b *responseBuilder) say(text string, logprobs []api.TokenLogprob) error {
	if b.message == nil {
		if err := b.closeItem("completed"); err != nil {
			return err
		}
		b.message = &api.MessageItem{ID: "msg_" + randomID(), Type: "message", Status: "in_progress", Role: "assistant", Content: []api.TextPart{}}
		b.logprobs = []api.TokenLogprob{}
		if err := b.openItem(b.message); err != nil {
			return err
		}
		if err := b.tell(&api.PartEvent{
			EventHead: api.EventHead{Type: "response.content_part.added"}, ItemID: b.message.ID, OutputIndex: b.index(), Part: b.part(),
		}); err != nil {
			return err
		}
	}
	if text == "" && len(logprobs) == 0 {
		return nil
	}
	b.text = append(b.text, text...)
	b.logprobs = append(b.logprobs, logprobs...)
	if logprobs == nil {
		logprobs = []api.TokenLogprob{}
	}
	return b.tell(&api.TextDeltaEvent{
		EventHead: api.EventHead{Type: "response.output_text.delta"}, ItemID: b.message.ID, OutputIndex: b.index(), Delta: text, Logprobs: logprobs,
	})
}

// part is the content of the open message so far.
func (b *responseBuilder) part() api.TextPart {
	return api.TextPart{Type: "output_text", Text: string(b.text), Annotations: []string{}, Logprobs: b.logprobs}
}

// addCall adds a piece of a call.
func (b *responseBuilder) addCall(c chat.CallDelta) error {
	if b.call == nil || b.callIndex != c.Index {
		if err := b.closeItem("completed"); err != nil {
			return err
		}
		b.call, b.callIndex = &api.CallItem{ID: "fc_" + randomID(), Type: "function_call", Status: "in_progress", CallID: c.ID, Name: c.Name}, c.Index
		if err := b.openItem(b.call); err != nil {
			return err
		}
	}
	if c.Arguments == "" {
		return nil
	}
	b.text = append(b.text, c.Arguments...)
	return b.tell(&api.ArgumentsDeltaEvent{
		EventHead: api.EventHead{Type: "response.function_call_arguments.delta"}, ItemID: b.call.ID, OutputIndex: b.index(), Delta: c.Arguments,
	})
}

// index is that of the open item.
func (b *responseBuilder) index() int { return len(b.response.Output) - 1 }

func (b *responseBuilder) openItem(item api.OutputItem) error {
	b.response.Output = append(b.response.Output, item)
	return b.item("response.output_item.added", item)
}

func (b *responseBuilder) item(event string, item api.OutputItem) error {
	return b.tell(&api.ItemEvent{EventHead: api.EventHead{Type: event}, OutputIndex: b.index(), Item: item})
}

// closeItem ends the open item, if there is one.
func (b *responseBuilder) closeItem(status string) error {
	message, call, text := b.message, b.call, string(b.text)
	switch {
	case message != nil:
		part := b.part()
		message.Content, message.Status = []api.TextPart{part}, status
		b.message, b.text = nil, nil
		if err := b.tell(&api.TextDoneEvent{
			EventHead: api.EventHead{Type: "response.output_text.done"}, ItemID: message.ID, OutputIndex: b.index(), Text: text, Logprobs: part.Logprobs,
		}); err != nil {
			return err
		}
		if err := b.tell(&api.PartEvent{
			EventHead: api.EventHead{Type: "response.content_part.done"}, ItemID: message.ID, OutputIndex: b.index(), Part: part,
		}); err != nil {
			return err
		}
		return b.item("response.output_item.done", message)
	case call != nil:
		call.Arguments, call.Status = text, status
		b.call, b.text = nil, nil
		if err := b.tell(&api.ArgumentsDoneEvent{
			EventHead: api.EventHead{Type: "response.function_call_arguments.done"}, ItemID: call.ID, OutputIndex: b.index(), Name: call.Name, Arguments: text,
		}); err != nil {
			return err
		}
		return b.item("response.output_item.done", call)
	}
	return nil
}

// end closes the response for a finish reason.
func (b *responseBuilder) end(finish string, u *api.Usage) error {
	b.response.Status = "completed"
	if finish == "length" {
		b.response.Status = "incomplete"
		b.response.IncompleteDetails = &api.IncompleteDetails{Reason: "max_output_tokens"}
	}
	if err := b.closeItem(b.response.Status); err != nil {
		return err
	}
	b.response.Usage = &api.ResponseUsage{
		InputTokens: u.PromptTokens, InputTokensDetails: api.InputTokensDetails{CachedTokens: u.PromptTokensDetails.CachedTokens},
		OutputTokens: u.CompletionTokens, TotalTokens: u.TotalTokens,
	}
	return b.whole("response." + b.response.Status)
}

// fail ends the response with an error.
func (b *responseBuilder) fail(e *api.Error) error {
	code := "server_error"
	switch e.Status {
	case http.StatusBadRequest:
		code = "invalid_prompt"
	case http.StatusTooManyRequests:
		code = "rate_limit_exceeded"
	}
	if err := b.closeItem("incomplete"); err != nil {
		return err
	}
	b.response.Status, b.response.Error = "failed", &api.ResponseError{Code: code, Message: e.Message}
	return b.whole("response.failed")
}
