package grammar

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func grammarOf(t testing.TB, text string) *Grammar {
	t.Helper()
	gbnf, err := FromSchema([]byte(text))
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return must(t, gbnf, nil)
}

// validator asks an independent implementation.
func validator(t testing.TB, schema string) func(text string) error {
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
	return func(text string) error {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return err
		}
		return compiled.Validate(v)
	}
}

const tree = `{"$defs": {"n": {"type": "object", "properties": {"v": {"type": "null"}, "next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}}, "required": ["v", "next"]}}, "$ref": "#/$defs/n"}`

var goodSchemas = []string{
	`true`, `{}`, `{"title": "anything", "x-unknown": 5}`, `{"type": ["string", "object", "array", "number", "integer", "boolean", "null"]}`,
	`{"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name", "age"], "additionalProperties": false}`,
	`{"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}, "c": {"type": "number"}}}`,
	`{"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}, "c": {}, "d": {"const": 1}, "e": {"const": 1}}, "required": ["b", "d"]}`,
	`{"type": "object", "properties": {"a\"\\é": {"const": "x\"y"}}, "required": ["other"]}`,
	`{"type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9}}`,
	`{"type": "object", "properties": {}, "additionalProperties": false}`, `{"type": "object", "properties": {"x": false, "y": true}}`,
	`{"type": "object", "properties": {"ab": {"const": 1}, "a": {"const": 2}, "b\n": {"const": 3}, "": {"const": 4}}, "required": ["a"], "additionalProperties": {"enum": ["x"]}}`,
	`{"properties": {"a": {"type": "null"}}, "required": ["b"], "additionalProperties": {"type": "boolean"}}`,
	`{"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4}`, `{"type": "array", "maxItems": 1}`, `{"type": "array", "minItems": 1}`,
	`{"type": "array", "items": {"type": "string", "maxLength": 3}}`, `{"type": "array", "items": {"const": 1}, "maxItems": 300, "minItems": 150}`,
	`{"type": "array", "maxItems": 0}`, `{"type": "array", "items": false}`,
	`{"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false}`,
	`{"type": "array", "prefixItems": [{"type": "boolean"}], "items": {"type": "null"}, "minItems": 3}`,
	`{"type": "array", "prefixItems": [{"const": 1}, {"const": 2}, {"const": 3}], "maxItems": 2}`, `{"type": "array", "prefixItems": [{"const": 1}], "minItems": 2}`,
	`{"type": "array", "prefixItems": [` + strings.Repeat(`{"type": "null"}, `, 30) + `{"const": 1}]}`,
	`{"type": "string", "minLength": 2, "maxLength": 5}`, `{"type": "string", "minLength": 70}`, `{"type": "string", "maxLength": 2000}`, `{"type": "string", "minLength": 3, "maxLength": 2147483647}`,
	`{"type": "string", "pattern": "^[a-z]{2,4}-\\d+$"}`, `{"type": "string", "pattern": "ab|cd"}`, `{"type": "string", "pattern": "^[^a]\\\\\"\\n?"}`, `{"pattern": "^[^x]+$", "maxLength": 5}`,
	`{"type": "string", "pattern": "^[A-Z]{3}$", "minLength": 3, "maxLength": 3}`, `{"type": "string", "pattern": "b", "maxLength": 3}`, `{"type": "string", "pattern": "^(\\w)*$", "minLength": 1, "maxLength": 4}`,
	`{"type": "string", "format": "date"}`, `{"type": "string", "format": "date-time"}`, `{"type": "string", "format": "time"}`, `{"type": "string", "format": "uuid", "minLength": 36}`,
	`{"type": "integer"}`, `{"type": "integer", "minimum": 7}`, `{"type": "integer", "maximum": -7}`, `{"type": "integer", "minimum": -12, "maximum": 345}`,
	`{"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 100}`, `{"type": "integer", "minimum": 95, "maximum": 1005}`, `{"type": "integer", "minimum": -250, "maximum": -249}`,
	`{"type": "integer", "minimum": -9223372036854775808, "maximum": 18446744073709551615}`, `{"type": "integer", "minimum": 0.5, "exclusiveMaximum": 2.5}`, `{"type": "integer", "maximum": 1e300}`,
	`{"type": "integer", "minimum": 1e3, "maximum": 2000, "exclusiveMinimum": 1000}`, `{"type": "integer", "minimum": 12345678901234567}`, `{"type": "integer", "minimum": 0, "maximum": 0}`,
	`{"type": "number"}`, `{"type": "number", "minimum": 0, "maximum": 1}`, `{"type": "number", "minimum": -3, "maximum": 12}`, `{"type": "number", "minimum": 2}`, `{"type": "number", "maximum": -2}`,
	`{"type": "number", "minimum": 0.25, "maximum": 0.3}`, `{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}`, `{"type": "number", "exclusiveMinimum": -1.5, "maximum": 99.95}`, `{"type": "number", "exclusiveMinimum": 9.99, "exclusiveMaximum": 10.01}`,
	`{"type": "number", "minimum": -1.7976931348623157e308, "maximum": 1.7976931348623157e308}`, `{"minimum": 3}`, `{"type": ["integer", "null"], "minimum": 3}`,
	`{"type": "number", "minimum": 2.5e-1, "maximum": 30e-2, "exclusiveMaximum": 0.3}`, `{"maximum": 3, "allOf": [{"maximum": 2}, {"maximum": 4}, {"exclusiveMaximum": 2}], "minimum": 1}`, `{"enum": [-1, -2, -1.25, 3], "minimum": -1.5, "exclusiveMaximum": 3}`,
	`{"type": ["string", "null"]}`, `{"type": "string", "nullable": false}`, `{"enum": ["a", 1, null, {"x": [true], "y": {}}, 1.5e3, []]}`, `{"const": {"a": [1, "é\n\u0000"]}}`, `{"type": "string", "enum": ["a", "b", 5]}`,
	`{"type": "integer", "enum": [1, 2.0, 3.5, 40], "maximum": 30}`, `{"enum": ["a", "abc", ""], "minLength": 1, "maxLength": 2}`, `{"type": "string", "enum": ["a", "b"], "const": "b"}`,
	`{"anyOf": [{"type": "integer", "minimum": 5, "maximum": 6}, {"type": "boolean"}]}`, `{"anyOf": [{"type": "string"}, {"type": "null"}]}`, `{"oneOf": [{"const": 1}, {"const": 2}]}`,
	`{"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}`,
	`{"type": "string", "anyOf": [{"minLength": 3, "maxLength": 4}, {"const": "x"}, {"type": "null"}]}`,
	`{"anyOf": [{"const": 1}, {"const": 2}], "oneOf": [{"const": 2}, {"const": 3}]}`,
	`{"allOf": [{"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}, {"properties": {"b": {"type": "boolean"}}}]}`,
	`{"allOf": [{"properties": {"a": {"type": ["null", "boolean"]}}}, {"properties": {"a": {"type": ["string", "boolean"]}, "b": {"const": 1}}, "additionalProperties": false}], "required": ["a"]}`,
	`{"allOf": [{"type": "integer", "minimum": 3}, {"type": "number", "maximum": 5.5}, {"minimum": 4}]}`, `{"allOf": [{"enum": [1, 2, 3]}, {"enum": [3.0, 2, 5]}]}`,
	`{"allOf": [{"prefixItems": [{"type": "integer"}], "items": {"minimum": 3}}, {"items": {"type": "integer", "maximum": 5}, "minItems": 2}], "maxItems": 3}`,
	tree, `{"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}}, "required": ["children"]}`,
	`{"properties": {"a": {"items": {"type": "null"}}}, "required": ["a"]}`,
	`{"$defs": {"base": {"type": "object", "properties": {"id": {"type": "integer"}, "up": {"$ref": "#/$defs/base"}}, "required": ["id"]}}, "allOf": [{"$ref": "#/$defs/base"}], "properties": {"name": {"const": "x"}, "up": {"required": ["name"]}}}`,
	`{"$ref": "#/$defs/a~1b%20c", "description": "x", "maxLength": 2, "$defs": {"a/b c": {"type": "string", "minLength": 2}}}`, `{"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"const": 1}], "additionalItems": {"const": 2}}`,
	`{"definitions": {"x": {"prefixItems": [{"$ref": "#/definitions/x/prefixItems/1"}, {"type": "null"}]}}, "$ref": "#/definitions/x"}`,
	`{"$defs": {"v": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/v"}}, {"type": "object", "additionalProperties": {"$ref": "#/$defs/v"}}]}}, "$ref": "#/$defs/v"}`,
	`{"type": "array", "uniqueItems": false, "patternProperties": {}}`, `{"type": "object", "properties": {"` + strings.Repeat("long ", 100) + `": {"type": "null"}}}`,
}

// Whatever a schema's grammar gives satisfies the schema.
func TestSchemas(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, s := range goodSchemas {
		g := grammarOf(t, s)
		l := checkLlama(t, g)
		r := newGenerator(g, rng)
		valid := validator(t, s)
		for i := range 100 {
			text := r.text(60)
			if err := valid(text); err != nil {
				t.Fatalf("%s\ngives %s: %v\n%s", s, text, err, g)
			}
			if i < 5 && (!g.matches(text) || len(text) < 500 && !l.follow(text)) {
				t.Fatalf("%s\ngives %q and does not match it\n%s", s, text, g)
			}
		}
	}
}

// What a schema allows, its grammar gives, but for what FromSchema says it leaves out;
// and not what it does not allow.
func TestSchemasMatch(t *testing.T) {
	tests := []struct {
		schema  string
		yes, no []string
	}{
		{`{}`, []string{`{"a": [1, -2.5e+10, "x\u00e9\n", null, {}, []], "b": true}`, `""`, `0`, `"\ud83e\udd9c"`}, []string{"", " 1", `{"a":  1}`, `[1 ]`, `"\ud83e"`, "\"\n\"", `"\x"`, `01`, `1.`, `{"a":1,}`}},
		{
			`{"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "null"}}, "required": ["b"]}`,
			[]string{`{"a": 1, "b": "x", "c": null}`, `{"b": "x"}`, `{"b":"x","c":null}`, `{"a": -7, "b": ""}`},
			[]string{`{}`, `{"a": 1}`, `{"b":"","a":1}`, `{"b": "x",}`, `{"b":"","b":""}`, `{"b":"","d":1}`},
		},
		{`{"type": "object", "properties": {"a": {}, "b": {}, "c": {}}}`, []string{`{}`, `{"a":1}`, `{"b":1}`, `{"c":1}`, `{"a":1,"c":1}`, `{"b":1,"c":1}`, `{"a":1, "b":1, "c": 1}`}, []string{`{"c":1,"a":1}`, `{"a":1,"a":1}`}},
		{
			`{"type": "object", "properties": {"ab": {"type": "null"}}, "additionalProperties": {"type": "boolean"}}`,
			[]string{`{}`, `{"ab":null}`, `{"ab":null, "a":true,"abc":true,"":true, "b": false}`, `{"x": true}`},
			[]string{`{"ab":true}`, `{"ab":null,"ab":true}`, `{"x":null}`, `{"a\u0062": true}`},
		},
		{`{"type": "object"}`, []string{`{}`, `{"a": {"b": [1]}}`}, []string{`[]`}},
		{`{"type": "object", "additionalProperties": false}`, []string{`{}`}, []string{`{"a":1}`}},
		{`{"type": "object", "properties": {"next": {"$ref": "#"}}}`, []string{`{}`, `{"next": {"next": {}}}`}, []string{`{"next": 1}`}},
		{`{"type": "string", "minLength": 1, "maxLength": 3000}`, []string{`"a"`, `"` + strings.Repeat("é", 3000) + `"`, `"\n"`}, []string{`""`, `"` + strings.Repeat("é", 3001) + `"`}},
		{`{"type": "string", "minLength": 1001}`, []string{`"` + strings.Repeat("a", 1001) + `"`}, []string{`"` + strings.Repeat("a", 1000) + `"`}},
		{`{"type": "string", "maxLength": 1}`, []string{`""`, `"\ud83e\udd9c"`, `"🦜"`, `"\u0000"`}, []string{`"\u0000\u0000"`}},
		{`{"type": "string", "pattern": "[0-9]"}`, []string{`"a1b"`, `"1"`}, []string{`"a"`}},
		{`{"type": "string", "pattern": "^[\"\\\\\\n\\x01]$"}`, []string{`"\""`, `"\\"`, `"\n"`, `"\u0001"`}, []string{`"""`, `"\"`, `"a"`}},
		{`{"type": "string", "pattern": "^\\w*$", "minLength": 2, "maxLength": 3}`, []string{`"ab"`, `"abc"`}, []string{`"a"`, `"abcd"`, `"a-"`}},
		{`{"type": "string", "format": "date"}`, []string{`"2024-02-29"`, `"2023-12-31"`, `"2000-02-29"`}, []string{`"2023-02-29"`, `"1900-02-29"`, `"2024-04-31"`, `"2024-13-01"`}},
		{`{"type": "integer"}`, []string{"0", "-1", "999999999999999"}, []string{"-0", "01", "1.0", "1000000000000000"}},
		{`{"type": "integer", "minimum": -100, "maximum": 1000}`, []string{"-100", "-99", "-1", "0", "9", "10", "99", "999", "1000"}, []string{"-101", "1001", "01", "-0", "1.0", "00", "-"}},
		{`{"type": "integer", "exclusiveMinimum": 99, "exclusiveMaximum": 250}`, []string{"100", "199", "249"}, []string{"99", "250", "251", "10"}},
		{`{"type": "integer", "maximum": 9223372036854775807}`, []string{"9223372036854775807", "-5"}, []string{"9223372036854775808"}},
		{`{"type": "number", "minimum": 0, "maximum": 10}`, []string{"0", "0.5", "9.999", "10", "10.0", "0.0"}, []string{"-1", "10.1", "11", "00", "-0", "10.01", "1e0"}},
		{`{"type": "number", "exclusiveMinimum": 0.5, "maximum": 2.25}`, []string{"0.51", "0.6", "1", "2", "2.25", "2.250", "2.2", "0.50001", "1.999"}, []string{"0.5", "0.50", "2.26", "2.3", "3", "0", "0.4"}},
		{`{"type": "number", "minimum": -2.5, "exclusiveMaximum": -1}`, []string{"-2.5", "-1.1", "-2", "-1.0001"}, []string{"-1", "-1.0", "-2.51", "-3", "1", "0"}},
		{`{"enum": ["a\"b", 12, [1, 2], {"a":null}]}`, []string{`"a\"b"`, "12", "[1, 2]", "[1,2]", `{"a": null}`}, []string{"1", "[1, 2"}},
		{`{"type": "array", "items": {"type": "integer"}}`, []string{"[]", "[1]", "[1, 2,3]"}, []string{"[1,]", "[null]"}},
		{`{"prefixItems": [{"const": 1}, {"const": 2}, {"const": 3}], "minItems": 1}`, []string{"[1]", "[1, 2]", "[1,2,3]"}, []string{"[]", "[2]", "[1,2,3,4]"}},
		{`{"type": "string", "nullable": true}`, []string{`""`, "null"}, []string{"1"}},
	}
	for _, tt := range tests {
		g := grammarOf(t, tt.schema)
		l := checkLlama(t, g)
		valid := validator(t, tt.schema)
		for _, text := range tt.yes {
			if err := valid(text); err != nil && !strings.Contains(tt.schema, "nullable") {
				t.Errorf("%s: %v", text, err)
			}
			if !g.matches(text) || len(text) < 1000 && !l.follow(text) {
				t.Errorf("%s\ndoes not give %.60s\n%s", tt.schema, text, g)
			}
		}
		for _, text := range tt.no {
			if g.matches(text) || len(text) < 1000 && l.follow(text) {
				t.Errorf("%s\ngives %.60s\n%s", tt.schema, text, g)
			}
		}
	}
	if g := parse(t, JSONObject()); !g.matches(`{"a": [null]}`) || !g.matches(`{}`) || g.matches(`[]`) {
		t.Errorf("%s", g)
	}
}

// Every integer within bounds is given, and no other.
func TestIntegers(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 60 {
		low := rng.IntN(2400) - 1200
		high := low + rng.IntN(300)
		g := grammarOf(t, fmt.Sprintf(`{"type": "integer", "minimum": %d, "maximum": %d}`, low, high))
		for i := low - 20; i < high+20; i++ {
			if g.matches(fmt.Sprint(i)) != (low <= i && i <= high) {
				t.Fatalf("%d to %d: %d\n%s", low, high, i, g)
			}
		}
	}
}

// Numbers with decimals, by what a float says of them.
func TestNumbers(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for range 100 {
		low := float64(rng.IntN(4000)-2000) / 100
		high := low + float64(rng.IntN(500))/100
		open := rng.IntN(2) == 0
		s := fmt.Sprintf(`{"type": "number", "minimum": %.2f, "maximum": %.2f}`, low, high)
		if open {
			s = fmt.Sprintf(`{"type": "number", "exclusiveMinimum": %.2f, "exclusiveMaximum": %.2f}`, low, high)
		}
		gbnf, err := FromSchema([]byte(s))
		if err != nil {
			if !open || low < high {
				t.Errorf("%s: %v", s, err)
			}
			continue
		}
		g := must(t, gbnf, err)
		valid := validator(t, s)
		for range 50 {
			text := fmt.Sprintf("%.*f", rng.IntN(4), low+(high-low)*(rng.Float64()*1.4-0.2))
			if strings.Trim(text, "-0.") == "" {
				continue // -0 is left out
			}
			if g.matches(text) != (valid(text) == nil) {
				t.Fatalf("%s: %s\n%s", s, text, g)
			}
		}
	}
}

// defs is a schema that refers to the first of many definitions.
func defs(n int, f func(i int) string) string {
	return `{"$ref": "#/$defs/a0", "$defs": {` + many(n, func(i int) string { return fmt.Sprintf(`"a%d": %s, `, i, f(i)) }) + `"last": {"type": "null"}}}`
}

func next(i, n int) string { return fmt.Sprintf(`{"$ref": "#/$defs/a%d"}`, (i+1)%n) }

// Large, but no larger than their input says.
func TestSchemasThatFanOut(t *testing.T) {
	const n = 60
	last := func(i int, s string) string {
		if i == n-1 {
			return `{"type": "null"}`
		}
		return s
	}
	for name, s := range map[string]string{
		"prefixItems": defs(n, func(i int) string { return last(i, `{"prefixItems": [`+next(i, n)+`, `+next(i, n)+`]}`) }),
		"properties":  defs(n, func(i int) string { return last(i, `{"properties": {"a": `+next(i, n)+`, "b": `+next(i, n)+`}}`) }),
		"anyOf":       defs(n, func(i int) string { return last(i, `{"anyOf": [`+next(i, n)+`, `+next(i, n)+`]}`) }),
		"allOf":       defs(n, func(i int) string { return last(i, `{"allOf": [`+next(i, n)+`, `+next(i, n)+`]}`) }),
		"ring":        defs(n, func(i int) string { return `{"items": ` + next(i, n) + `}` }),
		"optional":    `{"properties": {` + many(200, func(i int) string { return fmt.Sprintf(`"p%d": {"type": "null"}, `, i) }) + `"x": true}}`,
		"required":    `{"properties": {` + many(900, func(i int) string { return fmt.Sprintf(`"p%d": true, `, i) }) + `"x": true}, "required": [` + many(900, func(i int) string { return fmt.Sprintf(`"p%d", `, i) }) + `"x"]}`,
		"enum":        `{"enum": [` + many(7000, func(i int) string { return fmt.Sprintf("%d, ", i*7) }) + `0]}`,
		"deep":        strings.Repeat(`{"items": `, 60) + `{}` + strings.Repeat(`}`, 60),
		"lengths":     `{"prefixItems": [` + many(50, func(i int) string { return fmt.Sprintf(`{"type": "string", "maxLength": %d}, `, 1000000+i) }) + `true]}`,
	} {
		g := grammarOf(t, s)
		checkLlama(t, g)
		if len(g.String()) > 4*len(s)+2000 && name != "lengths" {
			t.Errorf("%s: %d bytes from %d", name, len(g.String()), len(s))
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	branches := func(n int, with string) string { // 2^n
		return `{` + with + `"allOf": [` + many(n, func(i int) string {
			return fmt.Sprintf(`{"anyOf": [{"properties": {"a%d": true}}, {"properties": {"b%d": true}}]}, `, i, i)
		}) + `true]}`
	}
	lengths := `{"allOf": [` + many(60, func(i int) string {
		return fmt.Sprintf(`{"anyOf": [{"minLength": %d}, {"maxLength": %d}]}, `, i, 60+i)
	}) + `true]}`
	for want, all := range map[string][]string{
		"not valid JSON":                     {`{"type": `, `{} {}`, ``, "nothing", "{\"const\": \"\xff\"}", `{"a" 1}`},
		"$.properties.a: is there":           {`{"properties": {"a": {}, "a": {}}}`},
		"nested more than 64":                {strings.Repeat(`{"items":`, 5000) + `{}` + strings.Repeat(`}`, 5000), strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000)},
		"the limit is 65536":                 {strings.Repeat(" ", 70000)},
		"a schema is an object":              {`[]`, `5`, `"x"`, `null`, `{"items": 5}`, `{"anyOf": [null]}`},
		"no value satisfies":                 {`false`, `{"not": {}, "type": []}`[:0] + `{"enum": [1], "type": "string"}`, `{"minLength": 5, "maxLength": 4}`, `{"type": "integer", "minimum": 5, "maximum": 4}`, `{"type": "object", "properties": {"x": false}, "required": ["x"]}`, `{"required": ["x"], "additionalProperties": false}`, `{"minItems": 2, "maxItems": 1}`, `{"allOf": [{"type": "object"}, {"type": "string"}]}`, `{"properties": {"x": {"$ref": "#"}}, "required": ["x"]}`, `{"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 4}`, `{"anyOf": [false, {"$ref": "#/anyOf/0"}]}`},
		"$.type: \"strin\" is no type":       {`{"type": "strin"}`},
		"the name of a type":                 {`{"type": 5}`, `{"type": ["string", 1]}`},
		"at least one type":                  {`{"type": []}`},
		"$.not: this keyword":                {`{"type": "string", "not": {}}`},
		"this keyword is not supported":      {`{"if": {}}`, `{"type": "array", "uniqueItems": true}`, `{"type": "integer", "multipleOf": 2}`, `{"patternProperties": {"a": true}}`, `{"contains": {}}`, `{"propertyNames": {"maxLength": 3}}`, `{"minProperties": 1}`, `{"maxProperties": 1}`, `{"dependentRequired": {"a": ["b"]}}`, `{"unevaluatedProperties": false}`, `{"$dynamicRef": "#x"}`, `{"then": {}}`},
		"$.properties.age.minimum: a number": {`{"type": "object", "properties": {"age": {"type": "integer", "minimum": "x"}}}`},
		"not more than 1e400":                {`{"minimum": 1e999999999}`, `{"maximum": 1e-99999999999999999999}`},
		"more than 20 digits":                {`{"type": "integer", "minimum": 1e30}`, `{"type": "number", "maximum": -1e30}`},
		"more than 20 decimals":              {`{"type": "number", "minimum": 1e-30}`},
		"an integer of at least 0":           {`{"maxLength": -1}`, `{"minItems": 1.5}`, `{"maxItems": "1"}`, `{"minLength": null}`},
		"$.pattern: ":                        {`{"type": "string", "pattern": "("}`, `{"pattern": "(?=a)b"}`, `{"pattern": "a\\b"}`, `{"pattern": "` + strings.Repeat("a", 9000) + `"}`},
		"beside this pattern":                {`{"type": "string", "pattern": "^ab?c+$", "minLength": 5}`, `{"type": "string", "format": "date-time", "maxLength": 20}`},
		"two patterns":                       {`{"pattern": "a", "allOf": [{"pattern": "b"}]}`},
		"two formats":                        {`{"format": "date", "allOf": [{"format": "time"}]}`},
		"enum and const":                     {`{"enum": ["a"], "pattern": "b"}`, `{"const": {}, "required": ["a"]}`, `{"const": [], "minItems": 1}`},
		"only references within":             {`{"$ref": "https://example.com/x"}`, `{"$ref": "other.json#/a"}`, `{"$ref": "#anchor"}`},
		"is not there":                       {`{"$ref": "#/$defs/x"}`, `{"$ref": "#/allOf/1", "allOf": [true]}`, `{"$ref": "#/allOf/-1", "allOf": [true]}`, `{"$ref": "#/title/x", "title": "x"}`},
		"$ref leads back":                    {`{"$ref": "#"}`, `{"$ref": ""}`, defs(2, func(i int) string { return next(i, 2) }), defs(500, func(i int) string { return next(i, 500) }), defs(3, func(i int) string { return `{"anyOf": [` + next(i, 3) + `, {"type": "null"}]}` }), defs(1, func(i int) string { return `{"type": "object", "anyOf": [` + next(i, 1) + `, {"required": ["a"]}]}` }), defs(1, func(i int) string { return `{"allOf": [` + next(i, 1) + `]}` })},
		"an array":                           {`{"enum": 5}`, `{"enum": []}`, `{"required": "a"}`, `{"prefixItems": {}}`, `{"anyOf": {}}`, `{"items": [], "prefixItems": []}`},
		"a string is expected":               {`{"required": [1]}`, `{"pattern": 5}`, `{"$ref": 5}`},
		"an object is expected":              {`{"properties": []}`},
		"at least one schema":                {`{"anyOf": []}`},
		"too complex":                        {lengths, defs(1, func(int) string { return lengths })},
		"more than 2000 rules":               {branches(60, ``), branches(60, `"type": "object", `), `{"properties": {` + many(2100, func(i int) string { return fmt.Sprintf(`"p%d": true, `, i) }) + `"x": true}}`, `{"properties": {"` + strings.Repeat("long", 1000) + `": true}, "additionalProperties": true}`},
		"in normal form":                     {`{"prefixItems": [` + many(3000, func(i int) string { return fmt.Sprintf(`{"const": "v%d"}, `, i) }) + `true]}`},
		"character being read":               {`{"properties": {` + many(400, func(i int) string { return fmt.Sprintf(`"p%d": true, `, i) }) + `"x": true}}`},
	} {
		for _, s := range all {
			if gbnf, err := FromSchema([]byte(s)); err == nil {
				t.Errorf("%.200s is accepted (%d bytes), want %q", s, len(gbnf), want)
			} else {
				refuses(t, err, want)
			}
		}
	}
}

func FuzzSchema(f *testing.F) {
	for i, s := range goodSchemas {
		f.Add(s, uint64(i))
	}
	f.Fuzz(func(t *testing.T, s string, seed uint64) {
		gbnf, err := FromSchema([]byte(s))
		if err != nil {
			refuses(t, err, "")
			return
		}
		g := must(t, gbnf, nil)
		again(t, g)
		checkLlama(t, g)
		text := newGenerator(g, rand.New(rand.NewPCG(seed, 0))).text(30)
		if len(text) < 200 && !g.matches(text) {
			t.Fatalf("%s\ngives %q and does not match it\n%s", s, text, g)
		}
		var v any
		if v, err = jsonschema.UnmarshalJSON(strings.NewReader(text)); err != nil {
			t.Fatalf("%s\ngives %q: %v", s, text, err)
		}
		for _, other := range []string{"$schema", "$id", `"id"`, "nullable", "oneOf"} { // that mean other things to the validator
			if strings.Contains(s, other) {
				return
			}
		}
		c := jsonschema.NewCompiler()
		whole, err := jsonschema.UnmarshalJSON(strings.NewReader(s))
		if err != nil || c.AddResource("schema.json", whole) != nil {
			return
		}
		if compiled, err := c.Compile("schema.json"); err == nil {
			if err := compiled.Validate(v); err != nil {
				t.Fatalf("%s\ngives %s: %v\n%s", s, text, err, g)
			}
		}
	})
}
