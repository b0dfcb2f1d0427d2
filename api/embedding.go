package api

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
)

// MaxInputs is how many texts one request may have embedded.
const MaxInputs = 2048

// EmbeddingRequest is a valid request for /v1/embeddings.
type EmbeddingRequest struct {
	Model            string
	Inputs           []Prompt // at least one
	AddSpecialTokens bool     // for inputs that are text
	TruncateTo       int      // the last tokens of each input; 0: all, -1: as many as fit
	Dimensions       int      // 0: all
	Base64           bool
	LoRA             []LoRA
}

// DecodeEmbedding reads and validates a request body.
func DecodeEmbedding(body []byte) (*EmbeddingRequest, *Error) {
	f, err := parseFields(body)
	if err != nil {
		return nil, err
	}
	r := &EmbeddingRequest{
		Model:            f.text("model"),
		AddSpecialTokens: f.boolean("add_special_tokens", true),
		TruncateTo:       f.integer("truncate_prompt_tokens", 0, -1, math.MaxInt32),
		Dimensions:       f.integer("dimensions", 0, 1, math.MaxInt32),
		LoRA:             f.lora(),
	}
	f.text("user")
	switch format := f.text("encoding_format"); format {
	case "", "float":
	case "base64":
		r.Base64 = true
	default:
		f.fail(Invalid("encoding_format", "invalid_value", "Invalid 'encoding_format': %s is neither 'float' nor 'base64'.", quote(format)))
	}
	if f.err == nil && r.Model == "" {
		f.missing("model")
	}
	r.Inputs = f.prompts("input", MaxInputs)
	if f.err != nil {
		return nil, f.err
	}
	return r, nil
}

// EmbeddingList is the answer of /v1/embeddings.
type EmbeddingList struct {
	Object string         `json:"object"`
	Data   []Embedding    `json:"data"`
	Model  string         `json:"model"`
	Usage  EmbeddingUsage `json:"usage"`
}

// Embedding is the vector of one input.
type Embedding struct {
	Object string `json:"object"`
	Index  int    `json:"index"`
	Vector Vector `json:"embedding"`
}

// Vector is sent as an array, or in base64 as its little-endian bytes. Its numbers are
// finite.
type Vector struct {
	Values []float32
	Base64 bool
}

// MarshalJSON implements json.Marshaler.
func (v Vector) MarshalJSON() ([]byte, error) {
	if v.Base64 {
		b := make([]byte, 0, 4*len(v.Values))
		for _, x := range v.Values {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		return json.Marshal(base64.StdEncoding.EncodeToString(b))
	}
	b := []byte{'['}
	for i, x := range v.Values {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(x), 'g', -1, 32)
	}
	return append(b, ']'), nil
}

// EmbeddingUsage counts tokens.
type EmbeddingUsage struct {
	PromptTokens int `json:"prompt_tokens"`
	TotalTokens  int `json:"total_tokens"`
}
