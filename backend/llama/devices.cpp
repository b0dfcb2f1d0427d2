#include "devices.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <vector>

#include <dlfcn.h>

#include "abort.h"
#include "bridge.h"
#include "ggml-backend.h"

static std::vector<ggml_backend_dev_t> gpus() {
    std::vector<ggml_backend_dev_t> all;
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t dev = ggml_backend_dev_get(i);
        if (ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_GPU) {
            all.push_back(dev);
        }
    }
    return all;
}

int lk_gpu_count(void) {
    return gpus().size();
}

ggml_backend_dev_t lk_gpu_device(int i) {
    return gpus().at(i);
}

lk_gpu lk_get_gpu(int i) {
    ggml_backend_dev_props props = {};
    ggml_backend_dev_get_props(lk_gpu_device(i), &props);
    return { props.name, props.description, props.compute_major, props.compute_minor };
}

bool lk_gpu_memory(int i, size_t * free, size_t * total, char * err) {
    abort_guard guard;
    try {
        ggml_backend_dev_memory(lk_gpu_device(i), free, total);
        return true;
    } catch (const std::exception & e) {
        snprintf(err, LK_ERR_SIZE, "%s", e.what());
        return false;
    }
}

static void * cuda_function(const char * name) {
    ggml_backend_reg_t cuda = ggml_backend_reg_by_name("CUDA");
    return cuda ? ggml_backend_reg_get_proc_address(cuda, name) : nullptr;
}

bool lk_pin(void * memory, size_t size) {
    auto pin = (bool (*)(void *, size_t)) cuda_function("ggml_backend_register_host_buffer");
    return pin && pin(memory, size);
}

void lk_unpin(void * memory) {
    if (auto unpin = (void (*)(void *)) cuda_function("ggml_backend_unregister_host_buffer")) {
        unpin(memory);
    }
}

const char * lk_cuda_archs(void) {
    ggml_backend_reg_t cuda = ggml_backend_reg_by_name("CUDA");
    if (!cuda) {
        return nullptr;
    }
    auto features = (ggml_backend_get_features_t) ggml_backend_reg_get_proc_address(cuda, "ggml_backend_get_features");
    for (const ggml_backend_feature * f = features ? features(cuda) : nullptr; f && f->name; f++) {
        if (strcmp(f->name, "ARCHS") == 0) {
            return f->value;
        }
    }
    return "";
}

const char * lk_why_not(const char * library) {
    void * handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        return dlerror();
    }
    dlclose(handle);
    return nullptr;
}
