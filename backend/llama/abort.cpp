#include "abort.h"

#include <cstdio>

#include <dlfcn.h>

#include "ggml.h"

static thread_local int guards = 0;

abort_guard::abort_guard() {
    guards++;
}

abort_guard::~abort_guard() {
    guards--;
}

static void (*log_to)(int level, const char * text) = nullptr;

// ggml calls abort() if this returns.
static void on_abort(const char * message) {
    if (guards > 0) {
        throw abort_error(message);
    }
    fprintf(stderr, "%s\n", message);
}

static void on_log(ggml_log_level level, const char * text, void *) {
    log_to(level, text);
}

void abort_install(void (*log)(int level, const char * text)) {
    log_to = log;
    ggml_set_abort_callback(on_abort);
    void * copy = dlopen("libggml-base.so.0", RTLD_NOW | RTLD_NOLOAD);
    if (!copy) {
        return; // no other backend was loaded
    }
    auto set_abort = (decltype(&ggml_set_abort_callback)) dlsym(copy, "ggml_set_abort_callback");
    auto set_log   = (decltype(&ggml_log_set)) dlsym(copy, "ggml_log_set");
    if (set_abort) {
        set_abort(on_abort);
    }
    if (set_log) {
        set_log(on_log, nullptr);
    }
}
