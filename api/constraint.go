package api

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"lorikeet/api/grammar"
)

// MaxAnswers is how many answers a choice among answers may offer.
const MaxAnswers = 1024

// constraint is a member that holds the answer to a grammar.
type constraint struct {
	of   *fields
	name string
	gbnf func(of *fields, name string) string
}

// grammar returns what the members that constrain the answer come to: GBNF, or "". Only
// one of them can be used at once. An empty string asks for nothing.
func (f *fields) grammar() string {
	var found []constraint
	add := func(of *fields, name string, gbnf func(*fields, string) string) {
		if v, ok := of.raw[name]; ok && string(v) != `""` {
			found = append(found, constraint{of, name, gbnf})
		}
	}
	add(f, "grammar", (*fields).fromGBNF)
	add(f, "json_schema", (*fields).fromSchema)
	outputs := f.structuredOutputs()
	for _, from := range []struct {
		of     *fields
		prefix string
	}{{f, "guided_"}, {outputs, ""}} {
		add(from.of, from.prefix+"json", (*fields).fromSchema)
		add(from.of, from.prefix+"regex", (*fields).fromRegex)
		add(from.of, from.prefix+"choice", (*fields).fromChoice)
		add(from.of, from.prefix+"grammar", (*fields).fromGBNF)
	}
	if outputs.boolean("json_object", false) {
		add(outputs, "json_object", (*fields).anyObject)
	}
	f.fail(outputs.err)
	if c, ok := f.responseFormat(); ok {
		found = append(found, c)
	}
	switch {
	case f.err != nil || len(found) == 0:
		return ""
	case len(found) > 1:
		a, b := found[0], found[1]
		f.fail(invalid(b.of.path(b.name), "invalid_value", "Invalid '%s': '%s' constrains the answer already; only one of them can be used.", b.of.path(b.name), a.of.path(a.name)))
		return ""
	}
	c := found[0]
	gbnf := c.gbnf(c.of, c.name)
	f.fail(c.of.err)
	return gbnf
}

// structuredOutputs refuses what would change the answer and is not served.
func (f *fields) structuredOutputs() *fields {
	outputs := f.object("structured_outputs")
	for _, name := range slices.Sorted(maps.Keys(outputs.raw)) {
		if !slices.Contains([]string{"json", "json_object", "regex", "choice", "grammar"}, name) && !slices.Contains(nothing, string(outputs.raw[name])) {
			f.fail(Invalid("structured_outputs", "unsupported_parameter", "Unsupported parameter: 'structured_outputs' has a member that is not supported with this server: %s.", quote(name)))
		}
	}
	return outputs
}

// responseFormat reads OpenAI's constraint; ok is false if it is none.
func (f *fields) responseFormat() (c constraint, ok bool) {
	format := f.object("response_format")
	if len(format.raw) == 0 {
		return constraint{}, false
	}
	if format.raw["type"] == nil {
		format.missing("type")
	}
	switch kind := format.text("type"); {
	case format.err != nil:
	case kind == "text":
	case kind == "json_object" && format.raw["schema"] != nil: // as llama-server has it
		c, ok = constraint{format, "schema", (*fields).fromSchema}, true
	case kind == "json_object":
		c, ok = constraint{f, "response_format", (*fields).anyObject}, true
	case kind == "json_schema":
		if format.raw["json_schema"] == nil {
			format.missing("json_schema")
		}
		named := format.object("json_schema")
		named.text("name")
		named.text("description")
		named.boolean("strict", false) // a grammar is strict anyhow
		if format.err == nil && named.raw["schema"] == nil {
			named.missing("schema")
		}
		format.fail(named.err)
		c, ok = constraint{named, "schema", (*fields).fromSchema}, true
	default:
		format.fail(Invalid("response_format", "invalid_value", "Invalid 'response_format.type': %s is none of 'text', 'json_object' and 'json_schema'.", quote(kind)))
	}
	f.fail(format.err)
	return c, ok
}

func (f *fields) anyObject(string) string { return grammar.JSONObject() }

func (f *fields) fromGBNF(name string) string {
	text, ok := f.constraintText(name)
	if !ok {
		return ""
	}
	g, err := grammar.Parse(text)
	if err != nil {
		f.unusable(name, "invalid_grammar", err)
		return ""
	}
	return g.String()
}

func (f *fields) fromRegex(name string) string {
	text, ok := f.constraintText(name)
	if !ok {
		return ""
	}
	gbnf, err := grammar.FromRegex(text)
	if err != nil {
		f.unusable(name, "invalid_grammar", err)
	}
	return gbnf
}

func (f *fields) fromChoice(name string) string {
	const want = "an array of strings"
	var answers []string
	for _, e := range f.elements(name, f.raw[name], want, MaxAnswers) {
		if e[0] != '"' {
			f.fail(wrongType(f.path(name), want, e))
			return ""
		}
		answers = append(answers, f.utf8(name, e))
	}
	if len(answers) == 0 {
		f.empty(name)
	}
	if f.err != nil {
		return ""
	}
	gbnf, err := grammar.FromChoice(answers)
	if err != nil {
		f.unusable(name, "invalid_grammar", err)
	}
	return gbnf
}

// fromSchema reads a JSON schema, or a string that holds one.
func (f *fields) fromSchema(name string) string {
	schema := f.raw[name]
	switch schema[0] {
	case '{':
	case '"':
		schema = json.RawMessage(f.utf8(name, schema))
	default:
		f.wrongType(name, "an object")
	}
	if replaced(schema) {
		f.fail(invalid(f.path(name), "invalid_type", "Invalid '%s': the text is not valid UTF-8.", f.path(name)))
	}
	if f.err != nil {
		return ""
	}
	gbnf, err := grammar.FromSchema(schema)
	if err != nil {
		f.unusable(name, "invalid_json_schema", err)
	}
	return gbnf
}

func (f *fields) constraintText(name string) (string, bool) {
	if f.raw[name][0] != '"' {
		f.wrongType(name, "a string")
		return "", false
	}
	text := f.utf8(name, f.raw[name])
	return text, f.err == nil
}

// unusable hands on why a grammar can't be made; package grammar says so for clients.
func (f *fields) unusable(name, code string, err error) {
	f.fail(invalid(f.path(name), code, "Invalid '%s': %s", f.path(name), strings.TrimSuffix(err.Error(), ".")+"."))
}
