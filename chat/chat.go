// Package chat turns conversations into prompts and answers back into messages: it runs
// a base's chat template (Jinja), knows how families of models write tool calls, makes
// the grammar that holds a model to that form, and reads the calls out of its answer
// while it comes.
//
//	Compile(ModelInfo.ChatTemplate) -> Template
//	Template.Render(Conversation) -> prompt text
//	Template.Constrain(tools, choice) -> grammar for the sampler
//	Template.NewParser(tools, choice) -> Parser: text of events in, Deltas out
//
// Templates come from the operator's files and never from a request; they are still run
// within bounds of time and size. This package knows neither HTTP nor OpenAI's wire
// types, nor engines.
package chat

import "encoding/json"

// Message is one turn of a conversation. Roles are system, user, assistant and tool.
type Message struct {
	Role       string
	Content    string
	Name       string // of who speaks; "" if it was not given
	ToolCalls  []ToolCall
	ToolCallID string // of the call that a tool's message answers
}

// Tool is a function that the model may call.
type Tool struct {
	Name        string
	Description string
	Parameters  json.RawMessage // JSON schema of an object; nil: no parameters
	Strict      bool
}

// ToolCall is a call of a tool.
type ToolCall struct {
	ID        string
	Name      string
	Arguments string // JSON of an object
}

// Choice says whether tools may or must be called.
type Choice struct {
	Mode     Mode
	Name     string // of the tool, for Named
	Parallel bool   // more than one call in an answer
}

// Mode of a Choice.
type Mode int

// Modes.
const (
	None Mode = iota
	Auto
	Required
	Named
)

// Conversation is what a template renders.
type Conversation struct {
	Messages []Message
	Tools    []Tool
	Continue bool           // the answer goes on with the last message, an assistant's, instead of a new one
	Extra    map[string]any // further variables of the template, such as enable_thinking
}

// Constraint is what holds an answer to calls of tools; the zero value is none.
type Constraint struct {
	Grammar string   // GBNF
	After   []string // the strings from which on it holds, as backend.Sampling.GrammarAfter has it
}

// Delta is what a piece of an answer adds to a message.
type Delta struct {
	Content string
	Calls   []CallDelta
}

// CallDelta is what is added to a tool call. ID and Name come once, with its first delta.
type CallDelta struct {
	Index     int
	ID        string
	Name      string
	Arguments string // to be appended
}
