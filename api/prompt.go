package api

import (
	"bytes"
	"encoding/json"
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
	if ofTokens(v) {
		return []Prompt{{Tokens: f.tokenPrompt(name, v, want)}}
	}
	elements := f.elements(name, v, want, MaxTokens)
	if f.err != nil {
		return nil
	}
	if len(elements) == 0 {
		f.empty(name)
		return nil
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
			out = append(out, Prompt{Tokens: f.tokenPrompt(name, e, want)})
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

// ofTokens tells whether an array begins with what is neither a text nor an array.
func ofTokens(v json.RawMessage) bool {
	rest := bytes.TrimLeft(v[1:], " \t\r\n")
	return v[0] == '[' && !bytes.ContainsRune([]byte(`"[]`), rune(rest[0]))
}

func (f *fields) tokenPrompt(name string, v json.RawMessage, want string) []int32 {
	out := f.tokenIDs(name, v, want, MaxTokens)
	if len(out) == 0 {
		f.empty(name)
	}
	return out
}
