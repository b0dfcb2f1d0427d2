package api

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Limits of a chat request.
const (
	MaxMessages     = 4096
	MaxParts        = 1024 // of one message
	MaxTemplateArgs = 64
)

// ChatRequest is a valid request for /v1/chat/completions, and the better part of one
// for /v1/responses.
type ChatRequest struct {
	Model        string
	Messages     []ChatMessage // at least one
	Tools        []Tool        // none if they must not be called
	ToolChoice   ToolChoice
	TemplateArgs map[string]any // strings, booleans and numbers
	Continue     bool           // the last message, an assistant's, goes on
	MaxTokens    int            // 0: as many as the context holds
	Sampling
	N            int
	Stop         []string
	StopTokens   []int32
	IncludeStop  bool
	Logprobs     int // -1: none
	Stream       bool
	IncludeUsage bool // in a stream
	UsageSoFar   bool // with each piece of it
	NoCache      bool
	LoRA         []LoRA
}

// ChatMessage is one turn. Roles are system, user, assistant and tool.
type ChatMessage struct {
	Role       string
	Content    string
	Name       string
	ToolCalls  []MessageCall
	ToolCallID string
}

// MessageCall is a tool call that an assistant made before.
type MessageCall struct {
	ID        string
	Name      string
	Arguments string // JSON of an object
}

// Fields of a chat that would change the answer and are not served; see unsupported.
// A verbosity is taken and does nothing: no template knows it.
var chatUnsupported = map[string][]string{
	"modalities": {`["text"]`}, "audio": {}, "prediction": {}, "web_search_options": {}, "echo": nil, "best_of": nil,
	"use_beam_search": nil, "prompt_logprobs": {}, "return_token_ids": nil, "return_tokens_as_token_ids": nil, "skip_special_tokens": {"true"},
	"truncate_prompt_tokens": {"-1", "0"}, "documents": nil, "chat_template": {`""`}, "mm_processor_kwargs": nil,
}

// DecodeChat reads and validates a request body.
func DecodeChat(body []byte) (*ChatRequest, *Error) {
	f, err := parseFields(body)
	if err != nil {
		return nil, err
	}
	r := f.common(f.maxTokens())
	r.N = f.integer("n", 1, 1, MaxChoices)
	r.Messages = f.messages()
	r.Continue = f.continues(r.Messages)
	r.Logprobs = f.chatLogprobs()
	r.IncludeUsage, r.UsageSoFar = f.streamOptions(r.Stream)
	if effort := f.text("reasoning_effort"); effort != "" {
		r.templateArg("reasoning_effort", effort)
	}
	for _, name := range []string{"functions", "function_call"} {
		if _, ok := f.raw[name]; ok {
			f.fail(Invalid(name, "unsupported_parameter", "Unsupported parameter: '%s' is deprecated and not supported with this server; use 'tools' and 'tool_choice'.", name))
		}
	}
	f.tools(r, nestedTool)
	f.text("verbosity")
	f.refuseUnsupported(chatUnsupported, r.N)
	f.constrain(r, f.grammar)
	if f.err != nil {
		return nil, f.err
	}
	return r, nil
}

// common reads what chats and responses spell the same.
func (f *fields) common(maxTokens int) *ChatRequest {
	r := &ChatRequest{
		Model:       f.text("model"),
		MaxTokens:   maxTokens,
		N:           1,
		Stop:        f.stop(),
		StopTokens:  f.tokens("stop_token_ids", MaxStops),
		IncludeStop: f.boolean("include_stop_str_in_output", false),
		Logprobs:    -1,
		Stream:      f.boolean("stream", false),
		NoCache:     !f.boolean("cache_prompt", true),
		LoRA:        f.lora(),
	}
	if maxTokens == 0 {
		maxTokens = math.MaxInt32
	}
	r.Sampling = f.sampling(maxTokens)
	if f.err == nil && r.Model == "" {
		f.missing("model")
	}
	r.TemplateArgs = f.templateArgs()
	// What follows says who asks and where answers are kept; it does not change them.
	for _, name := range []string{"user", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"} {
		f.text(name)
	}
	f.boolean("store", false)
	f.object("metadata")
	return r
}

// constrain reads the grammar of the answer, last: it is the most work. Where tools may
// be called, their grammar is in its place.
func (f *fields) constrain(r *ChatRequest, grammar func() string) {
	if f.err != nil {
		return
	}
	r.Grammar = grammar()
	if r.Grammar != "" && len(r.Tools) > 0 {
		f.fail(Invalid("tools", "invalid_value", "Invalid 'tools': they can't be used in a request whose answer must have a format of its own; set 'tool_choice' to 'none', or leave the format out."))
	}
}

// maxTokens reads either name of the limit; 0 is none.
func (f *fields) maxTokens() int {
	n := f.integer("max_completion_tokens", 0, 1, math.MaxInt32)
	old := f.integer("max_tokens", n, 1, math.MaxInt32)
	if n != 0 && old != n {
		f.fail(Invalid("max_tokens", "invalid_value", "Invalid 'max_tokens': it is %d, but 'max_completion_tokens' is %d. Set one of them.", old, n))
	}
	return old
}

// chatLogprobs returns how many of the most likely tokens are wanted; -1 is no
// log-probabilities at all.
func (f *fields) chatLogprobs() int {
	wanted := f.boolean("logprobs", false)
	top := f.integer("top_logprobs", 0, 0, MaxLogprobs)
	switch {
	case wanted:
		return top
	case top > 0:
		f.fail(Invalid("top_logprobs", "", "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."))
	}
	return -1
}

// continues tells whether the answer goes on with the last message.
func (f *fields) continues(messages []ChatMessage) bool {
	_, given := f.raw["add_generation_prompt"]
	begin := f.boolean("add_generation_prompt", true)
	goOn := f.boolean("continue_final_message", false)
	switch {
	case f.err != nil:
	case goOn && given && begin:
		f.fail(Invalid("continue_final_message", "invalid_value", "Invalid 'continue_final_message': it can't be used with 'add_generation_prompt'."))
	case !goOn && !begin:
		f.fail(Invalid("add_generation_prompt", "unsupported_parameter", "Unsupported parameter: 'add_generation_prompt' can be false only with 'continue_final_message'."))
	case goOn:
		if last := messages[len(messages)-1]; last.Role != "assistant" || len(last.ToolCalls) > 0 {
			f.fail(Invalid("continue_final_message", "invalid_value", "Invalid 'continue_final_message': the last message is not an assistant's, or calls tools."))
		}
	}
	return goOn
}

// templateArgs reads further variables of the chat template.
func (f *fields) templateArgs() map[string]any {
	const name, want = "chat_template_kwargs", "an object whose values are strings, booleans or numbers"
	if separators(f.raw[name]) >= MaxTemplateArgs {
		f.fail(Invalid(name, "object_above_max_length", "Invalid '%s': at most %d members are allowed.", name, MaxTemplateArgs))
		return nil
	}
	sub := f.object(name)
	var out map[string]any
	for key, v := range sub.raw {
		var value any
		if v[0] == '{' || v[0] == '[' || json.Unmarshal(v, &value) != nil {
			f.fail(wrongType(name, want, v))
			return nil
		}
		if out == nil {
			out = map[string]any{}
		}
		if n, err := strconv.Atoi(string(v)); err == nil { // written as 1, not 1.0
			value = n
		}
		out[key] = value
	}
	return out
}

// templateArg sets a variable of the template that the client has not set.
func (r *ChatRequest) templateArg(name string, value any) {
	if r.TemplateArgs == nil {
		r.TemplateArgs = map[string]any{}
	}
	if _, ok := r.TemplateArgs[name]; !ok {
		r.TemplateArgs[name] = value
	}
}

func (f *fields) messages() []ChatMessage {
	v, ok := f.raw["messages"]
	if !ok {
		f.missing("messages")
		return nil
	}
	var out []ChatMessage
	for i, e := range f.elements("messages", v, "an array of messages", MaxMessages) {
		path := fmt.Sprintf("messages[%d]", i)
		m, ok := parseMembers(e, path)
		if !ok {
			f.fail(wrongType(path, "an object", e))
			return nil
		}
		out = append(out, m.message())
		if f.fail(m.err); f.err != nil {
			return nil
		}
	}
	if len(out) == 0 {
		f.empty("messages")
	}
	return out
}

// message reads one message from its members.
func (f *fields) message() ChatMessage {
	m := ChatMessage{Role: f.role(), Name: f.text("name")}
	switch m.Role {
	case "assistant":
		if _, ok := f.raw["function_call"]; ok {
			f.refuse("function_call")
		}
		m.ToolCalls = f.messageCalls()
		if v, ok := f.raw["refusal"]; ok && f.raw["content"] == nil {
			m.Content = f.utf8("refusal", v)
			return m
		}
	case "tool":
		if m.ToolCallID = f.text("tool_call_id"); m.ToolCallID == "" {
			f.missing("tool_call_id")
		}
	}
	if f.raw["content"] == nil && len(m.ToolCalls) == 0 {
		f.missing("content")
	}
	m.Content = f.content("content", "text", "refusal")
	return m
}

// role reads who speaks; a developer speaks as the system.
func (f *fields) role() string {
	if f.raw["role"] == nil {
		f.missing("role")
	}
	switch role := f.text("role"); role {
	case "developer":
		return "system"
	case "system", "user", "assistant", "tool":
		return role
	case "function":
		f.fail(invalid(f.path("role"), "invalid_value", "Invalid '%s': 'function' is deprecated and not supported with this server; use 'tool'.", f.path("role")))
	default:
		f.fail(invalid(f.path("role"), "invalid_value", "Invalid '%s': %s is none of 'system', 'developer', 'user', 'assistant' and 'tool'.", f.path("role"), quote(role)))
	}
	return ""
}

// content reads a string, or parts of some types, whose texts become lines.
func (f *fields) content(name string, types ...string) string {
	v, ok := f.raw[name]
	switch {
	case !ok:
		return ""
	case v[0] == '"':
		return f.utf8(name, v)
	}
	var lines []string
	parts := f.elements(name, v, "a string or an array of parts", MaxParts)
	for i, e := range parts {
		path := fmt.Sprintf("%s[%d]", f.path(name), i)
		part, ok := parseMembers(e, path)
		if !ok {
			f.fail(wrongType(path, "an object", e))
			return ""
		}
		lines = append(lines, part.part(types))
		if f.fail(part.err); f.err != nil {
			return ""
		}
	}
	if f.err == nil && len(parts) == 0 {
		f.empty(name)
	}
	return strings.Join(lines, "\n")
}

// part reads the text of a part that has one of some types.
func (f *fields) part(types []string) string {
	if f.raw["type"] == nil {
		f.missing("type")
		return ""
	}
	kind := f.text("type")
	for _, t := range types {
		if t != kind || f.err != nil {
			continue
		}
		member := "text"
		if t == "refusal" {
			member = t
		}
		v, ok := f.raw[member]
		switch {
		case !ok:
			f.missing(member)
		case v[0] != '"':
			f.wrongType(member, "a string")
		default:
			return f.utf8(member, v)
		}
		return ""
	}
	f.fail(invalid(f.path("type"), "invalid_value", "Invalid '%s': %s is not supported with this server, which takes text only.", f.path("type"), quote(kind)))
	return ""
}

// messageCalls reads the tool calls of an assistant's message.
func (f *fields) messageCalls() []MessageCall {
	v, ok := f.raw["tool_calls"]
	if !ok {
		return nil
	}
	var out []MessageCall
	for i, e := range f.elements("tool_calls", v, "an array of tool calls", MaxTools) {
		path := fmt.Sprintf("%s[%d]", f.path("tool_calls"), i)
		call, ok := parseMembers(e, path)
		if !ok {
			f.fail(wrongType(path, "an object", e))
			return nil
		}
		if kind := call.text("type"); call.err == nil && kind != "" && kind != "function" {
			call.fail(invalid(call.path("type"), "invalid_value", "Invalid '%s': %s is not 'function'.", call.path("type"), quote(kind)))
		}
		c := MessageCall{ID: call.text("id")}
		if c.ID == "" {
			call.missing("id")
		}
		if call.raw["function"] == nil {
			call.missing("function")
		}
		function := call.object("function")
		c.Name, c.Arguments = function.call()
		call.fail(function.err)
		if f.fail(call.err); f.err != nil {
			return nil
		}
		out = append(out, c)
	}
	return out
}

// call reads name and arguments of a call that was made.
func (f *fields) call() (name, arguments string) {
	if name = f.text("name"); name == "" {
		f.missing("name")
	}
	v, ok := f.raw["arguments"]
	if !ok {
		f.missing("arguments")
		return "", ""
	}
	if v[0] != '"' {
		f.wrongType("arguments", "a string")
		return "", ""
	}
	arguments = f.utf8("arguments", v)
	if arguments == "" { // of functions that take none
		arguments = "{}"
	}
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(arguments), &object) != nil || object == nil {
		f.fail(invalid(f.path("arguments"), "invalid_value", "Invalid '%s': it is not the JSON of an object.", f.path("arguments")))
	}
	return name, arguments
}
