// Package llama is Lorikeet's only door to llama.cpp: a base model, a context
// with its KV cache and its adapter pool, and what is read from a step's output.
//
// It adds to github.com/ollama/ollama/llama, which brings the compiled library,
// what that package lacks: contexts that can be freed, a unified KV cache, logits
// without a copy, and steps that mix adapters (pool.cpp tells how). It decides
// nothing: which sequence decodes when is the business of backend/engine.
//
// A [Model]'s vocabulary can be used from any goroutine. A [Context] belongs to
// one goroutine, locked to its thread. No C type leaves this package, and no
// other package imports "C".
package llama

/*
#cgo CXXFLAGS: -std=c++17
#cgo LDFLAGS: -Wl,--wrap=ggml_mul_mat -Wl,--wrap=ggml_scale
#cgo LDFLAGS: -Wl,--wrap=_ZN16llm_graph_result9can_reuseERK16llm_graph_params -Wl,--wrap=_ZNK11llama_model9n_tensorsEv
#cgo LDFLAGS: -Wl,--wrap=_Znwm
#cgo LDFLAGS: -Wl,--wrap=ggml_flash_attn_ext -Wl,--wrap=ggml_flash_attn_ext_set_prec -Wl,--wrap=ggml_flash_attn_ext_add_sinks -Wl,--wrap=ggml_cast
#include <stdlib.h>
#include "bridge.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	ollama "github.com/ollama/ollama/llama"

	"lorikeet/backend"
)

// Error is a llama.cpp call that failed.
type Error struct {
	Op     string // what was attempted, such as "decode"
	Code   int    // llama.cpp's code, 0 if it gave none
	Reason string // llama.cpp's own words, may be empty
}

func (e *Error) Error() string {
	s := e.Op
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Code != 0 {
		s += fmt.Sprintf(" (code %d)", e.Code)
	}
	return s
}

// ErrLost is the error, with an *Error, of a call after which nothing more can be computed
// with the model: ggml would have ended the process. Nothing of it may be closed.
var ErrLost = errors.New("lost")

// Is tells that an error is ErrLost.
func (e *Error) Is(target error) bool { return target == ErrLost && e.Code == C.LK_LOST }

var initOnce = sync.OnceFunc(func() {
	C.lk_log_to_go()
	_ = os.Setenv("GGML_CUDA_REGISTER_HOST", "1") // else Pin does nothing; C's environment is set, too
	ollama.BackendInit()
	C.lk_log_to_go() // of the backends that were loaded, too
})

// firstComplaint is the first error that llama.cpp has logged since complaint was
// called: when a load fails, the call itself only answers NULL.
var firstComplaint atomic.Pointer[string]

//export lorikeetLog
func lorikeetLog(level C.int, text *C.char) {
	message := strings.TrimSpace(C.GoString(text))
	if message == "" {
		return
	}
	if level == C.GGML_LOG_LEVEL_ERROR {
		firstComplaint.CompareAndSwap(nil, &message)
	}
	// Whoever called reports what went wrong; this is for those who dig.
	slog.Debug(message, "from", "llama.cpp")
}

// complaint takes llama.cpp's first logged error, without the name of its function.
func complaint() string {
	s := firstComplaint.Swap(nil)
	if s == nil {
		return ""
	}
	if _, after, ok := strings.Cut(*s, ": "); ok {
		return after
	}
	return *s
}

// Model is a loaded base.
type Model struct {
	c     *C.struct_llama_model
	vocab *C.struct_llama_vocab
}

// ModelParams say how a base is loaded.
type ModelParams struct {
	Devices   []string  // GPUs, by the names that FindDevices gives; none: the CPU
	GPULayers int       // layers on them; negative means all, and the output
	Split     []float64 // share of each of them; empty: by their free memory
}

// LoadModel reads a base in GGUF. Its errors are *Error.
func LoadModel(path string, p ModelParams) (*Model, error) {
	initOnce()
	gpus, err := gpuNumbers(p.Devices)
	if err != nil {
		return nil, err
	}
	layers := p.GPULayers
	if layers < 0 {
		layers = 1 << 20
	}
	split := make([]C.float, len(p.Split))
	for i, s := range p.Split {
		split[i] = C.float(s)
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var reason errBuf
	complaint()
	c := C.lk_model_load(cpath, C.int(layers), unsafe.SliceData(gpus), C.int(len(gpus)), unsafe.SliceData(split), reason.c())
	if c == nil {
		return nil, &Error{Op: "load model", Reason: reason.or(complaint())}
	}
	return &Model{c: c, vocab: C.llama_model_get_vocab(c)}, nil
}

// Close frees the model. Its contexts must be closed before. It is idempotent.
func (m *Model) Close() {
	if m.c != nil {
		C.llama_model_free(m.c)
		m.c, m.vocab = nil, nil
	}
}

// Info returns what the model says of itself; Context is the length it was
// trained for, and Pool and Fingerprint are left empty. Pooling is of the last token
// unless the file says that it is the mean.
func (m *Model) Info() backend.ModelInfo {
	info := backend.ModelInfo{
		Architecture: m.meta("general.architecture"),
		Parameters:   uint64(C.llama_model_n_params(m.c)),
		Context:      int(C.llama_model_n_ctx_train(m.c)),
		Vocabulary:   int(C.llama_vocab_n_tokens(m.vocab)),
		Layers:       int(C.llama_model_n_layer(m.c)),
		Heads:        int(C.llama_model_n_head(m.c)),
		KVHeads:      int(C.llama_model_n_head_kv(m.c)),
		BOS:          backend.Token(C.llama_vocab_bos(m.vocab)),
		EOS:          backend.Token(C.llama_vocab_eos(m.vocab)),
		Infill: backend.Infill{
			Prefix: backend.Token(C.llama_vocab_fim_pre(m.vocab)),
			Suffix: backend.Token(C.llama_vocab_fim_suf(m.vocab)),
			Middle: backend.Token(C.llama_vocab_fim_mid(m.vocab)),
		},
		Embedding: int(C.llama_model_n_embd(m.c)),
	}
	if m.meta(info.Architecture+".pooling_type") == poolingMean {
		info.Pooling = backend.PoolMean
	}
	if t := C.llama_model_chat_template(m.c, nil); t != nil {
		info.ChatTemplate = C.GoString(t)
	}
	return info
}

// poolingMean is how GGUF says that an embedding is the mean of its tokens'.
const poolingMean = "1"

func (m *Model) meta(key string) string {
	ckey := C.CString(key)
	defer C.free(unsafe.Pointer(ckey))
	var buf [256]C.char
	if C.llama_model_meta_val_str(m.c, ckey, &buf[0], C.size_t(len(buf))) < 0 {
		return ""
	}
	return C.GoString(&buf[0])
}

// Generates tells whether the model can complete text with a KV cache: encoders,
// recurrent and diffusion models are not served.
func (m *Model) Generates() error {
	switch {
	case bool(C.llama_model_has_encoder(m.c)):
		return errors.New("encoder models are not served")
	case bool(C.llama_model_is_recurrent(m.c)), bool(C.llama_model_is_hybrid(m.c)):
		return errors.New("recurrent models are not served: their batches are reordered")
	case bool(C.llama_model_is_diffusion(m.c)):
		return errors.New("diffusion models are not served")
	}
	return nil
}

// AllF32 tells whether the model's matrices are all in F32.
func (m *Model) AllF32() bool { return m.meta("general.file_type") == "0" }

// EndsOfGeneration returns the tokens that end an answer.
func (m *Model) EndsOfGeneration() []backend.Token {
	var ends []backend.Token
	for t := range C.llama_vocab_n_tokens(m.vocab) {
		if C.llama_vocab_is_eog(m.vocab, t) {
			ends = append(ends, backend.Token(t))
		}
	}
	return ends
}

// SlidingWindow is the number of tokens that attention looks back in some layers; 0
// if it looks back to the beginning in all.
func (m *Model) SlidingWindow() int { return int(C.llama_model_n_swa(m.c)) }

// Tokenize turns text into tokens. addSpecial adds what the model wants around a
// prompt, such as a beginning-of-sequence token.
func (m *Model) Tokenize(text string, addSpecial bool) ([]backend.Token, error) {
	data := unsafe.StringData(text)
	if text == "" {
		data = new(byte)
	}
	var reason errBuf
	tokens := make([]backend.Token, len(text)+8)
	n := 0
	for range 2 { // the second time with the length that the first asks for
		n = int(C.lk_tokenize(m.vocab, (*C.char)(unsafe.Pointer(data)), C.int32_t(len(text)),
			(*C.llama_token)(unsafe.Pointer(&tokens[0])), C.int32_t(len(tokens)), C.bool(addSpecial), reason.c()))
		if n >= 0 || n == C.LK_TOKENIZE_FAILED {
			break
		}
		tokens = make([]backend.Token, -n)
	}
	if n < 0 {
		return nil, &Error{Op: "tokenize", Reason: reason.or("")}
	}
	return tokens[:n:n], nil
}

// LongestPiece is the bytes of the longest token.
func (m *Model) LongestPiece() int {
	longest := 1
	var buf []byte
	for t := range int(C.llama_vocab_n_tokens(m.vocab)) {
		buf = m.AppendPiece(buf[:0], backend.Token(t), true)
		longest = max(longest, len(buf))
	}
	return longest
}

// AppendPiece appends the bytes of a token to dst; with special set, a special
// token's name.
func (m *Model) AppendPiece(dst []byte, t backend.Token, special bool) []byte {
	var buf [64]byte
	n := m.piece(t, buf[:], special)
	if n >= 0 {
		return append(dst, buf[:n]...)
	}
	long := make([]byte, -n)
	return append(dst, long[:max(0, m.piece(t, long, special))]...)
}

func (m *Model) piece(t backend.Token, into []byte, special bool) int {
	return int(C.llama_token_to_piece(m.vocab, C.llama_token(t), (*C.char)(unsafe.Pointer(&into[0])), C.int32_t(len(into)), 0, C.bool(special)))
}

// errBuf receives one line from a failed call of the bridge.
type errBuf [C.LK_ERR_SIZE]C.char

func (b *errBuf) c() *C.char { return &b[0] }

func (b *errBuf) or(other string) string {
	if s := C.GoString(&b[0]); s != "" {
		return s
	}
	return other
}
