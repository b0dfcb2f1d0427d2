package api

import (
	"encoding/json"
	"math"
)

// Prompt is either text or tokens; Tokens is nil if it is text.
type Prompt struct {
	Text   string
	Tokens []int32
}

func (f *fields) prompts() []Prompt {
	v, ok := f.raw["prompt"]
	if !ok {
		f.missing("prompt")
		return nil
	}
	const want = "a string, an array of strings, an array of tokens or an array of such arrays"
	if v[0] == '"' {
		return []Prompt{f.textPrompt(v)}
	}
	elements := f.elements("prompt", v, want, math.MaxInt)
	if f.err != nil {
		return nil
	}
	if len(elements) == 0 {
		f.empty("prompt")
		return nil
	}
	if c := elements[0][0]; c != '"' && c != '[' {
		return []Prompt{{Tokens: f.tokenPrompt(elements)}}
	}
	if len(elements) > MaxChoices {
		f.fail(Invalid("prompt", "array_above_max_length", "Invalid 'prompt': %d prompts in one request, at most %d are allowed.", len(elements), MaxChoices))
		return nil
	}
	var out []Prompt
	for _, e := range elements {
		switch {
		case e[0] == '"' && elements[0][0] == '"':
			out = append(out, f.textPrompt(e))
		case e[0] == '[' && elements[0][0] == '[':
			out = append(out, Prompt{Tokens: f.tokenPrompt(f.elements("prompt", e, want, math.MaxInt))})
		default:
			f.fail(wrongType("prompt", want, e))
		}
		if f.err != nil {
			return nil
		}
	}
	return out
}

func (f *fields) textPrompt(v json.RawMessage) Prompt {
	s := f.utf8("prompt", v)
	if s == "" {
		f.empty("prompt")
	}
	return Prompt{Text: s}
}

func (f *fields) tokenPrompt(elements []json.RawMessage) []int32 {
	if len(elements) == 0 {
		f.empty("prompt")
	}
	return f.tokenIDs("prompt", elements)
}
