package grammar

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func fromSchema(t *testing.T, schema string) *Grammar {
	t.Helper()
	s, err := FromSchema([]byte(schema))
	if err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	return parse(t, s)
}

// satisfies asks an independent implementation.
func satisfies(t *testing.T, schema, text string) error {
	t.Helper()
	s, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", s); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return compiled.Validate(v)
}

// Whatever a schema's grammar gives satisfies the schema.
func TestSchemas(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, schema := range []string{
		`true`, `{}`, `{"title": "anything"}`,
		`{"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name", "age"], "additionalProperties": false}`,
		`{"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}, "c": {"type": "number"}}}`,
		`{"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}}, "required": ["b"]}`,
		`{"type": "object", "properties": {"a\"\\é": {"const": "x\"y"}}, "required": ["other"]}`,
		`{"type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9}}`,
		`{"type": "object", "properties": {}, "additionalProperties": false}`,
		`{"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4}`,
		`{"type": "array", "items": {"type": "string", "maxLength": 3}}`,
		`{"type": "array", "maxItems": 0}`,
		`{"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false}`,
		`{"type": "array", "prefixItems": [{"type": "boolean"}], "items": {"type": "null"}, "minItems": 3}`,
		`{"type": "string", "minLength": 2, "maxLength": 5}`,
		`{"type": "string", "pattern": "^[a-z]{2,4}-\\d+$"}`, `{"type": "string", "pattern": "ab|cd"}`, `{"type": "string", "pattern": "^[^a]\\\\\"\\n?"}`,
		`{"type": "string", "format": "date"}`, `{"type": "string", "format": "date-time"}`, `{"type": "string", "format": "uuid"}`, `{"type": "string", "format": "ipv4"}`,
		`{"type": "integer"}`, `{"type": "integer", "minimum": 7}`, `{"type": "integer", "maximum": -7}`, `{"type": "integer", "minimum": -12, "maximum": 345}`,
		`{"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 100}`, `{"type": "integer", "minimum": 95, "maximum": 1005}`, `{"type": "integer", "minimum": -250, "maximum": -249}`,
		`{"type": "number"}`, `{"type": "number", "minimum": 0, "maximum": 1}`, `{"type": "number", "minimum": -3, "maximum": 12}`, `{"type": "number", "minimum": 2}`, `{"type": "number", "maximum": -2}`,
		`{"type": ["string", "null"]}`, `{"type": "string", "nullable": false}`, `{"enum": ["a", 1, null, {"x": [true]}, 1.5e3]}`, `{"const": {"a": [1, "é\n"]}}`, `{"type": "string", "enum": ["a", "b"]}`,
		`{"anyOf": [{"type": "integer", "minimum": 5, "maximum": 6}, {"type": "boolean"}]}`, `{"oneOf": [{"type": "string"}, {"type": "null"}]}`,
		`{"allOf": [{"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}, {"properties": {"b": {"type": "boolean"}}}]}`,
		`{"$defs": {"n": {"type": "object", "properties": {"v": {"type": "null"}, "next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}}, "required": ["v", "next"]}}, "$ref": "#/$defs/n"}`,
		`{"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}}, "required": ["children"]}`,
		`{"minimum": 3}`, `{"properties": {"a": {"items": {"type": "null"}}}, "required": ["a"]}`,
	} {
		g := fromSchema(t, schema)
		seen := map[string]bool{}
		for range 150 {
			fuel := 60
			text := g.random(rng, reference(0), &fuel)
			seen[text] = true
			if err := satisfies(t, schema, text); err != nil {
				t.Errorf("%s gives %s: %v", schema, text, err)
				break
			}
			if !g.matches(text) {
				t.Fatalf("%s gives %q and does not match it", schema, text)
			}
		}
	}
}

// What a schema allows, its grammar gives.
func TestSchemasMatch(t *testing.T) {
	for schema, texts := range map[string][]string{
		`{}`: {`{"a": [1, -2.5e+10, "x\u00e9\n", null, {}, []], "b": true}`, `""`, `0`},
		`{"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "null"}}, "required": ["b"]}`: {
			`{"a": 1, "b": "x", "c": null}`, `{"b": "x"}`, `{"b":"x","c":null}`, `{"a": -7, "b": ""}`},
		`{"type": "string", "minLength": 1, "maxLength": 3000}`:     {`"a"`, `"` + strings.Repeat("é", 3000) + `"`},
		`{"type": "integer", "minimum": -100, "maximum": 1000}`:     {"-100", "-99", "-1", "0", "9", "10", "99", "999", "1000"},
		`{"type": "number", "minimum": 0, "maximum": 10}`:           {"0", "0.5", "9.999", "10", "10.0"},
		`{"enum": ["a\"b", 12, [1, 2]]}`:                            {`"a\"b"`, "12", "[1, 2]"},
		`{"type": "array", "items": {"type": "integer"}}`:           {"[]", "[1]", "[1, 2,3]"},
		`{"type": "string", "pattern": "[0-9]"}`:                    {`"a1b"`, `"1"`},
		`{"type": "object", "properties": {"next": {"$ref": "#"}}}`: {`{}`, `{"next": {"next": {}}}`},
		`{"type": "object"}`:                                        {`{}`, `{"a": {"b": [1]}}`},
	} {
		g := fromSchema(t, schema)
		for _, text := range texts {
			if !g.matches(text) {
				t.Errorf("%s does not give %.60s", schema, text)
			}
		}
	}
	for schema, texts := range map[string][]string{
		`{"type": "integer", "minimum": -100, "maximum": 1000}`:                           {"-101", "1001", "01", "-0", "1.0", "00"},
		`{"type": "number", "minimum": 0, "maximum": 10}`:                                 {"-1", "10.1", "11", "00"},
		`{"type": "string", "minLength": 1001}`:                                           {`"` + strings.Repeat("a", 1000) + `"`},
		`{"type": "string"}`:                                                              {"\"a\nb\"", `"a`, `"\q"`},
		`{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}`: {`{}`, `{"b": 1}`, `{"a": 1, "a": 2}`},
	} {
		g := fromSchema(t, schema)
		for _, text := range texts {
			if g.matches(text) {
				t.Errorf("%s gives %.60s", schema, text)
			}
		}
	}
	if g := parse(t, JSONObject()); !g.matches(`{"a": [null]}`) || g.matches(`[]`) {
		t.Error("JSONObject")
	}
}

func TestSchemaRefuses(t *testing.T) {
	deep := strings.Repeat(`{"items":`, 5000) + `{}` + strings.Repeat(`}`, 5000)
	var fan, wide strings.Builder
	fan.WriteString(`{"$ref": "#/$defs/a0", "$defs": {`)
	for i := range 60 { // each twice in the one before
		fmt.Fprintf(&fan, `"a%d": {"type": "array", "prefixItems": [{"$ref": "#/$defs/a%d"}, {"$ref": "#/$defs/a%d"}]},`, i, i+1, i+1)
	}
	fan.WriteString(`"a60": {"type": "null"}}}`)
	if g := fromSchema(t, fan.String()); len(g.rules) > 100 {
		t.Errorf("%d rules", len(g.rules))
	}
	wide.WriteString(`{"type": "object", "properties": {`)
	for i := range 3000 {
		fmt.Fprintf(&wide, `"p%d": true,`, i)
	}
	wide.WriteString(`"x": true}}`)
	for want, schema := range map[string]string{
		"not valid JSON":                  `{"type": `,
		"something follows":               `{} {}`,
		"twice in one object":             `{"type": "string", "type": "null"}`,
		"nested more than 64":             deep,
		"at most 65536":                   strings.Repeat(" ", 70000),
		"more than 2000 rules":            wide.String(),
		"something satisfies":             `false`,
		`"strin" is no type`:              `{"type": "strin"}`,
		`"not" is not supported`:          `{"type": "string", "not": {}}`,
		`"if"`:                            `{"if": {}}`,
		`"uniqueItems" is not`:            `{"type": "array", "uniqueItems": true}`,
		`"multipleOf" is not`:             `{"type": "integer", "multipleOf": 2}`,
		`"patternProperties"`:             `{"type": "object", "patternProperties": {}}`,
		`"minLength" is not supported`:    `{"type": "integer", "minLength": 2}`,
		"$.properties.age.minimum":        `{"type": "object", "properties": {"age": {"type": "integer", "minimum": "x"}}}`,
		"only whole numbers":              `{"type": "number", "minimum": 0.5}`,
		"no number is at least":           `{"type": "integer", "minimum": 5, "maximum": 4}`,
		"maxLength is below minLength":    `{"type": "string", "minLength": 5, "maxLength": 4}`,
		"from 0 to 50000":                 `{"type": "string", "maxLength": 1000000000}`,
		"beside another limit":            `{"type": "string", "pattern": "a", "minLength": 5}`,
		"$.pattern: error parsing regexp": `{"type": "string", "pattern": "("}`,
		"only references within":          `{"$ref": "https://example.com/x"}`,
		"is not there":                    `{"$ref": "#/$defs/x"}`,
		"leads back to itself":            `{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}`,
		"without end":                     `{"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]}`,
		"$ref beside":                     `{"$ref": "#/$defs/a", "minLength": 2, "$defs": {"a": {}}}`,
		"anyOf beside":                    `{"anyOf": [{}], "type": "object"}`,
		"only schemas of objects":         `{"allOf": [{"type": "object"}, {"type": "string"}]}`,
		"in two of them":                  `{"allOf": [{"properties": {"a": true}}, {"properties": {"a": {}}}]}`,
		"is no property":                  `{"type": "object", "required": ["x"], "additionalProperties": false}`,
		"expected a list":                 `{"enum": 5}`,
		"not valid UTF-8":                 "{\"const\": \"\xff\"}",
	} {
		_, err := FromSchema([]byte(schema))
		var refused *Error
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) || len(err.Error()) > 300 {
			t.Errorf("%.60s: got %v, want %q", schema, err, want)
		}
	}
}

func FuzzSchema(f *testing.F) {
	f.Add(`{"type": "object", "properties": {"a": {"type": ["integer", "null"], "minimum": 3}}, "required": ["a"]}`, uint64(1))
	f.Add(`{"type": "array", "prefixItems": [{"enum": [1, "x"]}, {"$ref": "#"}], "items": {"pattern": "^a?$"}}`, uint64(2))
	f.Fuzz(func(t *testing.T, schema string, seed uint64) {
		s, err := FromSchema([]byte(schema))
		if err != nil {
			var refused *Error
			if !errors.As(err, &refused) || len(err.Error()) > 300 {
				t.Fatal(err)
			}
			return
		}
		if _, err := Parse(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	})
}
