package api

import (
	"fmt"
	"strings"
	"testing"

	"lorikeet/api/grammar"
)

const (
	badGrammar = "invalid_grammar"
	badSchema  = "invalid_json_schema"
)

// What constrains the answer becomes the GBNF that package grammar makes of it,
// whichever field it came in.
func TestConstraints(t *testing.T) {
	const (
		gbnf   = `root ::= "a" | "b"`
		schema = `{"type":"object","properties":{"a":{"type":"integer"}}}`
	)
	text := func(s string) string { return fmt.Sprintf("%q", s) }
	must := func(gbnf string, err error) string {
		t.Helper()
		if err != nil || gbnf == "" {
			t.Fatalf("%q, %v", gbnf, err)
		}
		return gbnf
	}
	parsed, err := grammar.Parse(gbnf)
	if err != nil {
		t.Fatal(err)
	}
	fromSchema := must(grammar.FromSchema([]byte(schema)))
	for want, all := range map[string][]string{
		must(parsed.String(), nil): {`"grammar":` + text(gbnf), `"guided_grammar":` + text(gbnf), `"structured_outputs":{"grammar":` + text(gbnf) + `}`},
		fromSchema: {
			`"json_schema":` + schema, `"json_schema":` + text(schema), `"guided_json":` + schema, `"guided_json":` + text(schema),
			`"structured_outputs":{"json":` + schema + `}`, `"structured_outputs":{"json":` + text(schema) + `}`,
			`"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"description":"d","schema":` + schema + `}}`,
			`"response_format":{"type":"json_schema","json_schema":{"schema":` + schema + `}}`,
			`"response_format":{"type":"json_object","schema":` + schema + `}`,
			`"json_schema":` + schema + `,"grammar":"","guided_json":null,"structured_outputs":{"regex":""},"response_format":{"type":"text"}`,
		},
		must(grammar.FromSchema([]byte(`{}`))):          {`"json_schema":{}`, `"guided_json":{ }`},
		must(grammar.FromRegex(`[a-z]+\d`)):             {`"guided_regex":"[a-z]+\\d"`, `"structured_outputs":{"regex":"[a-z]+\\d"}`},
		must(grammar.FromChoice([]string{"yes", "né"})): {`"guided_choice":["yes","né"]`, `"structured_outputs":{"choice":["yes","n\u00e9"],"json":null}`},
		must(grammar.JSONObject(), nil):                 {`"response_format":{"type":"json_object"}`, `"structured_outputs":{"json_object":true}`},
		"": {
			``, `"grammar":"","guided_grammar":"","guided_regex":"","json_schema":"","guided_json":""`,
			`"grammar":null,"json_schema":null,"guided_json":null,"guided_regex":null,"guided_choice":null,"guided_grammar":null,"response_format":null,"structured_outputs":null`,
			`"response_format":{ "type": "text" }`, `"response_format":{}`, `"response_format":{"type":null}`,
			`"structured_outputs":{ }`, `"structured_outputs":{"json":null,"regex":"","json_object":false,"disable_any_whitespace":false}`,
		},
	} {
		for _, members := range all {
			t.Run(name(members), func(t *testing.T) {
				r, err := DecodeCompletion([]byte(with(members)))
				if err != nil {
					t.Fatal(err)
				}
				if r.Grammar != want {
					t.Errorf("%s\nwant %s", r.Grammar, want)
				}
			})
		}
	}
}

func TestConstraintsRefused(t *testing.T) {
	refusals{
		{`"grammar":"no rules"`, "grammar", badGrammar},
		{`"guided_grammar":"x ::= y"`, "guided_grammar", badGrammar},
		{`"structured_outputs":{"grammar":"::="}`, "structured_outputs", badGrammar},
		{`"grammar":"root ::= \"\ud83e\""`, "grammar", badType},
		{`"guided_regex":"(?=a)"`, "guided_regex", badGrammar},
		{`"guided_regex":"` + "\xff" + `"`, "guided_regex", badType},
		{`"structured_outputs":{"regex":"(?=a)"}`, "structured_outputs", badGrammar},
		{`"structured_outputs":{"regex":5}`, "structured_outputs", badType},
		{`"json_schema":"{"`, "json_schema", badSchema},
		{`"json_schema":"{} {}"`, "json_schema", badSchema},
		{`"json_schema":"[]"`, "json_schema", badSchema},
		{`"json_schema":{"const":"\ud83e"}`, "json_schema", badType},
		{`"json_schema":"{\"const\":\"\\ud83e\"}"`, "json_schema", badType},
		{`"guided_json":"nothing"`, "guided_json", badSchema},
		{`"structured_outputs":{"json":[]}`, "structured_outputs", badType},
		{`"guided_choice":[]`, "guided_choice", emptyArray},
		{`"guided_choice":["a",1]`, "guided_choice", badType},
		{`"guided_choice":["a","\ud83e"]`, "guided_choice", badType},
		{`"guided_choice":[` + strings.Repeat(`"a",`, MaxAnswers) + `"a"]`, "guided_choice", tooMany},
		{`"structured_outputs":{"choice":"a"}`, "structured_outputs", badType},
		{`"structured_outputs":{"json_object":1}`, "structured_outputs", badType},
		{`"structured_outputs":{"structural_tag":"x"}`, "structured_outputs", unserved},
		{`"structured_outputs":{"json":{},"whitespace_pattern":" "}`, "structured_outputs", unserved},

		{`"response_format":{"schema":{}}`, "response_format", missing},
		{`"response_format":{"type":5}`, "response_format", badType},
		{`"response_format":{"type":"xml"}`, "response_format", badValue},
		{`"response_format":{"type":"json_schema"}`, "response_format", missing},
		{`"response_format":{"type":"json_schema","schema":{}}`, "response_format", missing},
		{`"response_format":{"type":"json_schema","json_schema":{}}`, "response_format", missing},
		{`"response_format":{"type":"json_schema","json_schema":[]}`, "response_format", badType},
		{`"response_format":{"type":"json_schema","json_schema":{"name":1,"schema":{}}}`, "response_format", badType},
		{`"response_format":{"type":"json_schema","json_schema":{"strict":"yes","schema":{}}}`, "response_format", badType},
		{`"response_format":{"type":"json_schema","json_schema":{"schema":5}}`, "response_format", badType},
		{`"response_format":{"type":"json_schema","json_schema":{"schema":"{"}}`, "response_format", badSchema},
	}.run(t)
}

// Two constraints are refused, both named.
func TestTwoConstraints(t *testing.T) {
	tests := []struct{ members, param, first, second string }{
		{`"grammar":"root ::= \"a\"","json_schema":{}`, "json_schema", "grammar", "json_schema"},
		{`"guided_regex":"a","guided_choice":["a"]`, "guided_choice", "guided_regex", "guided_choice"},
		{`"structured_outputs":{"regex":"a","choice":["a"]}`, "structured_outputs", "structured_outputs.regex", "structured_outputs.choice"},
		{`"structured_outputs":{"json":{},"json_object":true}`, "structured_outputs", "structured_outputs.json", "structured_outputs.json_object"},
		{`"guided_json":{},"structured_outputs":{"json":{}}`, "structured_outputs", "guided_json", "structured_outputs.json"},
		{`"guided_grammar":"broken","response_format":{"type":"json_object"}`, "response_format", "guided_grammar", "response_format"},
		{`"json_schema":5,"response_format":{"type":"json_schema","json_schema":{"schema":{}}}`, "response_format", "json_schema", "response_format.json_schema.schema"},
	}
	for _, tt := range tests {
		t.Run(name(tt.members), func(t *testing.T) {
			refused(t, with(tt.members), tt.param, badValue)
			_, err := DecodeCompletion([]byte(with(tt.members)))
			if !strings.Contains(err.Message, "'"+tt.first+"'") || !strings.Contains(err.Message, "'"+tt.second+"'") {
				t.Errorf("%q does not name %s and %s", err.Message, tt.first, tt.second)
			}
		})
	}
}
