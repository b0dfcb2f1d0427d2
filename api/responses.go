package api

import (
	"encoding/json"
	"fmt"
	"math"
)

// ResponsesRequest is a valid request for /v1/responses. It carries the settings that
// the answer repeats as the client sent them.
type ResponsesRequest struct {
	ChatRequest
	Settings ResponseSettings
}

// Fields of a response that would change the answer and are not served; see
// unsupported.
var responsesUnsupported = map[string][]string{
	"previous_response_id": {`""`}, "conversation": {}, "background": {"false"}, "prompt": {}, "truncation": {`"disabled"`}, "context_management": {"[]"},
	"n": {"1"}, "echo": nil, "best_of": nil, "use_beam_search": nil, "max_tokens": {}, "max_completion_tokens": {},
	"messages": {}, "logprobs": {}, "skip_special_tokens": {"true"}, "truncate_prompt_tokens": {"-1", "0"}, "modalities": {`["text"]`},
}

// Includable members of an answer. That which there is none of may be asked for.
const (
	includeLogprobs  = "message.output_text.logprobs"
	includeReasoning = "reasoning.encrypted_content"
)

// DecodeResponses reads and validates a request body.
func DecodeResponses(body []byte) (*ResponsesRequest, *Error) {
	f, err := parseFields(body)
	if err != nil {
		return nil, err
	}
	maxTokens := f.integer("max_output_tokens", 0, 1, math.MaxInt32)
	r := &ResponsesRequest{ChatRequest: *f.common(maxTokens)}
	if v, ok := f.raw["instructions"]; ok {
		if v[0] != '"' {
			f.wrongType("instructions", "a string")
		} else {
			r.Messages = append(r.Messages, ChatMessage{Role: "system", Content: f.utf8("instructions", v)})
		}
	}
	r.Messages = append(r.Messages, f.input()...)
	r.Logprobs = f.includedLogprobs()
	reasoning := f.object("reasoning")
	if effort := reasoning.text("effort"); effort != "" {
		r.templateArg("reasoning_effort", effort)
	}
	f.fail(reasoning.err)
	f.object("stream_options") // how events are disguised; they are not
	f.tools(&r.ChatRequest, flatTool)
	f.refuseUnsupported(responsesUnsupported, 1)
	if v := f.raw["response_format"]; v != nil {
		f.fail(Invalid("response_format", "unsupported_parameter", "Unsupported parameter: 'response_format' is 'text.format' in this API."))
	}
	f.constrain(&r.ChatRequest, f.textGrammar)
	if f.err != nil {
		return nil, f.err
	}
	r.Settings = f.settings(r, maxTokens)
	return r, nil
}

// settings collects what the answer repeats.
func (f *fields) settings(r *ResponsesRequest, maxTokens int) ResponseSettings {
	s := ResponseSettings{
		Instructions: f.raw["instructions"], Metadata: json.RawMessage("{}"), Model: r.Model,
		ParallelToolCalls: r.ToolChoice.Parallel, Temperature: r.Temperature, ToolChoice: json.RawMessage(`"auto"`), Tools: json.RawMessage("[]"), TopP: r.TopP,
		Text: json.RawMessage(`{"format":{"type":"text"}}`), TopLogprobs: max(0, r.Logprobs), Truncation: "disabled", User: f.raw["user"],
	}
	if maxTokens > 0 {
		s.MaxOutputTokens = &maxTokens
	}
	for name, to := range map[string]*json.RawMessage{"metadata": &s.Metadata, "tool_choice": &s.ToolChoice, "tools": &s.Tools} {
		if v, ok := f.raw[name]; ok {
			*to = v
		}
	}
	if v, ok := f.object("text").raw["format"]; ok {
		s.Text = json.RawMessage(fmt.Sprintf(`{"format":%s}`, v))
	}
	return s
}

// textGrammar reads the constraint of the answer: text.format, or one of the extras
// that other requests have.
func (f *fields) textGrammar() string {
	text := f.object("text")
	format := text.object("format")
	text.text("verbosity")
	gbnf := ""
	if text.err == nil && len(format.raw) > 0 {
		gbnf = format.formatGrammar()
	}
	text.fail(format.err)
	f.fail(text.err)
	other := f.grammar()
	if gbnf != "" && other != "" {
		f.fail(Invalid("text", "invalid_value", "Invalid 'text.format': another field constrains the answer already; only one of them can be used."))
	}
	return gbnf + other
}

// formatGrammar reads a format whose schema lies beside its type.
func (f *fields) formatGrammar() string {
	if f.raw["type"] == nil {
		f.missing("type")
	}
	switch kind := f.text("type"); {
	case f.err != nil || kind == "text":
	case kind == "json_object":
		return f.anyObject("type")
	case kind == "json_schema":
		f.text("name")
		f.text("description")
		f.boolean("strict", false)
		if f.raw["schema"] == nil {
			f.missing("schema")
		}
		if f.err == nil {
			return f.fromSchema("schema")
		}
	default:
		f.fail(invalid(f.path("type"), "invalid_value", "Invalid '%s': %s is none of 'text', 'json_object' and 'json_schema'.", f.path("type"), quote(kind)))
	}
	return ""
}

// includedLogprobs returns how many of the most likely tokens are wanted; -1 is no
// log-probabilities at all.
func (f *fields) includedLogprobs() int {
	const want = "an array of strings"
	top := f.integer("top_logprobs", 0, 0, MaxLogprobs)
	v, ok := f.raw["include"]
	if !ok {
		return -1
	}
	wanted := -1
	for _, e := range f.elements("include", v, want, 64) {
		if e[0] != '"' {
			f.fail(wrongType("include", want, e))
			return -1
		}
		switch member := f.utf8("include", e); member {
		case includeLogprobs:
			wanted = top
		case includeReasoning:
		default:
			f.fail(Invalid("include", "invalid_value", "Invalid 'include': %s is not supported with this server.", quote(member)))
		}
	}
	return wanted
}

// input reads the conversation: a user's text, or items.
func (f *fields) input() []ChatMessage {
	v, ok := f.raw["input"]
	if !ok {
		f.missing("input")
		return nil
	}
	if v[0] == '"' {
		return []ChatMessage{{Role: "user", Content: f.utf8("input", v)}}
	}
	items := f.elements("input", v, "a string or an array of items", MaxMessages)
	if f.err == nil && len(items) == 0 {
		f.empty("input")
	}
	var out []ChatMessage
	for i, e := range items {
		path := fmt.Sprintf("input[%d]", i)
		item, ok := parseMembers(e, path)
		if !ok {
			f.fail(wrongType(path, "an object", e))
			return nil
		}
		out = item.item(out)
		if f.fail(item.err); f.err != nil {
			return nil
		}
	}
	return out
}

// item adds an item of the input to the messages before it.
func (f *fields) item(before []ChatMessage) []ChatMessage {
	switch kind := f.text("type"); kind {
	case "", "message":
		m := ChatMessage{Role: f.role()}
		if m.Role == "tool" {
			f.fail(invalid(f.path("role"), "invalid_value", "Invalid '%s': what a tool answers is an item of type 'function_call_output'.", f.path("role")))
		}
		if f.raw["content"] == nil {
			f.missing("content")
		}
		m.Content = f.content("content", "input_text", "output_text", "refusal")
		return append(before, m)
	case "function_call":
		c := MessageCall{ID: f.callID()}
		c.Name, c.Arguments = f.call()
		// What the assistant says and calls in one go are separate items, but one message.
		if last := len(before) - 1; last >= 0 && before[last].Role == "assistant" {
			before[last].ToolCalls = append(before[last].ToolCalls, c)
			return before
		}
		return append(before, ChatMessage{Role: "assistant", ToolCalls: []MessageCall{c}})
	case "function_call_output":
		if f.raw["output"] == nil {
			f.missing("output")
		}
		return append(before, ChatMessage{Role: "tool", ToolCallID: f.callID(), Content: f.content("output", "input_text", "output_text")})
	default:
		f.fail(invalid(f.path("type"), "invalid_value", "Invalid '%s': items of type %s are not supported with this server.", f.path("type"), quote(kind)))
	}
	return nil
}

func (f *fields) callID() string {
	id := f.text("call_id")
	if id == "" {
		f.missing("call_id")
	}
	return id
}
