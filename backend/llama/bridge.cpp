#include "bridge.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <vector>

#include <pthread.h>

#include "abort.h"
#include "attention.h"
#include "devices.h"
#include "llama-context.h"

extern "C" void lorikeetLog(int level, char * text);

static void log_to_go(ggml_log_level level, const char * text, void *) {
    lorikeetLog(level, const_cast<char *>(text));
}

void lk_log_to_go(void) {
    llama_log_set(log_to_go, nullptr);
    abort_install([](int level, const char * text) { lorikeetLog(level, const_cast<char *>(text)); });
}

llama_model * lk_model_load(const char * path, int n_gpu_layers, const int * gpus, int n_gpus, const float * split, char * err) {
    abort_guard guard;
    try {
        std::vector<ggml_backend_dev_t> devices; // an explicit list, although it be empty: none means all
        for (int i = 0; i < n_gpus; i++) {
            devices.push_back(lk_gpu_device(gpus[i]));
        }
        devices.push_back(nullptr);
        std::vector<float> shares(std::max((size_t) n_gpus, llama_max_devices()), 0.0f);
        llama_model_params params = llama_model_default_params();
        params.devices = devices.data();
        params.n_gpu_layers = n_gpus > 0 ? n_gpu_layers : 0;
        if (split) {
            std::copy(split, split + n_gpus, shares.begin());
            params.tensor_split = shares.data();
        }
        return llama_model_load_from_file(path, params);
    } catch (const std::exception & e) {
        snprintf(err, LK_ERR_SIZE, "%s", e.what());
        return nullptr;
    }
}

llama_context * lk_context_new(llama_model * model, llama_context_params params, char * err) {
    abort_guard guard;
    try {
        attention_use(*model, params.flash_attn_type == LLAMA_FLASH_ATTN_TYPE_ENABLED);
        return llama_init_from_model(model, params);
    } catch (const std::exception & e) {
        snprintf(err, LK_ERR_SIZE, "%s", e.what());
        return nullptr;
    }
}

bool lk_flash(const llama_context * ctx) {
    return ctx->get_cparams().flash_attn;
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
