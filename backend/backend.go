// Package backend is the contract between Lorikeet's server and an inference
// engine: plain values in, plain values out.
//
// The way of the data: the server builds a validated [Request] that names a
// slot of the adapter pool, hands it to [Engine.Submit] and reads [Event]s from
// the returned channel until it is closed. The adapter manager lays an adapter
// out as a slot image, as [Pool] describes it, and hands it to
// [Engine.FillSlot]. Nothing here holds a callback, a C type or a pointer into
// an engine's state, so an engine may live in another process.
//
// backend/engine serves llama.cpp; backend/fake is a deterministic stand-in.
// This package knows neither HTTP nor llama.cpp, and imports the standard
// library only.
package backend

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Token is an id in the vocabulary of a base.
type Token = int32

// Engine serves one base. All methods are safe for concurrent use.
type Engine interface {
	// Info describes the base. It does not change while the engine lives.
	Info() ModelInfo

	// Tokenize turns text into tokens. Special tokens written out in text are
	// recognized; addSpecial adds those that the model wants around a prompt.
	// Errors: *ContextLengthError for a text that can't fit, ErrClosed.
	Tokenize(text string, addSpecial bool) ([]Token, error)

	// Piece returns the bytes that a token stands for, which need not be whole
	// UTF-8 characters. A special token has a name and stands for no text; with
	// special set its name is returned. An id outside the vocabulary gives nil.
	Piece(t Token, special bool) []byte

	// Submit queues a request. The channel gets the request's events in order
	// and is closed after the last one, the only one with Finish or Err set.
	// When ctx ends, the sequence and its cache are freed within one step and
	// the last event carries the context's error.
	//
	// Errors: *ContextLengthError, *GrammarError, ErrSlotRange, ErrQueueFull, ErrClosed, ErrLost.
	Submit(ctx context.Context, r *Request) (<-chan Event, error)

	// FillSlot puts a slot image into a slot, in bounded pieces between steps,
	// and returns when the slot can be used. The image must not change
	// meanwhile. The caller makes sure that no request uses the slot.
	//
	// Errors: ErrSlotRange (slot 0 is the base and can't be filled), ErrImageSize,
	// ErrClosed, ErrLost, the context's error (the slot's content is then undefined).
	FillSlot(ctx context.Context, slot int, image []byte) error

	// PinMemory makes uploads of images that lie in a piece of memory faster, if they go
	// to a GPU and the system allows it, until UnpinMemory, which is called for all that was
	// pinned before it is given back. The memory is none of the Go heap's.
	PinMemory(b []byte)
	UnpinMemory(b []byte)

	// Ready tells why requests can't be expected to be answered: ErrLost, ErrClosed,
	// ErrStalled. nil if they can.
	Ready() error

	// Stats returns counters since the start and gauges of this moment.
	Stats() Stats

	// Close ends all requests with ErrClosed and frees the base. It is
	// idempotent.
	Close() error
}

// ModelInfo describes a loaded base.
type ModelInfo struct {
	Architecture string // general.architecture, such as "llama"
	Fingerprint  string // short hex id of the base's file
	Parameters   uint64
	Context      int // tokens that one sequence may hold, prompt and answer together
	Vocabulary   int
	Layers       int
	Heads        int
	KVHeads      int
	ChatTemplate string // Jinja; "" is none
	BOS, EOS     Token  // NoToken is none
	Infill       Infill
	Embedding    int     // numbers of an embedding
	Pooling      Pooling // how an embedding is made of those of its tokens
	Pool         Pool
}

// NoToken stands for a special token that a vocabulary does not have.
const NoToken Token = -1

// Infill are the tokens around what a model is to fill a gap between, each NoToken if
// the vocabulary does not have it.
type Infill struct{ Prefix, Suffix, Middle Token }

// Pooling makes one embedding of those of a prompt's tokens.
type Pooling int

// Poolings.
const (
	PoolLast Pooling = iota // that of the last token
	PoolMean                // their mean
)

// DataType is the element type of the adapter pool.
type DataType int

// Element types of the adapter pool.
const (
	F32 DataType = iota
	F16
)

// Size is the bytes of one element.
func (d DataType) Size() int {
	if d == F16 {
		return 2
	}
	return 4
}

func (d DataType) String() string {
	if d == F16 {
		return "F16"
	}
	return "F32"
}

// Pool describes the adapter pool of a base: Slots places that each hold one
// adapter. Slot 0 holds none, that is, the base itself.
//
// A slot image is the concatenation, over Weights in order, of A and B: A is
// Rank rows of In elements, B is Out rows of Rank elements, both zero-padded
// from the adapter's rank. The adapter's own scale and the request's are folded
// into B.
type Pool struct {
	Slots   int // including slot 0; 0 or 1 means that the base takes no adapters
	Rank    int
	Type    DataType
	Weights []Weight
}

// Weight is a matrix of the base that an adapter may change.
type Weight struct {
	Name string // GGUF name, such as "blk.0.attn_q.weight"
	In   int    // columns: the length of its input
	Out  int    // rows: the length of its output
}

// ImageBytes is the part of a slot image that belongs to one weight.
func (p Pool) ImageBytes(w Weight) int { return (w.In + w.Out) * p.Rank * p.Type.Size() }

// ImageSize is the size of a slot image in bytes.
func (p Pool) ImageSize() int {
	n := 0
	for _, w := range p.Weights {
		n += p.ImageBytes(w)
	}
	return n
}

// Request is one validated generation. An engine does not check what the server
// has checked, except for the context length, the slot and the grammar.
type Request struct {
	Prompt []Token // at least one

	Slot int // of the adapter pool; 0 is the base
	// SlotFrom is the index in Prompt from which on Slot is used; the tokens before
	// use slot 0. Generated tokens use Slot.
	SlotFrom int
	// Version names what lies in Slot: the adapter version and its scale. Requests
	// with equal versions share prefixes in the KV cache, and a queue. The base's is "".
	Version string
	NoCache bool // compute the whole prompt, whatever the cache holds

	MaxTokens int // tokens to generate at most; 0 only scores the prompt
	Sampling  Sampling

	// Embed asks for an embedding of the prompt instead of an answer; MaxTokens is 0.
	Embed bool

	Stop        []string // generation ends before the first of these; not in the text
	StopTokens  []Token  // generation ends with any of these; not in the text
	IncludeStop bool     // what stopped the generation is in the text
	SpecialText bool     // special tokens are in the text, by their names; not what ends the answer, unless IncludeStop

	// Logprobs is the number of most likely tokens to report beside each
	// generated token; 0 reports the generated one only, -1 nothing.
	Logprobs int
	// PromptLogprobs asks for the same of the prompt's tokens, in the first event.
	PromptLogprobs bool
}

// Sampling chooses the next token. What its zero value leaves out changes nothing;
// temperature 0 is greedy. In this order: what must not be chosen is taken out
// (MinTokens, IgnoreEOS, Allowed, BadWords, Grammar), biases and penalties change the
// logits, TopK, TypicalP, TopP and MinP cut the tempered distribution, and Seed
// draws from what is left.
type Sampling struct {
	Temperature float32 // 0 or more; below 1e-3 it is 0
	TopK        int     // the most likely ones; 0 keeps everything
	TopP        float32 // 0 to 1; 1 keeps everything
	MinP        float32 // 0 to 1, of the most likely one's probability; 0 keeps everything
	TypicalP    float32 // 0 to 1; 0 and 1 keep everything
	Seed        uint32

	RepetitionPenalty float32 // divides the logits of tokens in prompt and answer; 0 and 1 change nothing
	PresencePenalty   float32 // taken off the logits of tokens in the answer
	FrequencyPenalty  float32 // the same, times their number
	LogitBias         []TokenBias

	MinTokens int       // the answer does not end before it has as many; a stop string within them does not count
	IgnoreEOS bool      // no end-of-generation token is chosen
	Allowed   []Token   // no other token is chosen; nil allows all
	BadWords  [][]Token // none of these sequences is completed in the answer; the prompt does not count
	Grammar   string    // GBNF whose rule "root" the answer follows; "" is none
	// GrammarAfter are strings of which the first that the answer's text contains
	// begins what follows Grammar, itself included; special tokens count by their
	// names. Until then the answer is free. nil: Grammar holds from the beginning.
	GrammarAfter []string
}

// TokenBias is added to the logit of a token.
type TokenBias struct {
	Token Token
	Bias  float32
}

// Event is something that happened to a request.
type Event struct {
	Text   string      // to be appended to the answer; whole UTF-8 characters
	Tokens []TokenInfo // the tokens that Text came from; set if Request.Logprobs >= 0
	Prompt []TokenInfo // of the prompt; in the first event if Request.PromptLogprobs

	Finish FinishReason // set in the last event, unless Err is
	Err    error        // set in the last event if the request failed

	Generated int // tokens generated so far, those without text included
	Cached    int // tokens of the prompt that came from the KV cache

	Embedding []float32 // as the model gives it, of any length; in the last event if Request.Embed
}

// TokenInfo is a token with the log-probability that the raw distribution, before
// sampling changes it, gave to it. The first token of a prompt has none: Scored
// is false.
type TokenInfo struct {
	ID      Token
	Text    string // what it added to the text; may be a part of a character
	Logprob float32
	Scored  bool
	Top     []TopToken // most likely first
}

// TopToken is one of the most likely tokens at a position.
type TopToken struct {
	ID      Token
	Logprob float32
}

// FinishReason tells why a generation ended.
type FinishReason string

// Finish reasons, spelled as OpenAI spells them.
const (
	FinishStop   FinishReason = "stop"   // end-of-generation token or stop string
	FinishLength FinishReason = "length" // MaxTokens or the context was reached
)

// Mode says how the tokens of a step use the adapter pool.
type Mode int

// Modes of a step.
const (
	ModeNone    Mode = iota // no token has an adapter: the pool is not in the graph
	ModeUniform             // all tokens use one slot
	ModeMixed               // tokens use different slots
	NumModes
)

func (m Mode) String() string {
	return [...]string{"none", "uniform", "mixed"}[m]
}

// Stats is a snapshot of an engine's counters and gauges.
type Stats struct {
	Steps  [NumModes]uint64        // llama_decode calls by mode
	Tokens [NumModes]uint64        // tokens in them
	Time   [NumModes]time.Duration // spent in them
	// Slots is the sum over all steps of the number of different slots, slot 0
	// included, that one step has served; MaxSlotsPerStep is the largest.
	Slots           uint64
	MaxSlotsPerStep int

	Running       int // sequences that are being computed
	Waiting       int // requests queued for a sequence
	WaitingTokens int // of their prompts
	CacheUsed     int // tokens in the KV cache, kept prefixes included
	CacheKept     int // of them, those that only kept prefixes hold
	CacheSize     int

	PrefixQueries uint64 // prompt tokens that were looked for in the cache
	PrefixHits    uint64 // of them, those found
	Preemptions   uint64 // sequences taken out of a full cache, to be computed again
}

// Errors of an engine. Compare with errors.Is.
var (
	ErrQueueFull  = errors.New("the queue is full")
	ErrClosed     = errors.New("the engine is closed")
	ErrStalled    = errors.New("the engine makes no progress")
	ErrSlotRange  = errors.New("no such slot in the adapter pool")
	ErrImageSize  = errors.New("the slot image has the wrong size")
	ErrSlowReader = errors.New("the reader is too slow: its event buffer is full")
	ErrDecode     = errors.New("the engine failed to compute a step")
	ErrLost       = errors.New("the engine can't compute any more: its device has failed")
	ErrNoToken    = errors.New("no token can be chosen: what is allowed and what is not exclude each other")
	ErrGrammar    = errors.New("the grammar takes too long to follow: it is too ambiguous")
)

// GrammarError says that a grammar can't be used.
type GrammarError struct{ Reason string }

func (e *GrammarError) Error() string { return "grammar: " + e.Reason }

// ContextLengthError says that a request does not fit the context.
type ContextLengthError struct {
	Limit  int // tokens that a sequence may hold
	Prompt int
	Max    int // MaxTokens
}

func (e *ContextLengthError) Error() string {
	return fmt.Sprintf("%d prompt tokens and %d to generate exceed the context of %d tokens", e.Prompt, e.Max, e.Limit)
}
