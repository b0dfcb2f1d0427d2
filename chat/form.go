package chat

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"lorikeet/api/grammar"
)

// form is how a family of models writes tool calls.
type form struct {
	name      string
	markers   []string // any of them begins a call; one that begins with { is part of it
	opening   string   // what stands between the marker and the first call
	arguments string   // the member that holds them
	closing   string   // what ends a call
	between   string   // what stands between calls
	repeat    bool     // each further call has a marker of its own
	end       string   // what stands behind the last call
	bare      bool     // a call is NAME[ARGS]{…} instead of an object
	idLength  int      // of a call's id, if templates insist on one
}

const argsMarker = "[ARGS]"

// Forms by what templates contain. The Hermes form is the most common one, and that of
// the description that Render gives to templates which know no tools.
var (
	hermes = &form{
		name: "hermes", markers: []string{"<tool_call>"}, opening: "\n", arguments: "arguments", closing: "\n</tool_call>", between: "\n", repeat: true,
	}
	llama3 = &form{
		name: "llama3", markers: []string{"<|python_tag|>", `{"name": "`}, arguments: "parameters", between: "; ",
	}
	mistral = &form{
		name: "mistral", markers: []string{"[TOOL_CALLS]"}, opening: "[", arguments: "arguments", between: ", ", end: "]", idLength: 9,
	}
	mistralBare = &form{
		name: "mistral, with [ARGS]", markers: []string{"[TOOL_CALLS]"}, repeat: true, bare: true, idLength: 9,
	}
)

func formOf(source string) *form {
	has := func(s string) bool { return strings.Contains(source, s) }
	switch {
	case has("[TOOL_CALLS]") && has(argsMarker):
		return mistralBare
	case has("[TOOL_CALLS]"):
		return mistral
	case has("<tool_call>"):
		return hermes
	case has("<|python_tag|>"), has("ipython") && has("parameters"):
		return llama3
	}
	return hermes
}

// ToolError says that a tool can't be offered to the model.
type ToolError struct {
	Tool   string // its name; "" if all are to blame
	Reason string
}

func (e *ToolError) Error() string {
	if e.Tool == "" {
		return e.Reason
	}
	return fmt.Sprintf("the tool %q: %s", e.Tool, e.Reason)
}

// Constrain makes the grammar that holds an answer to calls of tools: from its beginning
// if they are required, else from the marker of a call on. Errors are *ToolError.
func (t *Template) Constrain(tools []Tool, c Choice) (Constraint, error) {
	if c.Mode == None || len(tools) == 0 {
		return Constraint{}, nil
	}
	if c.Mode == Named {
		i := slices.IndexFunc(tools, func(tool Tool) bool { return tool.Name == c.Name })
		if i < 0 {
			return Constraint{}, &ToolError{c.Name, "is to be called, but is not among the tools"}
		}
		tools, c.Parallel = tools[i:i+1], false
	}
	f := t.form
	parts, size := map[string]string{}, 0
	var calls []string
	for i, tool := range tools {
		schema, err := tool.schema()
		if err != nil {
			return Constraint{}, err
		}
		gbnf, err := grammar.FromSchema(schema)
		if err != nil {
			return Constraint{}, &ToolError{tool.Name, "its parameters can't be followed: " + err.Error()}
		}
		if size += len(gbnf); size > maxGrammars {
			return Constraint{}, &ToolError{"", fmt.Sprintf("the grammars of the tools come to more than %d bytes", maxGrammars)}
		}
		arguments := fmt.Sprintf("arguments-%d", i)
		parts[arguments] = gbnf
		calls = append(calls, f.callRule(tool.Name, arguments))
	}
	gbnf, err := grammar.Compose(f.rules(calls, c), parts)
	if err != nil {
		return Constraint{}, &ToolError{"", "the tools together can't be followed: " + err.Error()}
	}
	out := Constraint{Grammar: gbnf}
	if c.Mode == Auto {
		out.After = f.markers
	}
	return out, nil
}

// maxGrammars bounds the grammars of all tools, before what they share is taken together.
const maxGrammars = 512 << 10

// schema is that of the arguments, which are an object: a schema that leaves this open
// means one, and parsers know no others.
func (t Tool) schema() (json.RawMessage, error) {
	if t.Parameters == nil {
		return json.RawMessage(`{"type": "object", "properties": {}, "additionalProperties": false}`), nil
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(t.Parameters, &members) != nil || members == nil {
		return nil, &ToolError{t.Name, "its parameters are no schema of an object"}
	}
	var types []string
	if v, given := members["type"]; given && json.Unmarshal(v, &types) != nil {
		types = make([]string, 1)
		if json.Unmarshal(v, &types[0]) != nil {
			return t.Parameters, nil // says what is wrong with it
		}
	}
	if types != nil && !slices.Contains(types, "object") {
		return nil, &ToolError{t.Name, "its parameters are no schema of an object"}
	}
	if len(types) == 1 {
		return t.Parameters, nil
	}
	members["type"] = json.RawMessage(`"object"`)
	return json.Marshal(members)
}

// callRule is the GBNF of a call without its markers.
func (f *form) callRule(name, arguments string) string {
	if f.bare {
		return literal(name+argsMarker) + " " + arguments
	}
	return literal(`{"name": `+quoted(name)+`, "`+f.arguments+`": `) + " " + arguments + ` "}"`
}

// rules are the GBNF around the calls.
func (f *form) rules(calls []string, c Choice) string {
	var b strings.Builder
	var openings []string
	for _, m := range f.markers {
		if strings.HasPrefix(m, "{") {
			openings = append(openings, `""`)
		} else {
			openings = append(openings, literal(m+f.opening))
		}
	}
	one, more := "call", "call"
	if f.closing != "" {
		one += " " + literal(f.closing)
		more = one
	}
	if f.repeat {
		more = "opening " + more
	}
	if f.between != "" {
		more = literal(f.between) + " " + more
	}
	fmt.Fprintf(&b, "root ::= opening %s", one)
	if c.Parallel {
		fmt.Fprintf(&b, " (%s)*", more)
	}
	if f.end != "" {
		b.WriteString(" " + literal(f.end))
	}
	fmt.Fprintf(&b, "\nopening ::= %s\ncall ::= %s\n", strings.Join(openings, " | "), strings.Join(calls, " | "))
	return b.String()
}

// literal is a text in GBNF.
func literal(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(s) + `"`
}

func quoted(s string) string {
	var w jsonWriter
	w.text(s)
	return w.String()
}

// describeTools tells the model of tools where its template does not.
func (t *Template) describeTools(ctx context.Context, messages []Message, tools []Tool) ([]Message, error) {
	var b limits
	b.start(ctx)
	w := newJSONWriter(orders{}, &b)
	b.WriteString("You may call functions. They are described here, one JSON object a line:\n<tools>\n")
	for _, tool := range w.order.tools(tools) {
		w.Reset()
		w.write(tool, 0)
		if _, err := b.WriteString(w.String() + "\n"); err != nil {
			return nil, err
		}
	}
	b.WriteString("</tools>\n\nTo call a function, answer with its name and arguments:\n<tool_call>\n{\"name\": \"the name\", \"arguments\": {\"an argument\": \"its value\"}}\n</tool_call>")
	described := slices.Clone(messages)
	role := "system"
	if t.systemless {
		role = "user"
	}
	if len(described) > 0 && described[0].Role == role {
		described[0].Content = strings.Trim(described[0].Content+"\n\n"+b.String(), "\n")
		return described, nil
	}
	return slices.Insert(described, 0, Message{Role: role, Content: b.String()}), nil
}
