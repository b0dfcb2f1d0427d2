package api

import (
	"encoding/json"
	"fmt"
	"regexp"
)

// MaxTools is how many tools a request may have, and calls a message.
const MaxTools = 128

// Tool is a function that the model may call.
type Tool struct {
	Name        string
	Description string
	Parameters  json.RawMessage // JSON schema of an object; nil: no parameters
	Strict      bool
}

// ToolMode says whether tools may or must be called.
type ToolMode string

// Modes; ToolsNamed is a call of one tool.
const (
	ToolsNone     ToolMode = "none"
	ToolsAuto     ToolMode = "auto"
	ToolsRequired ToolMode = "required"
	ToolsNamed    ToolMode = "function"
)

// ToolChoice is how tools are used; without tools its mode is ToolsNone.
type ToolChoice struct {
	Mode     ToolMode
	Name     string // for ToolsNamed: one of the tools
	Parallel bool   // more than one call in an answer
}

var toolName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// nestedTool finds a tool's or a choice's members where chats have them: in "function".
func nestedTool(f *fields) *fields {
	if f.raw["function"] == nil {
		f.missing("function")
	}
	return f.object("function")
}

// flatTool finds them where responses have them: beside the type.
func flatTool(f *fields) *fields { return f }

// tools reads tools and how they are to be used.
func (f *fields) tools(r *ChatRequest, function func(*fields) *fields) {
	r.ToolChoice = ToolChoice{Mode: ToolsAuto, Parallel: f.boolean("parallel_tool_calls", true)}
	seen := map[string]bool{}
	if v, ok := f.raw["tools"]; ok {
		for i, e := range f.elements("tools", v, "an array of tools", MaxTools) {
			path := fmt.Sprintf("tools[%d]", i)
			sub, ok := parseMembers(e, path)
			if !ok {
				f.fail(wrongType(path, "an object", e))
				return
			}
			t := sub.tool(function)
			if sub.err == nil && seen[t.Name] {
				sub.fail(Invalid("tools", "invalid_value", "Invalid '%s': another tool has the name %s.", path, quote(t.Name)))
			}
			if f.fail(sub.err); f.err != nil {
				return
			}
			seen[t.Name] = true
			r.Tools = append(r.Tools, t)
		}
	}
	f.toolChoice(&r.ToolChoice, function)
	switch mode := r.ToolChoice.Mode; {
	case f.err != nil:
	case mode == ToolsNamed && !seen[r.ToolChoice.Name]:
		f.fail(Invalid("tool_choice", "invalid_value", "Invalid 'tool_choice': no tool has the name %s.", quote(r.ToolChoice.Name)))
	case mode == ToolsRequired && len(r.Tools) == 0:
		f.fail(Invalid("tool_choice", "invalid_value", "Invalid 'tool_choice': it can be 'required' only when 'tools' are specified."))
	case mode == ToolsNone:
		r.Tools = nil
	case len(r.Tools) == 0:
		r.ToolChoice.Mode = ToolsNone
	}
}

func (f *fields) tool(function func(*fields) *fields) Tool {
	f.functionType()
	if f.err != nil {
		return Tool{}
	}
	sub := function(f)
	t := Tool{Name: sub.functionName(), Description: sub.text("description"), Strict: sub.boolean("strict", false)}
	if v, ok := sub.raw["parameters"]; ok {
		if v[0] != '{' {
			sub.wrongType("parameters", "an object")
		}
		if replaced(v) {
			sub.fail(invalid(sub.path("parameters"), "invalid_type", "Invalid '%s': the text is not valid UTF-8.", sub.path("parameters")))
		}
		t.Parameters = v
	}
	f.fail(sub.err)
	return t
}

func (f *fields) toolChoice(c *ToolChoice, function func(*fields) *fields) {
	v, ok := f.raw["tool_choice"]
	if !ok {
		return
	}
	if v[0] == '"' {
		switch mode := ToolMode(f.text("tool_choice")); mode {
		case ToolsNone, ToolsAuto, ToolsRequired:
			c.Mode = mode
		default:
			f.fail(Invalid("tool_choice", "invalid_value", "Invalid 'tool_choice': %s is none of 'none', 'auto' and 'required', nor an object.", quote(string(mode))))
		}
		return
	}
	choice, ok := parseMembers(v, "tool_choice")
	if !ok {
		f.wrongType("tool_choice", "a string or an object")
		return
	}
	choice.functionType()
	if choice.err == nil {
		sub := function(choice)
		c.Mode, c.Name = ToolsNamed, sub.functionName()
		choice.fail(sub.err)
	}
	f.fail(choice.err)
}

// functionType refuses other tools than functions.
func (f *fields) functionType() {
	if f.raw["type"] == nil {
		f.missing("type")
	}
	if kind := f.text("type"); f.err == nil && kind != "function" {
		f.fail(invalid(f.path("type"), "invalid_value", "Invalid '%s': %s is not supported with this server, which knows 'function' only.", f.path("type"), quote(kind)))
	}
}

func (f *fields) functionName() string {
	if f.raw["name"] == nil {
		f.missing("name")
	}
	name := f.text("name")
	if f.err == nil && !toolName.MatchString(name) {
		f.fail(invalid(f.path("name"), "invalid_value", "Invalid '%s': %s is not 1 to 64 letters, digits, _ and -.", f.path("name"), quote(name)))
	}
	return name
}
