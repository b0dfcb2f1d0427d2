// GPUs, as ggml's registry has them after the backends were loaded.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char * name;
    const char * description;
    int          compute_major, compute_minor;
} lk_gpu;

int    lk_gpu_count(void);
lk_gpu lk_get_gpu(int i);

#ifdef __cplusplus
// For ggml's functions.
struct ggml_backend_device * lk_gpu_device(int i);
#endif

// The free and the total bytes of a GPU. It takes a few hundred MB of that GPU: CUDA
// makes its context. False and err if the GPU fails.
bool lk_gpu_memory(int i, size_t * free, size_t * total, char * err);

// Makes copies from a piece of memory to GPUs faster: CUDA need not copy it to memory of
// its own first. False if it can't be, or there is no CUDA.
bool lk_pin(void * memory, size_t size);
void lk_unpin(void * memory);

// The compute capabilities that the CUDA backend was built for, such as "800,900";
// NULL if there is no such backend, "" if it does not say.
const char * lk_cuda_archs(void);

// Why a library can't be loaded, or NULL if it can.
const char * lk_why_not(const char * library);

#ifdef __cplusplus
}
#endif
