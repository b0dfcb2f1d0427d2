package llama

/*
#include <stdlib.h>
#include "bridge.h"
*/
import "C"

import (
	"errors"
	"strings"
	"unsafe"

	"lorikeet/backend"
)

// ErrCacheFull says that the KV cache has no room for a batch. The context is as
// it was before.
var ErrCacheFull = errors.New("no room in the KV cache")

// MaxSequences is the largest number of sequences that a context can hold.
const MaxSequences = 256

// ContextParams size a context.
type ContextParams struct {
	CacheTokens int // room in the KV cache, shared by all sequences
	StepTokens  int // tokens in one step at most
	Sequences   int // at most MaxSequences
	Threads     int
	KeyType     backend.DataType // of the KV cache
	ValueType   backend.DataType
	Flash       FlashAttention
	Pool        PoolParams
}

// FlashAttention says whether attention is computed in one pass over the cache.
type FlashAttention int

// Choices of FlashAttention.
const (
	FlashAuto FlashAttention = iota // llama.cpp decides
	FlashOff
	FlashOn // on the CPU only: attention.h's
)

// PoolParams size the adapter pool.
type PoolParams struct {
	Slots   int // including slot 0; below 2 there is no pool
	Rank    int // the largest that a slot holds
	Type    backend.DataType
	Targets []string // names of matrices, without layer and ".weight", such as "attn_q"
}

// Context is a KV cache for many sequences, a batch to fill, and an adapter pool.
// All its methods must be called from the thread that made it.
type Context struct {
	model *Model
	c     *C.struct_llama_context
	mem   C.llama_memory_t
	pool  *C.lk_pool
	info  backend.Pool
	index []C.int // of info.Weights in the pool

	batch   C.struct_llama_batch
	tokens  []C.llama_token
	pos     []C.llama_pos
	seqs    []*C.llama_seq_id
	outputs []C.int8_t
	slots   []C.int32_t
	n       int

	embeds bool // the batch is to give embeddings, too
}

// NewContext makes a context of a model. Its errors are *Error.
func (m *Model) NewContext(p ContextParams) (*Context, error) {
	params := C.llama_context_default_params()
	params.n_ctx = C.uint32_t(p.CacheTokens)
	params.n_batch = C.uint32_t(p.StepTokens)
	params.n_ubatch = C.uint32_t(p.StepTokens) // a step is never split: the pool needs its token order
	params.n_seq_max = C.uint32_t(p.Sequences)
	params.n_threads = C.int32_t(p.Threads)
	params.n_threads_batch = C.int32_t(p.Threads)
	params.pooling_type = C.LLAMA_POOLING_TYPE_NONE // an embedding per output; who asks for them makes one of them
	params.kv_unified = true                        // separate streams would reorder a step's tokens
	params.no_perf = true
	params.type_k, params.type_v = ggmlType(p.KeyType), ggmlType(p.ValueType)
	params.flash_attn_type = [...]int32{C.LLAMA_FLASH_ATTN_TYPE_AUTO, C.LLAMA_FLASH_ATTN_TYPE_DISABLED, C.LLAMA_FLASH_ATTN_TYPE_ENABLED}[p.Flash]
	var reason errBuf
	complaint()
	c := C.lk_context_new(m.c, params, reason.c())
	if c == nil {
		return nil, &Error{Op: "create context", Reason: reason.or(complaint())}
	}
	ctx := &Context{model: m, c: c, mem: C.llama_get_memory(c), batch: C.llama_batch_init(C.int32_t(p.StepTokens), 0, 1)}
	ctx.tokens = unsafe.Slice(ctx.batch.token, p.StepTokens)
	ctx.pos = unsafe.Slice(ctx.batch.pos, p.StepTokens)
	ctx.seqs = unsafe.Slice(ctx.batch.seq_id, p.StepTokens)
	ctx.outputs = unsafe.Slice(ctx.batch.logits, p.StepTokens)
	perToken := unsafe.Slice(ctx.batch.n_seq_id, p.StepTokens)
	for i := range perToken {
		perToken[i] = 1
	}
	ctx.slots = make([]C.int32_t, p.StepTokens)
	if p.Pool.Slots > 1 {
		if err := ctx.newPool(p.Pool, p.StepTokens); err != nil {
			ctx.Close()
			return nil, err
		}
	}
	return ctx, nil
}

func ggmlType(t backend.DataType) uint32 {
	if t == backend.F16 {
		return C.GGML_TYPE_F16
	}
	return C.GGML_TYPE_F32
}

func (c *Context) newPool(p PoolParams, stepTokens int) error {
	targets := C.CString(strings.Join(p.Targets, ","))
	defer C.free(unsafe.Pointer(targets))
	var reason errBuf
	c.pool = C.lk_pool_new(c.model.c, targets, C.int(p.Slots), C.int(p.Rank), ggmlType(p.Type), C.int(stepTokens), reason.c())
	if c.pool == nil {
		return &Error{Op: "create adapter pool", Reason: reason.or("")}
	}
	c.info = backend.Pool{Slots: p.Slots, Rank: p.Rank, Type: p.Type}
	for i := range int(C.lk_pool_n_weights(c.pool)) {
		w := C.lk_pool_get_weight(c.pool, C.int(i))
		c.index = append(c.index, C.int(i))
		c.info.Weights = append(c.info.Weights, backend.Weight{Name: C.GoString(w.name), In: int(w.n_in), Out: int(w.n_out)})
	}
	return nil
}

// Close frees the context and its pool. It is idempotent.
func (c *Context) Close() {
	if c.c == nil {
		return
	}
	C.llama_batch_free(c.batch)
	C.llama_free(c.c)
	if c.pool != nil {
		C.lk_pool_free(c.pool)
	}
	c.c, c.pool = nil, nil
}

// Flash tells whether attention is computed in one pass over the cache.
func (c *Context) Flash() bool { return bool(C.lk_flash(c.c)) }

// Pool describes the adapter pool; its Slots are 0 if there is none.
func (c *Context) Pool() backend.Pool { return c.info }

// DropUnusedWeights takes out of the pool's description, and names, the weights
// that no mixed or uniform step has used: the model's graph does not multiply by
// them in a way that an adapter can join, so an adapter would be without effect.
func (c *Context) DropUnusedWeights() []string {
	var dropped []string
	var index []C.int
	var used []backend.Weight
	for i, w := range c.info.Weights {
		if C.lk_pool_weight_visited(c.pool, c.index[i]) {
			index, used = append(index, c.index[i]), append(used, w)
		} else {
			dropped = append(dropped, w.Name)
		}
	}
	c.index, c.info.Weights = index, used
	return dropped
}

// SetSlotWeight writes the part of a slot image that belongs to weight i. Its error is
// an *Error that is ErrLost.
func (c *Context) SetSlotWeight(i, slot int, part []byte) error {
	if len(part) != c.info.ImageBytes(c.info.Weights[i]) || slot <= 0 || slot >= c.info.Slots {
		panic("llama: SetSlotWeight outside the pool")
	}
	var reason errBuf
	if code := C.lk_pool_set(c.pool, c.index[i], C.int(slot), unsafe.Pointer(&part[0]), reason.c()); code != 0 {
		return &Error{Op: "fill slot", Code: int(code), Reason: reason.or("")}
	}
	return nil
}

// Clear empties the batch.
func (c *Context) Clear() { c.n = 0; c.setEmbeds(false) }

// Embed makes the step give the embeddings of its outputs too, until Clear. A step
// without them costs nothing more.
func (c *Context) Embed() { c.setEmbeds(true) }

func (c *Context) setEmbeds(on bool) {
	if on != c.embeds {
		c.embeds = on
		C.llama_set_embeddings(c.c, C.bool(on))
	}
}

// Add appends a token of a sequence at a position to the batch, using a slot of
// the pool, and returns its index. With output set its distribution can be read
// after the step.
func (c *Context) Add(t backend.Token, pos, seq, slot int, output bool) int {
	i := c.n
	c.tokens[i] = C.llama_token(t)
	c.pos[i] = C.llama_pos(pos)
	*c.seqs[i] = C.llama_seq_id(seq)
	c.slots[i] = C.int32_t(slot)
	c.outputs[i] = 0
	if output {
		c.outputs[i] = 1
	}
	c.n++
	return i
}

// Decode computes the batch as one step. The mode must fit the slots of its
// tokens. ErrCacheFull leaves the context unchanged; any other error, an *Error,
// leaves it open which of the batch's tokens are in the cache: forget its sequences.
func (c *Context) Decode(mode backend.Mode) error {
	// A step without outputs would leave the last layer without rows.
	c.outputs[c.n-1] = 1
	c.batch.n_tokens = C.int32_t(c.n)
	var reason errBuf
	complaint()
	code := int(C.lk_decode(c.c, c.pool, C.lk_mode(mode), c.batch, &c.slots[0], reason.c()))
	switch code {
	case 0:
		return nil
	case 1:
		return ErrCacheFull
	}
	return &Error{Op: "decode", Code: code, Reason: reason.or(complaint())}
}

// ForgetAll empties the KV cache. With wipe set it also clears the memory: a number
// that is not finite in a cell harms other sequences even when the cell is free.
func (c *Context) ForgetAll(wipe bool) { C.llama_memory_clear(c.mem, C.bool(wipe)) }

// Forget removes a sequence from the KV cache.
func (c *Context) Forget(seq int) {
	C.llama_memory_seq_rm(c.mem, C.llama_seq_id(seq), -1, -1)
}

// Share makes the first n tokens of a sequence part of another one, which is empty.
// Nothing is copied.
func (c *Context) Share(from, to, n int) {
	C.llama_memory_seq_cp(c.mem, C.llama_seq_id(from), C.llama_seq_id(to), 0, C.llama_pos(n))
}

// Embedding returns the final hidden state at output i of the last step, which Embed
// was called for. It is valid until the next step.
func (c *Context) Embedding(i int) []float32 {
	v := C.llama_get_embeddings_ith(c.c, C.int32_t(i))
	return unsafe.Slice((*float32)(v), C.llama_model_n_embd(c.model.c))
}

// Row returns output i of the last step. It is valid until the next one.
func (c *Context) Row(i int) Row {
	return Row{logits: C.llama_get_logits_ith(c.c, C.int32_t(i)), n: C.llama_vocab_n_tokens(c.model.vocab)}
}
