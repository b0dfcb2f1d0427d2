package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

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

	PromptLogprobs []map[string]PromptLogprob `json:"prompt_logprobs,omitzero"` // by token id; nil for the first token
	PromptTokenIDs []int32                    `json:"prompt_token_ids,omitzero"`
	TokenIDs       []int32                    `json:"token_ids,omitzero"` // of the answer, that which ended it included
}

// PromptLogprob tells of a token at a place in a prompt.
type PromptLogprob struct {
	Logprob Logprob `json:"logprob"`
	Rank    *int    `json:"rank"` // 1 is the most likely; null if it is not among those that were asked for
	Decoded string  `json:"decoded_token"`
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
