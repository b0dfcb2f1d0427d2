#include "bridge.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <vector>

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

static int n_vocab(llama_context * ctx) {
    return llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
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
    llama_sampler_chain_add(chain, llama_sampler_init_dist(seed));
    return chain;
}
