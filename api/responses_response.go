package api

import "encoding/json"

// Response is the answer of /v1/responses, as a whole or so far.
type Response struct {
	ID                string             `json:"id"`
	Object            string             `json:"object"`
	CreatedAt         int64              `json:"created_at"`
	Status            string             `json:"status"` // in_progress, completed, incomplete, failed
	Background        bool               `json:"background"`
	Error             *ResponseError     `json:"error"`
	IncompleteDetails *IncompleteDetails `json:"incomplete_details"`
	ResponseSettings
	Output []OutputItem   `json:"output"`
	Usage  *ResponseUsage `json:"usage"`
	Store  bool           `json:"store"` // nothing is stored
	// SystemFingerprint is not OpenAI's here; it tells which weights have answered.
	SystemFingerprint string `json:"system_fingerprint"`
}

// ResponseSettings are what a request asked for, defaults included.
type ResponseSettings struct {
	Instructions       json.RawMessage `json:"instructions"`
	MaxOutputTokens    *int            `json:"max_output_tokens"`
	Metadata           json.RawMessage `json:"metadata"`
	Model              string          `json:"model"`
	ParallelToolCalls  bool            `json:"parallel_tool_calls"`
	PreviousResponseID *string         `json:"previous_response_id"`
	Temperature        float32         `json:"temperature"`
	Text               json.RawMessage `json:"text"`
	ToolChoice         json.RawMessage `json:"tool_choice"`
	Tools              json.RawMessage `json:"tools"`
	TopLogprobs        int             `json:"top_logprobs"`
	TopP               float32         `json:"top_p"`
	Truncation         string          `json:"truncation"`
	User               json.RawMessage `json:"user"`
}

// ResponseError is why a response failed.
type ResponseError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// IncompleteDetails tell why an answer is not whole.
type IncompleteDetails struct {
	Reason string `json:"reason"`
}

// ResponseUsage counts tokens.
type ResponseUsage struct {
	InputTokens         int                 `json:"input_tokens"`
	InputTokensDetails  InputTokensDetails  `json:"input_tokens_details"`
	OutputTokens        int                 `json:"output_tokens"`
	OutputTokensDetails OutputTokensDetails `json:"output_tokens_details"`
	TotalTokens         int                 `json:"total_tokens"`
}

// InputTokensDetails tell how many tokens came from a cache, and how many went there
// at a price: none.
type InputTokensDetails struct {
	CachedTokens     int `json:"cached_tokens"`
	CacheWriteTokens int `json:"cache_write_tokens"`
}

// OutputTokensDetails are always 0: reasoning is text like other.
type OutputTokensDetails struct {
	ReasoningTokens int `json:"reasoning_tokens"`
}

// OutputItem is a *MessageItem or a *CallItem.
type OutputItem interface{ outputItem() }

func (*MessageItem) outputItem() {}
func (*CallItem) outputItem()    {}

// MessageItem is text that the assistant says.
type MessageItem struct {
	ID      string     `json:"id"`
	Type    string     `json:"type"` // message
	Status  string     `json:"status"`
	Role    string     `json:"role"`
	Content []TextPart `json:"content"`
}

// TextPart is the content of a message.
type TextPart struct {
	Type        string         `json:"type"` // output_text
	Text        string         `json:"text"`
	Annotations []string       `json:"annotations"` // none, but required
	Logprobs    []TokenLogprob `json:"logprobs"`
}

// CallItem is a call of a tool.
type CallItem struct {
	ID        string `json:"id"`
	Type      string `json:"type"` // function_call
	Status    string `json:"status"`
	CallID    string `json:"call_id"`
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}
