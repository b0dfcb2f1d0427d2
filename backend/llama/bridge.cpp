#include "bridge.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

#include <pthread.h>

extern "C" void lorikeetLog(int level, char * text);

static void log_to_go(ggml_log_level level, const char * text, void *) {
    lorikeetLog(level, const_cast<char *>(text));
}

void lk_log_to_go(void) {
    llama_log_set(log_to_go, nullptr);
}

llama_model * lk_model_load(const char * path, llama_model_params params, char * err) {
    try {
        return llama_model_load_from_file(path, params);
    } catch (const std::exception & e) {
        snprintf(err, LK_ERR_SIZE, "%s", e.what());
        return nullptr;
    }
}

llama_context * lk_context_new(llama_model * model, llama_context_params params, char * err) {
    try {
        return llama_init_from_model(model, params);
    } catch (const std::exception & e) {
        snprintf(err, LK_ERR_SIZE, "%s", e.what());
        return nullptr;
    }
}

namespace {
struct tokenize_call {
    const llama_vocab * vocab;
    const char * text;
    int32_t n_text;
    llama_token * tokens;
    int32_t n_tokens;
    bool add_special;
    char * err;
    int32_t result;
};
}

static void * tokenize(void * arg) {
    auto & c = *static_cast<tokenize_call *>(arg);
    try {
        c.result = llama_tokenize(c.vocab, c.text, c.n_text, c.tokens, c.n_tokens, c.add_special, true);
    } catch (const std::exception & e) {
        snprintf(c.err, LK_ERR_SIZE, "%s", e.what());
        c.result = LK_TOKENIZE_FAILED;
    }
    return nullptr;
}

int32_t lk_tokenize(const llama_vocab * vocab, const char * text, int32_t n_text, llama_token * tokens, int32_t n_tokens, bool add_special, char * err) {
    tokenize_call call = { vocab, text, n_text, tokens, n_tokens, add_special, err, LK_TOKENIZE_FAILED };
    if (n_text < 4096) { // every thread's stack is enough
        tokenize(&call);
        return call.result;
    }
    // A level of std::regex's recursion takes a few hundred bytes. Pages that are not used cost nothing.
    const size_t stack = ((size_t) 16 << 20) + (size_t) n_text * 1024;
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    const bool started = pthread_attr_setstacksize(&attr, stack) == 0 && pthread_create(&thread, &attr, tokenize, &call) == 0;
    pthread_attr_destroy(&attr);
    if (!started) {
        snprintf(err, LK_ERR_SIZE, "no stack of %zu bytes for a text of %d", stack, n_text);
        return LK_TOKENIZE_FAILED;
    }
    pthread_join(thread, nullptr);
    return call.result;
}

static int n_vocab(llama_context * ctx) {
    return llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
}

bool lk_finite(llama_context * ctx, int i) {
    const float * logits = llama_get_logits_ith(ctx, i);
    const int n = n_vocab(ctx);
    uint32_t bad = 0; // on the bits, which vectorizes: it is done for each generated token
    for (int t = 0; t < n; t++) {
        uint32_t bits;
        memcpy(&bits, &logits[t], sizeof(bits));
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}

llama_token lk_argmax(llama_context * ctx, int i) {
    const float * logits = llama_get_logits_ith(ctx, i);
    return std::max_element(logits, logits + n_vocab(ctx)) - logits;
}

float lk_logprobs(llama_context * ctx, int i, llama_token token, int k, llama_token * top, float * top_logprobs) {
    const float * logits = llama_get_logits_ith(ctx, i);
    const int n = n_vocab(ctx);

    const float max = *std::max_element(logits, logits + n);
    double sum = 0;
    for (int t = 0; t < n; t++) {
        sum += std::exp((double) (logits[t] - max));
    }
    const double log_sum = std::log(sum);
    // One expression for the token and for the top, so that equal logits give equal bits.
    auto logprob = [&](llama_token t) { return (float) ((double) (logits[t] - max) - log_sum); };

    if (k > 0) {
        auto better = [&](llama_token a, llama_token b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
        std::vector<llama_token> heap; // the k best so far, the worst of them in front
        heap.reserve(k);
        for (llama_token t = 0; t < n; t++) {
            if ((int) heap.size() < k) {
                heap.push_back(t);
                std::push_heap(heap.begin(), heap.end(), better);
            } else if (better(t, heap.front())) {
                std::pop_heap(heap.begin(), heap.end(), better);
                heap.back() = t;
                std::push_heap(heap.begin(), heap.end(), better);
            }
        }
        std::sort_heap(heap.begin(), heap.end(), better);
        for (size_t j = 0; j < heap.size(); j++) {
            top[j] = heap[j];
            top_logprobs[j] = logprob(heap[j]);
        }
    }
    return logprob(token);
}

llama_sampler * lk_sampler_new(float temperature, float top_p, uint32_t seed) {
    llama_sampler_chain_params params = llama_sampler_chain_default_params();
    params.no_perf = true;
    llama_sampler * chain = llama_sampler_chain_init(params);
    // OpenAI's top_p cuts the tempered distribution.
    llama_sampler_chain_add(chain, llama_sampler_init_temp(temperature));
    if (top_p < 1) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_p(top_p, 1));
    }
    // llama.cpp draws a seed of its own for this one.
    llama_sampler_chain_add(chain, llama_sampler_init_dist(seed == LLAMA_DEFAULT_SEED ? seed - 1 : seed));
    return chain;
}
