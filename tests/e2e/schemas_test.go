package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"lorikeet/backend/engine"
	"lorikeet/tests/testserver"
)

// randomSchema is a schema of a few levels whose answers are all short, so that each
// ends before max_tokens.
func randomSchema(r *rand.Rand, depth int) body {
	kinds := 8
	if depth == 0 {
		kinds = 6
	}
	switch r.IntN(kinds) {
	case 0:
		low := r.IntN(200) - 100
		return body{"type": "integer", "minimum": low, "maximum": low + r.IntN(2000)}
	case 1:
		return body{"type": "string", "minLength": r.IntN(3), "maxLength": 3 + r.IntN(8)}
	case 2:
		return body{"enum": []any{"red", "green", r.IntN(100), nil, true}[:1+r.IntN(5)]}
	case 3:
		return body{"type": []string{"boolean", "null"}}
	case 4:
		return body{"type": "string", "pattern": []string{`^[a-z]{2,6}$`, `^\d{3}-\d{4}$`, `^(yes|no)$`, `^[A-Z][a-z]{1,4}!?$`}[r.IntN(4)]}
	case 5:
		return body{"type": "string", "format": []string{"date", "uuid", "date-time"}[r.IntN(3)]}
	case 6:
		low := r.IntN(3)
		return body{"type": "array", "items": randomSchema(r, depth-1), "minItems": low, "maxItems": low + 1 + r.IntN(2)}
	}
	properties, required := body{}, []string{}
	for i := range 1 + r.IntN(3) {
		name := fmt.Sprintf("%s_%d", []string{"colour", "größe", "a b", `say "x"`}[r.IntN(4)], i)
		properties[name] = randomSchema(r, depth-1)
		if r.IntN(2) == 0 {
			required = append(required, name)
		}
	}
	return body{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}

// Whatever the schema and the adapter, an answer is JSON of the schema, as an independent
// implementation sees it; the requests share their steps.
func TestRandomSchemas(t *testing.T) {
	s := testserver.Demo(t, engine.Params{})
	const seed = 5
	r := rand.New(rand.NewPCG(seed, seed))
	models := []string{"parrot", "parrot:json", "parrot:pirate", "parrot:shout"}
	places := make(chan struct{}, 8)
	var running sync.WaitGroup
	for i := range 200 {
		schema, err := json.Marshal(randomSchema(r, 3))
		if err != nil {
			t.Fatal(err)
		}
		format := body{"type": "json_schema", "json_schema": body{"name": "random", "strict": true, "schema": json.RawMessage(schema)}}
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			got := s.Complete(body{
				"model": models[i%len(models)], "prompt": question, "max_tokens": 900, "temperature": float64(i%3) / 2, "seed": i, "response_format": format,
			})
			c := got.Choices[0]
			if err := validate(string(schema), c.Text); err != nil || *c.FinishReason != "stop" {
				t.Errorf("seed %d, schema %d: %v (%s)\n%s\n%s", seed, i, err, *c.FinishReason, schema, c.Text)
			}
		})
	}
	running.Wait()
}

// validate asks an independent implementation whether text is JSON of a schema.
func validate(schema, text string) error {
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		return err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", parsed); err != nil {
		return err
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return compiled.Validate(value)
}
