package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// fields are the top-level members of a request body. The first error is kept and
// later reads answer defaults. An explicit null counts as absent.
type fields struct {
	raw map[string]json.RawMessage
	err *Error
}

func parseFields(body []byte) (*fields, *Error) {
	f := &fields{}
	err := json.Unmarshal(body, &f.raw)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return nil, Invalid("", "", "We could not parse the JSON body of your request: it is not valid JSON (at byte %d of %d).", syntax.Offset, len(body))
	case err != nil || f.raw == nil:
		return nil, Invalid("", "", "The request body must be a JSON object.")
	}
	f.dropNulls()
	return f, nil
}

// parseMembers reads an object within the body; ok is false if v is none.
func parseMembers(v json.RawMessage) (f *fields, ok bool) {
	f = &fields{}
	if v[0] != '{' || json.Unmarshal(v, &f.raw) != nil {
		return nil, false
	}
	f.dropNulls()
	return f, true
}

func (f *fields) dropNulls() {
	for name, v := range f.raw {
		if string(v) == "null" {
			delete(f.raw, name)
		}
	}
}

func (f *fields) fail(e *Error) {
	if f.err == nil {
		f.err = e
	}
}

// kind names a JSON value as error messages do.
func kind(v json.RawMessage) string {
	switch v[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	if bytes.ContainsAny(v, ".eE") {
		return "a decimal"
	}
	return "an integer"
}

func (f *fields) wrongType(name, want string) {
	f.fail(wrongType(name, want, f.raw[name]))
}

func wrongType(name, want string, got json.RawMessage) *Error {
	return Invalid(name, "invalid_type", "Invalid type for '%s': expected %s, but got %s instead.", name, want, kind(got))
}

func (f *fields) text(name string) string {
	v, ok := f.raw[name]
	if !ok {
		return ""
	}
	var s string
	if json.Unmarshal(v, &s) != nil {
		f.wrongType(name, "a string")
	}
	return s
}

func (f *fields) boolean(name string, otherwise bool) bool {
	v, ok := f.raw[name]
	if !ok {
		return otherwise
	}
	var b bool
	if json.Unmarshal(v, &b) != nil {
		f.wrongType(name, "a boolean")
	}
	return b
}

// number reads a decimal between low and high.
func (f *fields) number(name string, otherwise, low, high float64) float64 {
	v, ok := f.raw[name]
	if !ok {
		return otherwise
	}
	x, err := strconv.ParseFloat(string(v), 64)
	if v[0] == '"' || err != nil && !math.IsInf(x, 0) {
		f.wrongType(name, "a decimal")
		return otherwise
	}
	return f.bound(name, "decimal", x, low, high)
}

// integer reads a whole number between low and high; 5.0 is one.
func (f *fields) integer(name string, otherwise, low, high int) int {
	v, ok := f.raw[name]
	if !ok {
		return otherwise
	}
	x, err := strconv.ParseFloat(string(v), 64)
	if v[0] == '"' || err != nil && !math.IsInf(x, 0) || x != math.Trunc(x) {
		f.wrongType(name, "an integer")
		return otherwise
	}
	return int(f.bound(name, "integer", x, float64(low), float64(high)))
}

func (f *fields) bound(name, what string, x, low, high float64) float64 {
	show := func(x float64) string { return strconv.FormatFloat(x, 'g', 10, 64) }
	switch {
	case x < low:
		f.fail(Invalid(name, what+"_below_min_value", "Invalid '%s': %s below minimum value. Expected a value >= %s, but got %s instead.", name, what, show(low), show(x)))
	case x > high:
		f.fail(Invalid(name, what+"_above_max_value", "Invalid '%s': %s above maximum value. Expected a value <= %s, but got %s instead.", name, what, show(high), show(x)))
	}
	return min(max(x, low), high)
}

// elements splits an array.
func (f *fields) elements(name string, v json.RawMessage, want string) []json.RawMessage {
	var out []json.RawMessage
	if v[0] != '[' || json.Unmarshal(v, &out) != nil {
		f.fail(wrongType(name, want, v))
	}
	return out
}

// replaced tells whether the decoder has to replace invalid UTF-8 or a lone
// surrogate in a JSON string; the text would not be what the client meant.
func replaced(raw json.RawMessage) bool {
	if !utf8.Valid(raw) {
		return true
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++ // the escaped character
		high := escaped(raw[i-1:])
		if !utf16.IsSurrogate(high) {
			continue
		}
		if utf16.DecodeRune(high, escaped(raw[i+5:])) == utf8.RuneError {
			return true
		}
		i += 10 // the rest of both
	}
	return false
}

// escaped is the number in the \uXXXX at the beginning of raw, or -1.
func escaped(raw []byte) rune {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(raw[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}
