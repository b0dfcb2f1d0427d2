#include "lowrank.h"

#include <algorithm>

#include "ggml-cpu.h"

static const int64_t BLOCK = 8192; // elements of b that are in the first-level cache at once

// Sums in any order, so that the compiler can use vectors.
__attribute__((optimize("associative-math", "no-signed-zeros", "no-trapping-math")))
static void products(const float * __restrict b, const float * __restrict ax, float * __restrict out, int64_t rank, int64_t n_out) {
    for (int64_t o = 0; o < n_out; o++) {
        float sum = 0;
        for (int64_t r = 0; r < rank; r++) {
            sum += b[o * rank + r] * ax[r];
        }
        out[o] = sum;
    }
}

static void compute(ggml_tensor * dst, int ith, int nth, void *) {
    const ggml_tensor * b   = dst->src[0];
    const ggml_tensor * ax  = dst->src[1];
    const ggml_tensor * ids = dst->src[2];
    const int64_t rank = b->ne[0], n_out = b->ne[1], n = dst->ne[1];

    // Each thread computes some of the outputs of all rows.
    const int64_t per_thread = (n_out + nth - 1) / nth;
    const int64_t first = ith * per_thread, last = std::min(n_out, first + per_thread);
    const int64_t step = std::max<int64_t>(1, BLOCK / rank);
    float converted[BLOCK];

    for (int64_t o = first; o < last; o += step) {
        const int64_t count = std::min(step, last - o);
        const float * block = nullptr;
        int32_t block_slot = -1;
        for (int64_t i = 0; i < n; i++) {
            const int32_t slot = *(const int32_t *) ((const char *) ids->data + i * ids->nb[1]);
            if (slot != block_slot) { // rows of one slot are neighbours
                block_slot = slot;
                const char * stored = (const char *) b->data + slot * b->nb[2] + o * b->nb[1];
                if (b->type == GGML_TYPE_F32) {
                    block = (const float *) stored;
                } else {
                    ggml_cpu_fp16_to_fp32((const ggml_fp16_t *) stored, converted, count * rank);
                    block = converted;
                }
            }
            products(block, (const float *) ((const char *) ax->data + i * ax->nb[2]), (float *) ((char *) dst->data + i * dst->nb[1]) + o, rank, count);
        }
    }
}

ggml_tensor * lowrank_mul_mat_id(ggml_context * ctx, ggml_tensor * b, ggml_tensor * ax, ggml_tensor * ids) {
    ggml_tensor * args[] = { b, ax, ids };
    return ggml_custom_4d(ctx, GGML_TYPE_F32, b->ne[1], ax->ne[2], 1, 1, args, 3, compute, GGML_N_TASKS_MAX, nullptr);
}
