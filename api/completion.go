// Package api holds OpenAI's wire types: requests are decoded and validated here
// once, so that whatever goes further is valid; responses and errors have here the
// exact shape in which they are sent.
//
// It knows no models: whether a name exists, a prompt fits or an adapter can be
// served is found out behind it. Nor does it know HTTP, except for the status that
// an [Error] carries.
package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Limits of a completion request.
const (
	MaxChoices  = 128 // in one request: n for each prompt
	MaxStops    = 64
	MaxStopSize = 1024 // bytes of one stop string
	MaxLogprobs = 20
)

// CompletionRequest is a valid request for /v1/completions.
type CompletionRequest struct {
	Model            string
	Prompts          []Prompt // at least one
	AddSpecialTokens bool     // for prompts that are text
	MaxTokens        int
	Temperature      float32
	TopP             float32
	Seed             uint32 // the client's, or drawn
	N                int    // choices per prompt
	Stop             []string
	Echo             bool
	Logprobs         int // -1: none
	Stream           bool
	IncludeUsage     bool // in a stream
	LoRA             []LoRA
}

// Prompt is either text or tokens; Tokens is nil if it is text.
type Prompt struct {
	Text   string
	Tokens []int32
}

// LoRA asks for an adapter beside the model field, at a scale.
type LoRA struct {
	Name  string
	Scale float32
}

// MaxScale bounds the scale of an adapter, either way.
const MaxScale = 16

// Fields that would change the answer and are not served. The values listed beside
// them ask for nothing; beside nil, those in nothing do.
var unsupported = map[string][]string{
	"suffix": nil, "best_of": nil, "logit_bias": nil, "presence_penalty": nil, "frequency_penalty": nil,
	"top_k": {"-1", "0"}, "min_p": nil, "typical_p": {"1", "1.0"}, "repetition_penalty": {"1", "1.0"}, "min_tokens": nil, "ignore_eos": nil,
	"stop_token_ids": nil, "include_stop_str_in_output": nil, "skip_special_tokens": {"true"}, "return_token_ids": nil,
	"return_tokens_as_token_ids": nil, "grammar": nil, "json_schema": nil, "response_format": {`{"type":"text"}`, "{}"},
	"structured_outputs": nil, "guided_json": nil, "guided_regex": nil, "guided_choice": nil, "guided_grammar": nil,
	"prompt_logprobs": {}, "truncate_prompt_tokens": {"-1", "0"}, "allowed_token_ids": nil, "bad_words": nil,
	"use_beam_search": nil, "prompt_embeds": nil,
}

var nothing = []string{"false", "0", "0.0", `""`, "[]", "{}"}

// DecodeCompletion reads and validates a request body.
func DecodeCompletion(body []byte) (*CompletionRequest, *Error) {
	f, err := parseFields(body)
	if err != nil {
		return nil, err
	}
	r := &CompletionRequest{
		Model:            f.text("model"),
		AddSpecialTokens: f.boolean("add_special_tokens", true),
		MaxTokens:        f.integer("max_tokens", 16, 0, math.MaxInt32),
		Temperature:      float32(f.number("temperature", 1, 0, 2)),
		TopP:             float32(f.number("top_p", 1, 0, 1)),
		Seed:             f.seed(),
		N:                f.integer("n", 1, 1, MaxChoices),
		Stop:             f.stop(),
		Echo:             f.boolean("echo", false),
		Logprobs:         f.integer("logprobs", -1, 0, MaxLogprobs),
		Stream:           f.boolean("stream", false),
		LoRA:             f.lora(),
	}
	f.text("user")
	r.IncludeUsage = f.streamOptions(r.Stream)
	if f.err == nil && r.Model == "" {
		f.fail(Invalid("model", "missing_required_parameter", "Missing required parameter: 'model'."))
	}
	r.Prompts = f.prompts()
	if total := len(r.Prompts) * r.N; f.err == nil && total > MaxChoices {
		f.fail(Invalid("n", "integer_above_max_value", "Invalid 'n': %d choices for each of %d prompts are more than the %d allowed in one request.", r.N, len(r.Prompts), MaxChoices))
	}
	f.refuseUnsupported(r.N)
	if f.err != nil {
		return nil, f.err
	}
	return r, nil
}

func (f *fields) prompts() []Prompt {
	v, ok := f.raw["prompt"]
	if !ok {
		f.fail(Invalid("prompt", "missing_required_parameter", "Missing required parameter: 'prompt'."))
		return nil
	}
	const want = "a string, an array of strings, an array of tokens or an array of such arrays"
	if v[0] == '"' {
		return []Prompt{f.textPrompt(v)}
	}
	elements := f.elements("prompt", v, want)
	if f.err != nil {
		return nil
	}
	if len(elements) == 0 {
		f.emptyPrompt()
		return nil
	}
	if c := elements[0][0]; c != '"' && c != '[' {
		return []Prompt{{Tokens: f.tokens(elements)}}
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
			out = append(out, Prompt{Tokens: f.tokens(f.elements("prompt", e, want))})
		default:
			f.fail(wrongType("prompt", want, e))
		}
		if f.err != nil {
			return nil
		}
	}
	return out
}

func (f *fields) emptyPrompt() {
	f.fail(Invalid("prompt", "empty_array", "Invalid 'prompt': it must not be empty."))
}

func (f *fields) textPrompt(v json.RawMessage) Prompt {
	var s string
	if json.Unmarshal(v, &s) != nil || replaced(v) {
		f.fail(Invalid("prompt", "invalid_type", "Invalid 'prompt': the text is not valid UTF-8."))
	} else if s == "" {
		f.emptyPrompt()
	}
	return Prompt{Text: s}
}

func (f *fields) tokens(elements []json.RawMessage) []int32 {
	if len(elements) == 0 {
		f.emptyPrompt()
	}
	out := make([]int32, len(elements))
	for i, e := range elements {
		n, err := strconv.ParseInt(string(e), 10, 32)
		if err != nil || n < 0 {
			f.fail(Invalid("prompt", "invalid_token_id", "Invalid 'prompt': element %d is not a token id.", i))
			return nil
		}
		out[i] = int32(n)
	}
	return out
}

func (f *fields) stop() []string {
	v, ok := f.raw["stop"]
	if !ok {
		return nil
	}
	elements := []json.RawMessage{v}
	if v[0] != '"' {
		elements = f.elements("stop", v, "a string or an array of strings")
	}
	if len(elements) > MaxStops {
		f.fail(Invalid("stop", "array_above_max_length", "Invalid 'stop': %d strings, at most %d are allowed.", len(elements), MaxStops))
		return nil
	}
	var out []string
	for _, e := range elements {
		var s string
		if e[0] != '"' || json.Unmarshal(e, &s) != nil {
			f.fail(wrongType("stop", "a string or an array of strings", e))
			return nil
		}
		if len(s) > MaxStopSize {
			f.fail(Invalid("stop", "string_above_max_length", "Invalid 'stop': a string of %d bytes, at most %d are allowed.", len(s), MaxStopSize))
			return nil
		}
		if s != "" { // clients send "" for none
			out = append(out, s)
		}
	}
	return out
}

// seed returns the client's seed folded to 32 bits, or draws one.
func (f *fields) seed() uint32 {
	v, ok := f.raw["seed"]
	if !ok {
		return rand.Uint32()
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) && v[0] == '-':
		f.fail(Invalid("seed", "integer_below_min_value", "Invalid 'seed': integer below minimum value. Expected a 64-bit integer."))
	case errors.Is(err, strconv.ErrRange):
		f.fail(Invalid("seed", "integer_above_max_value", "Invalid 'seed': integer above maximum value. Expected a 64-bit integer."))
	case err != nil:
		f.wrongType("seed", "an integer")
	}
	return uint32(n) ^ uint32(n>>32)
}

func (f *fields) streamOptions(stream bool) (includeUsage bool) {
	v, ok := f.raw["stream_options"]
	if !ok {
		return false
	}
	sub, ok := parseMembers(v)
	if !ok {
		f.wrongType("stream_options", "an object")
		return false
	}
	if !stream && len(sub.raw) > 0 {
		f.fail(Invalid("stream_options", "", "The 'stream_options' parameter is only allowed when 'stream' is enabled."))
	}
	includeUsage = sub.boolean("include_usage", false)
	if sub.boolean("continuous_usage_stats", false) {
		sub.fail(Invalid("stream_options", "unsupported_parameter", "Unsupported parameter: 'stream_options.continuous_usage_stats' is not supported."))
	}
	if sub.err != nil {
		f.fail(Invalid("stream_options", sub.err.Code, "%s", sub.err.Message))
	}
	return includeUsage
}

func (f *fields) lora() []LoRA {
	v, ok := f.raw["lora"]
	if !ok {
		return nil
	}
	elements := f.elements("lora", v, "an array of {name, scale}")
	if len(elements) > 1 {
		f.fail(Invalid("lora", "array_above_max_length", "Invalid 'lora': %d adapters in one request, at most 1 is allowed.", len(elements)))
		return nil
	}
	var out []LoRA
	for _, e := range elements {
		sub, ok := parseMembers(e)
		if !ok {
			f.fail(wrongType("lora", "an array of {name, scale}", e))
			return nil
		}
		l := LoRA{Name: sub.text("name"), Scale: float32(sub.number("scale", 1, -MaxScale, MaxScale))}
		if sub.err == nil && l.Name == "" {
			sub.fail(Invalid("lora", "missing_required_parameter", "Missing required parameter: 'lora[0].name'."))
		}
		if sub.err != nil {
			f.fail(Invalid("lora", sub.err.Code, "%s", sub.err.Message))
		}
		out = append(out, l)
	}
	return out
}

func (f *fields) refuseUnsupported(n int) {
	for _, name := range slices.Sorted(maps.Keys(f.raw)) {
		neutral, known := unsupported[name]
		if !known {
			continue
		}
		if neutral == nil {
			neutral = nothing
		}
		var v bytes.Buffer
		_ = json.Compact(&v, f.raw[name]) // it was decoded before
		if slices.Contains(neutral, v.String()) || name == "best_of" && v.String() == strconv.Itoa(n) {
			continue
		}
		f.fail(Invalid(name, "unsupported_parameter", "Unsupported parameter: '%s' is not supported with this server.", name))
	}
}

// Completion is a response, or a chunk of a stream.
type Completion struct {
	ID                string        `json:"id"`
	Object            string        `json:"object"`
	Created           int64         `json:"created"`
	Model             string        `json:"model"`
	SystemFingerprint string        `json:"system_fingerprint"`
	Choices           []Choice      `json:"choices"`
	Usage             OptionalUsage `json:"usage,omitzero"`
}

// Choice is one answer, or a piece of it.
type Choice struct {
	Index        int       `json:"index"`
	Text         string    `json:"text"`
	Logprobs     *Logprobs `json:"logprobs"`
	FinishReason *string   `json:"finish_reason"`
}

// Usage counts tokens.
type Usage struct {
	PromptTokens        int                 `json:"prompt_tokens"`
	CompletionTokens    int                 `json:"completion_tokens"`
	TotalTokens         int                 `json:"total_tokens"`
	PromptTokensDetails PromptTokensDetails `json:"prompt_tokens_details"`
}

// PromptTokensDetails tells how many prompt tokens came from a cache.
type PromptTokensDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

// OptionalUsage is absent, null or a value: the chunks of a stream that ends with
// usage carry null before.
type OptionalUsage struct {
	Present bool
	Usage   *Usage
}

// IsZero tells whether the member is left out.
func (u OptionalUsage) IsZero() bool { return !u.Present }

// MarshalJSON gives null or the usage.
func (u OptionalUsage) MarshalJSON() ([]byte, error) { return json.Marshal(u.Usage) }

// Logprobs are parallel lists over tokens. Offsets count characters from the
// beginning of the text that is returned.
type Logprobs struct {
	Tokens        []string              `json:"tokens"`
	TokenLogprobs []*Logprob            `json:"token_logprobs"` // nil for the first token of a prompt
	TopLogprobs   []map[string]*Logprob `json:"top_logprobs"`
	TextOffset    []int                 `json:"text_offset"`
}

// Logprob is a log-probability; JSON has no -Inf, so the least is -9999.
type Logprob float32

// MarshalJSON implements json.Marshaler.
func (l Logprob) MarshalJSON() ([]byte, error) {
	if l < -9999 || l != l {
		return []byte("-9999.0"), nil
	}
	return strconv.AppendFloat(nil, float64(l), 'g', -1, 32), nil
}

// TokenText shows a token in the lists: bytes that are not whole characters are
// escaped, as OpenAI does.
func TokenText(piece []byte) string {
	for i, r := range string(piece) {
		if r == utf8.RuneError && !bytes.HasPrefix(piece[i:], []byte("\uFFFD")) {
			s := "bytes:"
			for _, b := range piece {
				s += fmt.Sprintf(`\x%02x`, b)
			}
			return s
		}
	}
	return string(piece)
}

// Model is an entry of /v1/models: a base, or an adapter with its base as parent.
type Model struct {
	ID          string  `json:"id"`
	Object      string  `json:"object"`
	Created     int64   `json:"created"`
	OwnedBy     string  `json:"owned_by"`
	Root        string  `json:"root"`
	Parent      *string `json:"parent"`
	MaxModelLen int     `json:"max_model_len"`
}

// ModelList is the answer of /v1/models.
type ModelList struct {
	Object string  `json:"object"`
	Data   []Model `json:"data"`
}
