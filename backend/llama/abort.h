// ggml ends the process where it can't go on: a failed assertion, an error of CUDA. While
// an abort_guard lives, that is an abort_error instead, on the guard's thread.
//
// What was under way is lost with it: memory that C code held leaks, and a GPU that
// failed goes on failing. The caller forgets the model or the context.
#pragma once

#include <stdexcept>

struct abort_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct abort_guard {
    abort_guard();
    ~abort_guard();
    abort_guard(const abort_guard &) = delete;
};

// From here on guards work. To be called again after a GPU's backend was loaded: it
// brings a copy of ggml's base along, and logs for itself.
void abort_install(void (*log)(int level, const char * text));
