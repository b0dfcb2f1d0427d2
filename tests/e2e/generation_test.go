package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lorikeet/backend/engine"
	"lorikeet/tests/testserver"
)

const question = "What colour is the sky?"

// The second turn of a conversation computes what is new.
func TestCachedTokens(t *testing.T) {
	s := testserver.Demo(t, engine.Params{})
	first := s.Complete(body{"model": "parrot:pirate", "prompt": question, "max_tokens": 32, "temperature": 0})
	if n := first.Usage.PromptTokensDetails.CachedTokens; n != 0 {
		t.Errorf("the first turn: %d cached tokens", n)
	}
	turn := body{"model": "parrot:pirate", "prompt": question + first.Choices[0].Text + "\nAnd the sea?", "max_tokens": 32, "temperature": 0}
	second := s.Complete(turn)
	if n := second.Usage.PromptTokensDetails.CachedTokens; n < first.Usage.PromptTokens-2 || n >= second.Usage.PromptTokens {
		t.Errorf("the second turn: %d cached tokens of %d", n, second.Usage.PromptTokens)
	}
	chunks := s.Stream(body{"model": "parrot:pirate", "prompt": question, "max_tokens": 4, "temperature": 0, "stream_options": body{"include_usage": true}})
	if u := chunks[len(chunks)-1].Usage; u == nil || u.PromptTokensDetails.CachedTokens != u.PromptTokens-1 {
		t.Errorf("the same prompt in a stream: %+v", u)
	}
	turn["model"] = "parrot:shout"
	if n := s.Complete(turn).Usage.PromptTokensDetails.CachedTokens; n != 0 {
		t.Errorf("another adapter finds %d cached tokens", n)
	}
}

func TestSamplingFields(t *testing.T) {
	s := testserver.Demo(t, engine.Params{})
	ask := func(fields body) string {
		req := body{"model": "parrot", "prompt": question, "max_tokens": 12, "temperature": 0}
		for k, v := range fields {
			req[k] = v
		}
		return s.Complete(req).Choices[0].Text
	}
	plain := ask(nil)
	for name, fields := range map[string]body{
		"top_k 1":  {"temperature": 1, "top_k": 1},
		"min_p 1":  {"temperature": 1.5, "min_p": 1},
		"defaults": {"top_k": -1, "min_p": 0, "typical_p": 1, "repetition_penalty": 1, "presence_penalty": 0, "logit_bias": body{}, "min_tokens": 0},
	} {
		if got := ask(fields); got != plain {
			t.Errorf("%s: %q, plain %q", name, got, plain)
		}
	}
	for name, fields := range map[string]body{
		"repetition_penalty": {"repetition_penalty": 5}, "presence_penalty": {"presence_penalty": 2, "frequency_penalty": 2, "max_tokens": 60, "ignore_eos": true},
		"ignore_eos": {"ignore_eos": true, "max_tokens": 40}, "min_tokens": {"min_tokens": 12},
	} {
		if got := ask(fields); got == plain {
			t.Errorf("%s changes nothing: %q", name, got)
		}
	}
	seeded := body{"temperature": 2, "seed": 7, "top_p": 0.9, "top_k": 50}
	if a, b := ask(seeded), ask(seeded); a != b {
		t.Errorf("one seed, %q and %q", a, b)
	}
}

// Answers keep to what they were asked to look like.
func TestConstraints(t *testing.T) {
	s := testserver.Demo(t, engine.Params{})
	schema := body{"type": "object", "additionalProperties": false, "required": []string{"colour", "certain", "score"}, "properties": body{
		"colour": body{"enum": []string{"red", "green", "blue"}}, "certain": body{"type": "boolean"}, "score": body{"type": "integer", "minimum": 1, "maximum": 100},
	}}
	for name, fields := range map[string]body{
		"json_schema":        {"json_schema": schema},
		"response_format":    {"response_format": body{"type": "json_schema", "json_schema": body{"name": "x", "schema": schema}}},
		"structured_outputs": {"structured_outputs": body{"json": schema}},
		"sampled":            {"guided_json": schema, "temperature": 1.5, "seed": 3},
		"streams together":   {"guided_json": schema, "temperature": 1, "seed": 4, "n": 6},
	} {
		fields["model"], fields["prompt"], fields["max_tokens"] = "parrot:json", question, 100
		if _, ok := fields["temperature"]; !ok {
			fields["temperature"] = 0
		}
		for _, c := range s.Complete(fields).Choices {
			var answer struct {
				Colour  string `json:"colour"`
				Certain *bool  `json:"certain"`
				Score   int    `json:"score"`
			}
			d := json.NewDecoder(strings.NewReader(c.Text))
			d.DisallowUnknownFields()
			if err := d.Decode(&answer); err != nil || !slices.Contains([]string{"red", "green", "blue"}, answer.Colour) || answer.Certain == nil || answer.Score < 1 || answer.Score > 100 {
				t.Errorf("%s: %q: %v", name, c.Text, err)
			}
		}
	}
	for want, fields := range map[string]body{
		`^(blue|pink)$`:       {"guided_choice": []string{"blue", "pink"}},
		`^\d{3}-[a-f]{2}$`:    {"guided_regex": `\d{3}-[a-f]{2}`},
		`^(Ja|Nein), ich .*$`: {"grammar": "root ::= (\"Ja\" | \"Nein\") \", ich \" [a-z ]*"},
	} {
		fields["model"], fields["prompt"], fields["max_tokens"], fields["temperature"] = "parrot", question, 40, 0
		if got := s.Complete(fields).Choices[0].Text; !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%v: %q", fields, got)
		}
	}
	// What may be empty, repeated, makes llama.cpp recurse; it comes there as something else.
	for grammar, want := range map[string]string{
		"root ::= b* \"x\"\nb ::= c\nc ::= \"\" | \"y\"":                           `^y*x?$`,
		"root ::= x{0,2000}\nx ::= a{0,2000}\na ::= b{0,2000}\nb ::= \"\" | \"z\"": `^z*$`,
	} {
		got := s.Complete(body{"model": "parrot", "prompt": question, "max_tokens": 8, "temperature": 0, "grammar": grammar}).Choices[0].Text
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %q", grammar, got)
		}
	}
	// Whatever package grammar writes, llama.cpp accepts.
	for _, schema := range []any{
		body{}, body{"type": "number"}, body{"type": "string", "format": "date-time"}, body{"type": "string", "maxLength": 3000}, body{"type": "array"},
		body{"type": "object", "properties": body{"next": body{"$ref": "#"}}}, body{"type": "string", "pattern": "[^\"\\\\]é*🦜"}, body{"type": "integer", "minimum": -5},
	} {
		s.Complete(body{"model": "parrot", "prompt": question, "max_tokens": 8, "guided_json": schema})
	}
}

// Grammars that are made to hurt are refused, or end themselves, and the next request
// is served.
func TestHurtfulGrammars(t *testing.T) {
	s := testserver.Demo(t, engine.Params{})
	deep := strings.Repeat(`{"items":`, 9000) + `{}` + strings.Repeat(`}`, 9000)
	var rules strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&rules, "r%d ::= r%d\n", i, i+1)
	}
	chain := ""
	for i := range 1900 {
		chain += fmt.Sprintf("r%d ::= r%d\n", i, i+1)
	}
	chain += "r1900 ::= \"a\""
	twice := "root ::= r0\n"
	for i := range 60 { // 2^60 ways to begin
		twice += fmt.Sprintf("r%d ::= r%d \"x\" | r%d \"y\"\n", i, i+1, i+1)
	}
	for name, fields := range map[string]body{
		"parentheses":       {"grammar": "root ::= " + strings.Repeat("(", 60000)},
		"rules":             {"grammar": "root ::= r0\n" + rules.String()},
		"repetition":        {"grammar": `root ::= "a"{1,999999}`},
		"long chain":        {"grammar": "root ::= r0\n" + chain},
		"left recursion":    {"grammar": `root ::= root "a" | "b"`},
		"many ways":         {"grammar": twice + "r60 ::= \"a\""},
		"doubling":          {"grammar": `root ::= [ -~] root "y" | [ -~] root "z" | [ -~]`, "max_tokens": 100},
		"deep schema":       {"guided_json": json.RawMessage(deep)},
		"cyclic schema":     {"guided_json": body{"$ref": "#/$defs/a", "$defs": body{"a": body{"$ref": "#/$defs/b"}, "b": body{"$ref": "#/$defs/a"}}}},
		"regex":             {"guided_regex": "((a{100}){100}){100}"},
		"everything banned": {"allowed_token_ids": []int{5}, "logit_bias": body{"5": -100}, "grammar": `root ::= "zzz"`},
	} {
		fields["model"], fields["prompt"] = "parrot", question
		if status, c := s.Do(fields); status != http.StatusBadRequest || c.Error == nil || c.Error.Type != "invalid_request_error" || len(c.Error.Message) > 600 {
			t.Errorf("%s: status %d, %+v", name, status, c.Error)
		}
		if got := s.Complete(body{"model": "parrot", "prompt": question, "max_tokens": 8, "temperature": 0}).Choices[0].Text; got == "" {
			t.Errorf("after %s: no answer", name)
		}
	}
}

// Two adapters in one request are neither the one nor the other.
func TestSeveralAdapters(t *testing.T) {
	s := testserver.Demo(t, engine.Params{})
	ask := func(loras ...any) string {
		c := s.Complete(body{"model": "parrot", "prompt": "What does the cow say?", "max_tokens": 0, "lora": loras, "logprobs": 0, "echo": true}).Choices[0]
		var b strings.Builder
		for _, lp := range c.Logprobs.TokenLogprobs[1:] {
			fmt.Fprintf(&b, "%.4f ", *lp)
		}
		return b.String()
	}
	pirate, shout := body{"name": "pirate", "scale": 1}, body{"name": "shout", "scale": 1}
	one, other, both := ask(pirate), ask(shout), ask(pirate, shout)
	if both == one || both == other {
		t.Errorf("both %q, pirate %q, shout %q", both, one, other)
	}
	if got := ask(shout, pirate); got != both {
		t.Errorf("the other way round: %q, %q", got, both)
	}
	if got := ask(pirate, body{"name": "shout", "scale": 0}); got != one {
		t.Errorf("the second at scale 0: %q, %q", got, one)
	}
}
