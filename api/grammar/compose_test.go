package grammar

import (
	"fmt"
	"strings"
	"testing"
)

func compose(t *testing.T, gbnf string, parts map[string]string) (string, error) {
	t.Helper()
	s, err := Compose(gbnf, parts)
	if err == nil {
		if _, err := Parse(s); err != nil {
			t.Errorf("%v in\n%s", err, s)
		}
	}
	return s, err
}

func TestCompose(t *testing.T) {
	part := "root ::= \"<\" x \">\"\nx ::= [a-z] y | \"1\"\ny ::= [0-9]+\n"
	got, err := compose(t, "root ::= a b c", map[string]string{"a": part, "b": part, "c": "root ::= \"c\""})
	if err != nil || strings.Count(got, "[0-9]") != 1 || strings.Count(got, "[a-z]") != 1 || !strings.Contains(got, `"c"`) {
		t.Errorf("%v\n%s", err, got)
	}
	for what, c := range map[string]struct {
		gbnf  string
		parts map[string]string
	}{
		"syntax":           {"root ::= (", nil},
		"syntax in a part": {"root ::= a", map[string]string{"a": "root ::= ("}},
		"no such part":     {"root ::= a", map[string]string{"b": part}},
		"two of a name":    {"root ::= a-x\na-x ::= \"y\"", map[string]string{"a": part}},
	} {
		if got, err := compose(t, c.gbnf, c.parts); err == nil {
			t.Errorf("%s: %s", what, got)
		}
	}
}

// As many tools as an agent has, each with some parameters of its own, fit.
func TestComposeManySchemas(t *testing.T) {
	parts := map[string]string{}
	var calls []string
	for i := range 100 {
		schema := fmt.Sprintf(`{"type": "object", "properties": {"path_%d": {"type": "string"}, "count": {"type": "integer", "minimum": 0},
			"mode": {"enum": ["fast", "exact", "m%d"]}, "tags": {"type": "array", "items": {"type": "string"}}, "at": {"type": "string", "format": "date-time"}}, "required": ["path_%d"]}`, i, i, i)
		name := fmt.Sprint("part-", i)
		gbnf, err := FromSchema([]byte(schema))
		if err != nil {
			t.Fatal(err)
		}
		parts[name] = gbnf
		calls = append(calls, name)
	}
	got, err := compose(t, "root ::= "+strings.Join(calls, " | "), parts)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(got, "uD7FF"); n > 1 { // the characters of a text, once
		t.Errorf("%d times the same", n)
	}
	t.Logf("%d bytes", len(got))
}
