// What backend/llama needs beyond llama.h: steps that use the adapter pool (pool.cpp),
// sampling and log-probabilities without a copy of the vocabulary (sampling.cpp).
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

// Codes of failure: a C++ exception; and what ggml would end the process for, such as an
// error of CUDA. After that nothing can be computed with the model any more, and nothing
// of it be freed: a GPU that failed goes on failing.
#define LK_THREW (-1000)
#define LK_LOST  (-1001)

// llama.cpp's messages go to lorikeetLog (exported by Go) from here on.
void lk_log_to_go(void);

// Loads a model, n_gpu_layers of it on GPUs, by their numbers in devices.h's list; no
// GPUs: on the CPU. split is NULL or has a share for each. NULL and err on failure,
// also where ggml would end the process.
struct llama_model * lk_model_load(const char * path, int n_gpu_layers, const int * gpus, int n_gpus, const float * split, char * err);

// As its namesake of llama.h; a C++ exception becomes NULL and err, and so does what
// ggml would end the process for. Flash attention that is enabled, not left to llama.cpp, is for the CPU: attention.h's.
struct llama_context * lk_context_new(struct llama_model * model, struct llama_context_params params, char * err);

// Whether the context computes flash attention, by wish or by llama.cpp's choice.
bool lk_flash(const struct llama_context * ctx);

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
// Returns 0, or LK_LOST and err.
int lk_pool_set(lk_pool * pool, int weight, int slot, const void * a_and_b, char * err);

//
// Steps
//

typedef enum { LK_MODE_NONE, LK_MODE_UNIFORM, LK_MODE_MIXED } lk_mode;

// llama_decode of a batch whose token i uses slots[i]. pool may be NULL. Returns
// llama_decode's code, or LK_THREW or LK_LOST and err.
int lk_decode(struct llama_context * ctx, lk_pool * pool, lk_mode mode, struct llama_batch batch, const int32_t * slots, char * err);

//
// Reading an output: the logits of one batch position, n_vocab of them (sampling.cpp)
//

// Whether all logits are finite.
bool lk_finite(const float * logits, int n_vocab);

// The most likely token, the lower id among equals; -1 if a logit is not finite.
llama_token lk_argmax(const float * logits, int n_vocab);

// The log-probability of token in the raw distribution, and of the k most likely
// tokens, most likely first, the lower id first among equals.
float lk_logprobs(const float * logits, int n_vocab, llama_token token, int k, llama_token * top, float * top_logprobs);

//
// Choosing a token
//

typedef struct lk_sampler lk_sampler;

// As backend.Sampling, with what is left out as there.
typedef struct {
    float    temperature; // 0 is greedy
    int32_t  top_k;
    float    top_p;
    float    min_p;
    float    typical_p;
    uint32_t seed;
    float    repetition_penalty;
    float    presence_penalty;
    float    frequency_penalty;

    const llama_logit_bias * bias;
    int32_t                  n_bias;
    const llama_token *      allowed;
    int32_t                  n_allowed;
    const llama_token *      ends; // tokens that end the answer
    int32_t                  n_ends;
    // Sequences, one after the other, that the answer must not complete, and the length of each.
    const llama_token *      bad_words;
    const int32_t *          bad_lengths;
    int32_t                  n_bad;

    const char *    grammar;         // or NULL
    const char *    triggers;        // strings, one after the other: the grammar holds from the first of them on
    const int32_t * trigger_lengths; // in bytes, none 0
    int32_t         n_triggers;      // 0: it holds from the beginning

    // For the penalties: tokens of the prompt, and how many will follow at most.
    const llama_token * prompt;
    int32_t             n_prompt;
    int32_t             n_answer;
} lk_sampling;

// NULL and err if the grammar can't be used. What params points to is copied.
lk_sampler * lk_sampler_new(const struct llama_vocab * vocab, const lk_sampling * params, char * err);
void         lk_sampler_free(lk_sampler * sampler);

// Chooses a token and accepts it, but none of the first n_banned of params.ends.
// LK_SLOW says that the choice must be made by lk_sample_slowly from the same
// logits: the grammar refuses what was drawn, and has to look at every token.
#define LK_SLOW (-2)
// Both answer LK_NO_TOKEN if nothing is left to choose, LK_TOO_LONG if the grammar
// takes too long; then the sampler is of no use any more.
#define LK_NO_TOKEN (-3)
#define LK_TOO_LONG (-4)
llama_token lk_sample(lk_sampler * sampler, const float * logits, int32_t n_banned);

llama_token lk_sample_slowly(lk_sampler * sampler, const float * logits, int32_t n_banned);

// Whether the answer is bound to a grammar: it has one, which waits for no trigger.
bool lk_sampler_bound(const lk_sampler * sampler);

#ifdef __cplusplus
}
#endif
