package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

var parserTools = []Tool{{Name: "get"}, {Name: "clock"}, {Name: `odd"name`}}

// heard is a message as its deltas add up.
type heard struct {
	content string
	calls   []ToolCall
}

func (h *heard) add(t testing.TB, d Delta) {
	t.Helper()
	h.content += d.Content
	for _, c := range d.Calls {
		switch {
		case c.Index == len(h.calls) && c.ID != "" && c.Name != "":
			h.calls = append(h.calls, ToolCall{ID: c.ID, Name: c.Name})
		case c.Index != len(h.calls)-1 || c.ID != "" || c.Name != "":
			t.Fatalf("delta %+v after %d calls", c, len(h.calls))
		}
		h.calls[c.Index].Arguments += c.Arguments
	}
}

// hear parses an answer in pieces that end where cut says.
func hear(t testing.TB, f *form, text string, cut func(i int) bool) heard {
	t.Helper()
	p := (&Template{form: f}).NewParser(parserTools, Choice{Mode: Auto})
	var h heard
	from := 0
	for i := range text {
		if cut(i) {
			h.add(t, p.Add(text[from:i]))
			from = i
		}
	}
	h.add(t, p.Add(text[from:]))
	h.add(t, p.End())
	return h
}

func whole(int) bool { return false }

func (h heard) String() string {
	s := fmt.Sprintf("%q", h.content)
	for _, c := range h.calls {
		s += fmt.Sprintf(" %s(%s)", c.Name, c.Arguments)
	}
	return s
}

var answers = []struct {
	form *form
	text string
	want string
}{
	{hermes, "Just text, with < and <tool and <tool_call", `"Just text, with < and <tool and <tool_call"`},
	{hermes, "", `""`},
	{hermes, " \n", `" \n"`},
	{hermes, "<tool_call>\n{\"name\": \"get\", \"arguments\": {\"a\": \"}{\\\"\", \"b\": [1, {}]}}\n</tool_call>", `"" get({"a": "}{\"", "b": [1, {}]})`},
	{hermes, "Let me see.\n<tool_call>{\"name\":\"get\",\"arguments\":{}}</tool_call>\n<tool_call>\n{\"name\": \"clock\", \"arguments\": { }}\n</tool_call>\n", `"Let me see.\n" get({}) clock({ })`},
	{hermes, "<tool_call>\n{\"arguments\": {\"x\": 1}, \"name\": \"get\"}\n</tool_call> done", `" done" get({"x": 1})`},
	{hermes, "<tool_call>\n{\"name\": \"get\", \"arguments\": {\"x\": 1}, \"id\": \"{7\"}\n</tool_call>", `"" get({"x": 1})`},
	{hermes, "<tool_call>\n{\"name\": \"odd\\\"name\", \"arguments\": {}}\n</tool_call>", `"" odd"name({})`},
	{hermes, "<tool_call>\n{\"name\": \"unknown\", \"arguments\": {}}\n</tool_call>", `"<tool_call>\n{\"name\": \"unknown\", \"arguments\": {}}\n</tool_call>"`},
	{hermes, "<tool_call>\nno object</tool_call>", `"<tool_call>\nno object</tool_call>"`},
	{hermes, "<tool_call>\n{\"name\": \"get\", \"arguments\": \"text\"}\n</tool_call>", `"<tool_call>\n{\"name\": \"get\", \"arguments\": \"text\"}\n</tool_call>"`},
	{hermes, "<tool_call>\n{\"name\": \"get\", \"argum", `"<tool_call>\n{\"name\": \"get\", \"argum"`},
	{hermes, "<tool_call>\n{\"name\": \"get\", \"arguments\": {\"cut\": \"of", `"" get({"cut": "of)`},
	{hermes, "<tool_call>\n{\"name\": \"get\", \"arguments\": {}", `"" get({})`},
	{hermes, "<tool_call><tool_call>\n{\"name\": \"get\", \"arguments\": {}}\n</tool_call>", `"<tool_call>" get({})`},
	{hermes, "<tool_call>\n{\"name\": \"get\", \"arguments\": {}} and more", `" and more" get({})`},
	{llama3, `{"name": "get", "parameters": {"a": 1}}`, `"" get({"a": 1})`},
	{llama3, `<|python_tag|>{"name": "get", "parameters": {"a": 1}}; {"name": "clock", "parameters": {}}`, `"" get({"a": 1}) clock({})`},
	{llama3, `{"name": "get", "parameters": {}}; `, `"" get({})`},
	{llama3, `{"name": "get", "parameters": {}}; no`, `"; no" get({})`},
	{llama3, `Here: {"name": "Bob", "age": 3}.`, `"Here: {\"name\": \"Bob\", \"age\": 3}."`},
	{llama3, `{"name": `, `"{\"name\": "`},
	{mistral, `[TOOL_CALLS] [{"name": "get", "arguments": {"a": "[x]"}}, {"name": "clock", "arguments": {}}]`, `"" get({"a": "[x]"}) clock({})`},
	{mistral, `Hm [TOOL_CALLS][{"name": "get", "arguments": {}}] yes`, `"Hm  yes" get({})`},
	{mistral, `[TOOL_CALLS] none`, `"[TOOL_CALLS] none"`},
	{mistral, `[TOOL_CALL`, `"[TOOL_CALL"`},
	{mistralBare, `[TOOL_CALLS]get[ARGS]{"a": 1}[TOOL_CALLS]clock[ARGS]{}`, `"" get({"a": 1}) clock({})`},
	{mistralBare, `[TOOL_CALLS]unknown[ARGS]{"a": 1}`, `"[TOOL_CALLS]unknown[ARGS]{\"a\": 1}"`},
	{mistralBare, `[TOOL_CALLS]get`, `"[TOOL_CALLS]get"`},
	{llama3, `{"name": "` + strings.Repeat("x", maxCall), fmt.Sprintf("%q", `{"name": "`+strings.Repeat("x", maxCall))},
	{llama3, `{"name": "` + strings.Repeat("x", maxCall) + `"}`, fmt.Sprintf("%q", `{"name": "`+strings.Repeat("x", maxCall)+`"}`)},
}

func TestParser(t *testing.T) {
	for _, a := range answers {
		h := hear(t, a.form, a.text, whole)
		if h.String() != a.want {
			t.Errorf("%s, %q:\n%s instead of\n%s", a.form.name, a.text, h, a.want)
		}
		for _, c := range h.calls {
			if n := a.form.idLength; n > 0 && len(c.ID) != n || n == 0 && !strings.HasPrefix(c.ID, "call_") {
				t.Errorf("id %q", c.ID)
			}
		}
	}
}

// Text is not held back for longer than it may be a marker, nor arguments at all.
func TestParserHoldsNothingBack(t *testing.T) {
	p := (&Template{form: hermes}).NewParser(parserTools, Choice{Mode: Auto})
	for _, step := range []struct{ text, content, arguments string }{
		{"a", "a", ""}, {"b <", "b ", ""}, {"x", "<x", ""}, {"<tool_", "", ""}, {"call>\n", "", ""}, {`{"name": "get", "arguments": {`, "", "{"}, {`"a": 1`, "", `"a": 1`},
		{"}", "", "}"}, {"}\n</tool", "", ""},
	} {
		d := p.Add(step.text)
		arguments := ""
		for _, c := range d.Calls {
			arguments += c.Arguments
		}
		if d.Content != step.content || arguments != step.arguments {
			t.Errorf("%q: %+v", step.text, d)
		}
	}
}

// What comes out does not depend on how the answer comes in, and nothing is lost: without
// a call it is the answer to the byte, and arguments are parts of it.
func FuzzParser(f *testing.F) {
	forms := []*form{hermes, llama3, mistral, mistralBare}
	for i, a := range answers {
		f.Add(uint8(i), a.text, uint64(i)*0x9e3779b97f4a7c15)
	}
	f.Fuzz(func(t *testing.T, n uint8, text string, cuts uint64) {
		of := forms[int(n)%len(forms)]
		want := hear(t, of, text, whole)
		for what, cut := range map[string]func(int) bool{"each": func(int) bool { return true }, "some": func(i int) bool { return cuts>>(i%64)&1 == 1 }} {
			if got := hear(t, of, text, cut); got.String() != want.String() {
				t.Fatalf("%s, %s, %q:\n%s instead of\n%s", of.name, what, text, got, want)
			}
		}
		if len(want.calls) == 0 && want.content != text {
			t.Fatalf("%s, %q became %q", of.name, text, want.content)
		}
		for _, c := range want.calls {
			if !strings.Contains(text, c.Arguments) {
				t.Fatalf("%s, %q: arguments %q", of.name, text, c.Arguments)
			}
		}
	})
}

// Arguments are an object, also where a schema leaves that open.
func TestArgumentsAreObjects(t *testing.T) {
	want, err := hermes.of(`{"type": "object"}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, schema := range []string{`{}`, `{"description": "x"}`, `{"type": ["object", "null"]}`} {
		if got, err := hermes.of(schema); err != nil || got != want {
			t.Errorf("%s: %v\n%s", schema, err, got)
		}
	}
}

// of is the grammar of calls of one tool.
func (f *form) of(schema string) (string, error) {
	c, err := (&Template{form: f}).Constrain([]Tool{{Name: "x", Parameters: json.RawMessage(schema)}}, Choice{Mode: Required})
	return c.Grammar, err
}

// An answer that follows the grammar is read as calls whose arguments are those that were
// written; that answers follow grammars is tested where they are generated.
func TestConstraintsAndParser(t *testing.T) {
	schema := json.RawMessage(`{"type": "object", "properties": {"n": {"const": 1}}, "required": ["n"], "additionalProperties": false}`)
	tools := []Tool{{Name: "get", Parameters: schema}, {Name: "clock"}}
	for _, f := range []*form{hermes, llama3, mistral, mistralBare} {
		tm := &Template{form: f}
		for _, c := range []Choice{{Mode: Auto, Parallel: true}, {Mode: Required}, {Mode: Named, Name: "clock"}} {
			got, err := tm.Constrain(tools, c)
			if err != nil {
				t.Fatal(err)
			}
			if (got.After != nil) != (c.Mode == Auto) {
				t.Errorf("%s, %+v: after %q", f.name, c, got.After)
			}
			if has := strings.Contains(got.Grammar, "get"); has == (c.Mode == Named) {
				t.Errorf("%s, %+v: %s", f.name, c, got.Grammar)
			}
			for _, marker := range got.After { // the grammar's text begins with it
				if !strings.Contains(got.Grammar, literal(marker)[:len(literal(marker))-1]) && !strings.Contains(got.Grammar, literal(marker + "get")[:len(literal(marker))-1]) {
					t.Errorf("%s: no %q in %s", f.name, marker, got.Grammar)
				}
			}
		}
	}
	tm := &Template{form: hermes}
	if c, err := tm.Constrain(tools, Choice{}); err != nil || c.Grammar != "" {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []struct {
		tools  []Tool
		choice Choice
		tool   string
	}{
		{tools, Choice{Mode: Named, Name: "other"}, "other"},
		{[]Tool{{Name: "x", Parameters: json.RawMessage(`{"type": "nothing"}`)}}, Choice{Mode: Auto}, "x"},
		{[]Tool{{Name: "x", Parameters: json.RawMessage(`{"type": "string"}`)}}, Choice{Mode: Auto}, "x"},
		{[]Tool{{Name: "x", Parameters: json.RawMessage(`true`)}}, Choice{Mode: Auto}, "x"},
		{slices.Repeat([]Tool{{Name: "x", Parameters: json.RawMessage(`{"type": "object", "properties": {"s": {"const": "` + strings.Repeat("x", 6000) + `"}}}`)}}, 100), Choice{Mode: Auto}, ""},
	} {
		_, err := tm.Constrain(bad.tools, bad.choice)
		var e *ToolError
		if !errors.As(err, &e) || e.Tool != bad.tool || !strings.Contains(e.Error(), bad.tool) {
			t.Errorf("%v", err)
		}
	}
}
