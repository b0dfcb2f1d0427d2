package api

// TokenizeRequest is a valid request for /tokenize: of a text, or of a conversation as
// it is written for the model.
type TokenizeRequest struct {
	Model            string // "": the first base
	Text             string
	AddSpecialTokens bool
	Strings          bool // tokens are told as text, too

	Chat *ChatRequest // instead of Text
}

// DecodeTokenize reads and validates a request body.
func DecodeTokenize(body []byte) (*TokenizeRequest, *Error) {
	f, err := parseFields(body)
	if err != nil {
		return nil, err
	}
	r := &TokenizeRequest{
		Model:            f.text("model"),
		AddSpecialTokens: f.boolean("add_special_tokens", true),
		Strings:          f.boolean("return_token_strs", false),
	}
	v, isText := f.raw["prompt"]
	_, isChat := f.raw["messages"]
	switch {
	case isText && isChat:
		f.fail(Invalid("messages", "invalid_value", "Invalid 'messages': there is a 'prompt' already; only one of them can be tokenized."))
	case isChat:
		r.Chat = &ChatRequest{Model: r.Model, Messages: f.messages(), TemplateArgs: f.templateArgs()}
		r.Chat.Continue = f.continues(r.Chat.Messages)
		f.tools(r.Chat, nestedTool)
	case !isText:
		f.missing("prompt")
	case v[0] != '"':
		f.wrongType("prompt", "a string")
	default:
		r.Text = f.utf8("prompt", v)
	}
	if f.err != nil {
		return nil, f.err
	}
	return r, nil
}

// Tokenization is the answer of /tokenize.
type Tokenization struct {
	Count       int      `json:"count"`
	MaxModelLen int      `json:"max_model_len"`
	Tokens      []int32  `json:"tokens"`
	Strings     []string `json:"token_strs"` // null unless asked for
}

// DetokenizeRequest is a valid request for /detokenize.
type DetokenizeRequest struct {
	Model  string // "": the first base
	Tokens []int32
}

// DecodeDetokenize reads and validates a request body.
func DecodeDetokenize(body []byte) (*DetokenizeRequest, *Error) {
	f, err := parseFields(body)
	if err != nil {
		return nil, err
	}
	r := &DetokenizeRequest{Model: f.text("model")}
	if f.raw["tokens"] == nil {
		f.missing("tokens")
	}
	r.Tokens = f.tokens("tokens", MaxTokens)
	if f.err != nil {
		return nil, f.err
	}
	return r, nil
}

// Detokenization is the answer of /detokenize.
type Detokenization struct {
	Prompt string `json:"prompt"`
}

// TokenizerInfo is the answer of /tokenizer_info.
type TokenizerInfo struct {
	Model          string  `json:"model"`
	VocabularySize int     `json:"vocab_size"`
	MaxLength      int     `json:"model_max_length"`
	BOS            *string `json:"bos_token"` // null if there is none
	EOS            *string `json:"eos_token"`
	ChatTemplate   *string `json:"chat_template"`
}
