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

// prompts reads a member that is a text, tokens, or a list of at most limit of either.
func (f *fields) prompts(name string, limit int) []Prompt {
	v, ok := f.raw[name]
	if !ok {
		f.missing(name)
		return nil
	}
	const want = "a string, an array of strings, an array of tokens or an array of such arrays"
	if v[0] == '"' {
		return []Prompt{f.textPrompt(name, v)}
	}
	elements := f.elements(name, v, want, math.MaxInt)
	if f.err != nil {
		return nil
	}
	if len(elements) == 0 {
		f.empty(name)
		return nil
	}
	if c := elements[0][0]; c != '"' && c != '[' {
		return []Prompt{{Tokens: f.tokenPrompt(name, elements)}}
	}
	if len(elements) > limit {
		f.fail(Invalid(name, "array_above_max_length", "Invalid '%s': an array of %d, at most %d are allowed in one request.", name, len(elements), limit))
		return nil
	}
	var out []Prompt
	for _, e := range elements {
		switch {
		case e[0] == '"' && elements[0][0] == '"':
			out = append(out, f.textPrompt(name, e))
		case e[0] == '[' && elements[0][0] == '[':
			out = append(out, Prompt{Tokens: f.tokenPrompt(name, f.elements(name, e, want, math.MaxInt))})
		default:
			f.fail(wrongType(name, want, e))
		}
		if f.err != nil {
			return nil
		}
	}
	return out
}

func (f *fields) textPrompt(name string, v json.RawMessage) Prompt {
	s := f.utf8(name, v)
	if s == "" {
		f.empty(name)
	}
	return Prompt{Text: s}
}

func (f *fields) tokenPrompt(name string, elements []json.RawMessage) []int32 {
	if len(elements) == 0 {
		f.empty(name)
	}
	return f.tokenIDs(name, elements)
}
