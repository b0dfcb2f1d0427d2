// What backend/llama needs beyond llama.h: steps that use the adapter pool,
// sampling and log-probabilities without a copy of the vocabulary.
//
// Functions that can fail fill err, a buffer of LK_ERR_SIZE bytes, with one line;
// no exception leaves them.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ggml-backend.h"
#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LK_ERR_SIZE 512

// llama.cpp's messages go to lorikeetLog (exported by Go) from here on.
void lk_log_to_go(void);

// As their namesakes of llama.h; a C++ exception becomes NULL and err.
struct llama_model *   lk_model_load(const char * path, struct llama_model_params params, char * err);
struct llama_context * lk_context_new(struct llama_model * model, struct llama_context_params params, char * err);

// llama_tokenize, special tokens in the text recognized, on a stack that grows with
// the text: the regular expressions of some vocabularies recurse for each
// character. -1000000000 and err on failure.
#define LK_TOKENIZE_FAILED (-1000000000)
int32_t lk_tokenize(const struct llama_vocab * vocab, const char * text, int32_t n_text, llama_token * tokens, int32_t n_tokens, bool add_special, char * err);

//
// The adapter pool
//

typedef struct lk_pool lk_pool;

typedef struct {
    const char * name;
    int64_t      n_in;
    int64_t      n_out;
} lk_pool_weight;

// A pool of n_slots slots of the given rank for every matrix of the model whose
// name, without its layer, is among the comma-separated targets. type is
// GGML_TYPE_F32 or GGML_TYPE_F16. max_tokens is the largest step.
lk_pool * lk_pool_new(struct llama_model * model, const char * targets, int n_slots, int rank, enum ggml_type type, int max_tokens, char * err);
void      lk_pool_free(lk_pool * pool);

int            lk_pool_n_weights(const lk_pool * pool);
lk_pool_weight lk_pool_get_weight(const lk_pool * pool, int i);

// Whether a step has used the weight's place in the pool. A weight that the
// architecture's graph multiplies by other means never is.
bool lk_pool_weight_visited(const lk_pool * pool, int i);

// Writes A and B of one weight, laid out as a slot image holds them, into a slot.
void lk_pool_set(lk_pool * pool, int weight, int slot, const void * a_and_b);

//
// Steps
//

typedef enum { LK_MODE_NONE, LK_MODE_UNIFORM, LK_MODE_MIXED } lk_mode;

// llama_decode of a batch whose token i uses slots[i]. pool may be NULL. Returns
// llama_decode's code; a C++ exception is -1000 and err.
int lk_decode(struct llama_context * ctx, lk_pool * pool, lk_mode mode, struct llama_batch batch, const int32_t * slots, char * err);

//
// Reading the output row of batch position i
//

// Whether all logits are finite.
bool lk_finite(struct llama_context * ctx, int i);

llama_token lk_argmax(struct llama_context * ctx, int i);

// The log-probability of token in the raw distribution, and of the k most likely
// tokens, most likely first, the lower id first among equals.
float lk_logprobs(struct llama_context * ctx, int i, llama_token token, int k, llama_token * top, float * top_logprobs);

// A chain of llama.cpp's samplers: top-p, temperature, a seeded draw.
struct llama_sampler * lk_sampler_new(float temperature, float top_p, uint32_t seed);

#ifdef __cplusplus
}
#endif
