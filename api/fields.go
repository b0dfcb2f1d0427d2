package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// fields are the members of a request body, or of an object in it. The first error is
// kept and later reads answer defaults. An explicit null counts as absent.
type fields struct {
	raw    map[string]json.RawMessage
	within string // where the object is in the body; "" is the body itself
	err    *Error
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
func parseMembers(v json.RawMessage, within string) (f *fields, ok bool) {
	f = &fields{within: within}
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

// object reads a member that is an object, empty if it is absent. What fails in it is
// to be handed to f.fail.
func (f *fields) object(name string) *fields {
	v, ok := f.raw[name]
	if !ok {
		return &fields{}
	}
	sub, ok := parseMembers(v, f.path(name))
	if !ok {
		f.wrongType(name, "an object")
		return &fields{}
	}
	return sub
}

// fail keeps the first error; nil is none.
func (f *fields) fail(e *Error) {
	if f.err == nil {
		f.err = e
	}
}

// path is a member as messages name it.
func (f *fields) path(name string) string {
	if f.within == "" {
		return name
	}
	return f.within + "." + name
}

// invalid blames what is at a path; param is the member of the body that holds it.
func invalid(path, code, format string, args ...any) *Error {
	param := path
	if i := strings.IndexAny(path, ".["); i >= 0 {
		param = path[:i]
	}
	return Invalid(param, code, format, args...)
}

func (f *fields) missing(name string) {
	f.fail(invalid(f.path(name), "missing_required_parameter", "Missing required parameter: '%s'.", f.path(name)))
}

func (f *fields) empty(name string) {
	f.fail(invalid(f.path(name), "empty_array", "Invalid '%s': it must not be empty.", f.path(name)))
}

func (f *fields) refuse(name string) {
	f.fail(invalid(f.path(name), "unsupported_parameter", "Unsupported parameter: '%s' is not supported with this server.", f.path(name)))
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
	f.fail(wrongType(f.path(name), want, f.raw[name]))
}

func wrongType(path, want string, got json.RawMessage) *Error {
	return invalid(path, "invalid_type", "Invalid type for '%s': expected %s, but got %s instead.", path, want, kind(got))
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

// utf8 reads a JSON string that must be what the client meant, to the byte.
func (f *fields) utf8(name string, v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) != nil || replaced(v) {
		f.fail(invalid(f.path(name), "invalid_type", "Invalid '%s': the text is not valid UTF-8.", f.path(name)))
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

func (f *fields) decimal(name string, otherwise, low, high float64) float32 {
	return float32(f.number(name, otherwise, low, high))
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
		f.fail(invalid(f.path(name), what+"_below_min_value", "Invalid '%s': %s below minimum value. Expected a value >= %s, but got %s instead.", f.path(name), what, show(low), show(x)))
	case x > high:
		f.fail(invalid(f.path(name), what+"_above_max_value", "Invalid '%s': %s above maximum value. Expected a value <= %s, but got %s instead.", f.path(name), what, show(high), show(x)))
	}
	return min(max(x, low), high)
}

// elements splits an array of at most limit elements.
func (f *fields) elements(name string, v json.RawMessage, want string, limit int) []json.RawMessage {
	if v[0] != '[' {
		f.fail(wrongType(f.path(name), want, v))
		return nil
	}
	if n := separators(v) + 1; n > limit {
		f.fail(invalid(f.path(name), "array_above_max_length", "Invalid '%s': an array of %d elements, at most %d are allowed.", f.path(name), n, limit))
		return nil
	}
	var out []json.RawMessage
	_ = json.Unmarshal(v, &out) // it was decoded before
	return out
}

// separators counts the commas of an array or object, not those within its elements,
// so that too many of them are refused before there is memory for each.
func separators(v json.RawMessage) (n int) {
	depth, text := 0, false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case text && c == '\\':
			i++ // the escaped character
		case c == '"':
			text = !text
		case text:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == ',' && depth == 1:
			n++
		}
	}
	return n
}

// tokens reads an array of at most limit token ids.
func (f *fields) tokens(name string, limit int) []int32 {
	v, ok := f.raw[name]
	if !ok {
		return nil
	}
	return f.tokenIDs(name, v, "an array of token ids", limit)
}

// MaxTokens is how many token ids one array may have; no context is as long.
const MaxTokens = 1 << 20

func (f *fields) tokenIDs(name string, v json.RawMessage, want string, limit int) []int32 {
	var out []int32
	fine := v[0] == '[' && separators(v) < limit && bytes.IndexByte(v, 'n') < 0 && json.Unmarshal(v, &out) == nil // null would be 0
	if fine && (len(out) == 0 || slices.Min(out) >= 0) {
		if len(out) == 0 {
			return nil
		}
		return out
	}
	elements := f.elements(name, v, want, limit) // to tell what is wrong
	out = make([]int32, len(elements))
	for i, e := range elements {
		n, err := strconv.ParseInt(string(e), 10, 32)
		if err != nil || n < 0 {
			f.fail(Invalid(name, "invalid_token_id", "Invalid '%s': element %d is not a token id.", name, i))
			return nil
		}
		out[i] = int32(n)
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
