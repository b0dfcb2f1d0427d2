#include "attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "ggml-cpu.h"
#include "ggml.h"

#include "llama-model.h"

static const int64_t ROWS  = 32; // of queries in a tile: tokens times the heads that share keys
static const int64_t MANY  = 8;  // queries that make it worth to lay keys out by element
static const int64_t CELLS = 32; // whose keys and values are at hand at once

namespace {

// What one step's tokens are; written by the thread that owns the context, between steps.
struct step_info {
    bool     use    = false;
    uint64_t number = 0;
    std::vector<llama_seq_id> sequence; // of each token
};

// The cells that the tokens [first, first + tokens) see, one sequence's.
struct tile {
    int64_t first, tokens;
    bool    listed = false;
    std::vector<int32_t> cells;
};

// What a thread knows of the step under way.
struct thread_info {
    const step_info * step   = nullptr;
    uint64_t          number = 0;
    // By mask: layers with a sliding window have another one.
    std::vector<std::pair<const ggml_tensor *, std::vector<tile>>> tiles;
    std::vector<float> scratch;
};

}

// The thread that owns a context outlives it, so graphs may point to this.
static thread_local step_info   owned;
static thread_local thread_info mine;

void attention_use(const llama_model & model, bool use) {
    owned.use = use && std::none_of(model.layers.begin(), model.layers.end(), [](const llama_layer & l) { return l.attn_sinks; });
}

void attention_step(const llama_batch & batch) {
    owned.number++;
    owned.sequence.clear();
    for (int i = 0; i < batch.n_tokens; i++) {
        owned.sequence.push_back(batch.seq_id[i][0]);
    }
}

static const ggml_fp16_t * mask_row(const ggml_tensor * mask, int64_t token) {
    return (const ggml_fp16_t *) ((const char *) mask->data + token * mask->nb[1]);
}

static const ggml_fp16_t HIDDEN = 0xfc00; // -inf; what is seen is 0

// The tiles of a step: neighbouring tokens of one sequence, as many as fit.
static std::vector<tile> & tiles_of(const step_info & step, const ggml_tensor * mask, int64_t n_tokens, int64_t max_tokens) {
    if (mine.step != &step || mine.number != step.number) {
        mine.step = &step;
        mine.number = step.number;
        mine.tiles.clear();
    }
    for (auto & [of, tiles] : mine.tiles) {
        if (of == mask) {
            return tiles;
        }
    }
    auto & tiles = mine.tiles.emplace_back(mask, std::vector<tile>()).second;
    const bool known = (int64_t) step.sequence.size() == n_tokens;
    for (int64_t i = 0; i < n_tokens; i++) {
        const bool joins = known && i > 0 && step.sequence[i] == step.sequence[i - 1] && tiles.back().tokens < max_tokens;
        if (joins) {
            tiles.back().tokens++;
        } else {
            tiles.push_back({ i, 1, false, {} });
        }
    }
    return tiles;
}

// Lists what the first or the last token of a tile sees: positions grow by one, so
// those between see nothing else, with a sliding window too.
static void list_cells(tile & t, const ggml_tensor * mask) {
    const ggml_fp16_t * first = mask_row(mask, t.first);
    const ggml_fp16_t * last  = mask_row(mask, t.first + t.tokens - 1);
    for (int64_t c = 0; c < mask->ne[0]; c++) {
        if (first[c] != HIDDEN || last[c] != HIDDEN) {
            t.cells.push_back(c);
        }
    }
    t.listed = true;
}

// e^x for x <= 0, to about 1e-7 of it; loops over it become vectors.
static inline float exp_negative(float x) {
    const float z = std::max(x * 1.44269504f, -126.0f);
    const float n = (z + 12582912.0f) - 12582912.0f; // rounds to an integer
    const float t = (z - n) * 0.693147181f;
    const float p = 1 + t * (1 + t * (0.5f + t * (0.166666667f + t * (0.0416666667f + t * (0.00833333333f + t * 0.00138888889f)))));
    const int32_t bits = ((int32_t) n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof(power));
    return p * power;
}

// Sums in any order, so that the compiler can use vectors.
__attribute__((optimize("associative-math", "no-signed-zeros", "no-trapping-math")))
static inline float dot(const float * __restrict a, const float * __restrict b, int64_t n) {
    float sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

// score[c] = query · key c, for CELLS keys laid out by element: pays off for many queries.
static inline void score_all(const float * __restrict query, const float * __restrict keys_by_element, int64_t dk, float * __restrict score) {
    float sum[CELLS] = {};
    for (int64_t i = 0; i < dk; i++) {
        for (int64_t c = 0; c < CELLS; c++) {
            sum[c] += query[i] * keys_by_element[i * CELLS + c];
        }
    }
    memcpy(score, sum, sizeof(sum));
}

// sum += weight[c] * value[c] over count cells, leaving out those of weight 0: what is
// hidden is not even multiplied by 0.
static inline void add_weighted(const float * weight, const float * const * value, int64_t count, int64_t dv, float * __restrict sum) {
    const int64_t width = 32;
    int64_t from = 0;
    for (; from + width <= dv; from += width) {
        float part[width];
        memcpy(part, sum + from, sizeof(part));
        for (int64_t c = 0; c < count; c++) {
            if (weight[c] == 0.0f) {
                continue;
            }
            const float * v = value[c] + from;
            for (int64_t i = 0; i < width; i++) {
                part[i] += weight[c] * v[i];
            }
        }
        memcpy(sum + from, part, sizeof(part));
    }
    for (int64_t c = 0; c < count; c++) {
        for (int64_t i = from; i < dv && weight[c] != 0.0f; i++) {
            sum[i] += weight[c] * value[c][i];
        }
    }
}

// The row of a cell in F32: where it lies, or in scratch.
static const float * row_of(const ggml_tensor * t, int64_t cell, int64_t head, float * scratch) {
    const char * row = (const char *) t->data + cell * t->nb[1] + head * t->nb[2];
    if (t->type == GGML_TYPE_F32) {
        return (const float *) row;
    }
    ggml_cpu_fp16_to_fp32((const ggml_fp16_t *) row, scratch, t->ne[0]);
    return scratch;
}

// One tile for the heads that share one head of keys and values.
static void attend_tile(ggml_tensor * dst, const tile & t, int64_t kv_head, float scale) {
    const ggml_tensor * q    = dst->src[0];
    const ggml_tensor * k    = dst->src[1];
    const ggml_tensor * v    = dst->src[2];
    const ggml_tensor * mask = dst->src[3];
    const int64_t dk = k->ne[0], dv = v->ne[0], heads = q->ne[2] / k->ne[2], rows = t.tokens * heads;

    const bool many = rows >= MANY;
    mine.scratch.resize(rows * (dk + dv + CELLS + 2) + CELLS * (2 * dk + dv));
    float * queries = mine.scratch.data();
    float * sums    = queries + rows * dk;
    float * scores  = sums + rows * dv;
    float * maxima  = scores + rows * CELLS;
    float * totals  = maxima + rows;
    float * keys    = totals + rows;
    float * values  = keys + CELLS * dk;
    float * keys_by_element = values + CELLS * dv;

    for (int64_t r = 0; r < rows; r++) {
        const float * from = (const float *) ((const char *) q->data + (t.first + r / heads) * q->nb[1] + (kv_head * heads + r % heads) * q->nb[2]);
        for (int64_t i = 0; i < dk; i++) {
            queries[r * dk + i] = from[i] * scale;
        }
        maxima[r] = -INFINITY;
        totals[r] = 0;
    }
    std::fill(sums, sums + rows * dv, 0.0f);

    const float * key[CELLS];
    const float * value[CELLS];
    for (size_t begin = 0; begin < t.cells.size(); begin += CELLS) {
        const int64_t count = std::min<int64_t>(CELLS, t.cells.size() - begin);
        const int32_t * cells = &t.cells[begin];
        for (int64_t c = 0; c < count; c++) {
            key[c]   = row_of(k, cells[c], kv_head, keys + c * dk);
            value[c] = row_of(v, cells[c], kv_head, values + c * dv);
            for (int64_t i = 0; many && i < dk; i++) {
                keys_by_element[i * CELLS + c] = key[c][i];
            }
        }
        for (int64_t r = 0; r < rows; r++) {
            const ggml_fp16_t * seen = mask_row(mask, t.first + r / heads);
            float * score = scores + r * CELLS;
            float max = maxima[r];
            if (many) {
                score_all(queries + r * dk, keys_by_element, dk, score);
            }
            bool sees = false;
            for (int64_t c = 0; c < count; c++) {
                if (seen[cells[c]] == HIDDEN) {
                    score[c] = -INFINITY;
                    continue;
                }
                sees = true;
                if (!many) {
                    score[c] = dot(queries + r * dk, key[c], dk);
                }
                max = score[c] > max ? score[c] : max;
            }
            if (!sees) {
                continue;
            }
            float * sum = sums + r * dv;
            if (max > maxima[r]) { // what was summed up to now is relative to the old maximum
                const float shrink = maxima[r] == -INFINITY ? 0.0f : exp_negative(maxima[r] - max);
                for (int64_t i = 0; i < dv; i++) {
                    sum[i] *= shrink;
                }
                totals[r] *= shrink;
                maxima[r] = max;
            }
            for (int64_t c = 0; c < count; c++) {
                score[c] = score[c] == -INFINITY ? 0.0f : exp_negative(score[c] - max);
            }
            for (int64_t c = 0; c < count; c++) {
                totals[r] += score[c];
            }
            add_weighted(score, value, count, dv, sum);
        }
    }
    for (int64_t r = 0; r < rows; r++) {
        float * to = (float *) ((char *) dst->data + (kv_head * heads + r % heads) * dst->nb[1] + (t.first + r / heads) * dst->nb[2]);
        for (int64_t i = 0; i < dv; i++) {
            to[i] = sums[r * dv + i] / totals[r];
        }
    }
}

static float & scale_of(ggml_tensor * dst) {
    return ((float *) dst->op_params)[8]; // behind what ggml keeps of a custom operation
}

static void attend(ggml_tensor * dst, int ith, int nth, void * userdata) {
    const step_info & step = *(const step_info *) userdata;
    const ggml_tensor * q = dst->src[0];
    const int64_t kv_heads = dst->src[1]->ne[2];
    auto & tiles = tiles_of(step, dst->src[3], q->ne[1], std::max<int64_t>(1, ROWS / (q->ne[2] / kv_heads)));
    for (int64_t i = ith; i < (int64_t) tiles.size() * kv_heads; i += nth) {
        tile & t = tiles[i / kv_heads];
        if (!t.listed) {
            list_cells(t, dst->src[3]);
        }
        attend_tile(dst, t, i % kv_heads, scale_of(dst));
    }
}

//
// Linker wrappers (--wrap, in llama.go)
//

static bool is_float(const ggml_tensor * t) { return t->type == GGML_TYPE_F16 || t->type == GGML_TYPE_F32; }

extern "C" ggml_tensor * __real_ggml_flash_attn_ext(ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, ggml_tensor * mask, float scale, float max_bias, float logit_softcap);
extern "C" void __real_ggml_flash_attn_ext_set_prec(ggml_tensor * a, ggml_prec prec);
extern "C" void __real_ggml_flash_attn_ext_add_sinks(ggml_tensor * a, ggml_tensor * sinks);
extern "C" ggml_tensor * __real_ggml_cast(ggml_context * ctx, ggml_tensor * a, ggml_type type);

extern "C" ggml_tensor * __wrap_ggml_flash_attn_ext(ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, ggml_tensor * mask, float scale, float max_bias, float logit_softcap) {
    if (!owned.use || !mask || mask->type != GGML_TYPE_F16 || max_bias != 0 || logit_softcap != 0 || q->ne[3] != 1 || q->type != GGML_TYPE_F32 || !is_float(k) || !is_float(v)) {
        return __real_ggml_flash_attn_ext(ctx, q, k, v, mask, scale, max_bias, logit_softcap);
    }
    ggml_tensor * args[] = { q, k, v, mask };
    ggml_tensor * out = ggml_custom_4d(ctx, GGML_TYPE_F32, v->ne[0], q->ne[2], q->ne[1], 1, args, 4, attend, GGML_N_TASKS_MAX, &owned);
    scale_of(out) = scale;
    return out;
}

// These two are called on what the one above returns.
extern "C" void __wrap_ggml_flash_attn_ext_set_prec(ggml_tensor * a, ggml_prec prec) {
    if (a->op != GGML_OP_CUSTOM) {
        __real_ggml_flash_attn_ext_set_prec(a, prec);
    }
}

extern "C" void __wrap_ggml_flash_attn_ext_add_sinks(ggml_tensor * a, ggml_tensor * sinks) {
    if (a->op != GGML_OP_CUSTOM) {
        __real_ggml_flash_attn_ext_add_sinks(a, sinks);
    }
}

// llama.cpp casts keys and values that are in F32 to F16, in each step the whole cache.
extern "C" ggml_tensor * __wrap_ggml_cast(ggml_context * ctx, ggml_tensor * a, ggml_type type) {
    const bool from_cache = a->op == GGML_OP_PERMUTE; // the mask, which must be cast, is no view
    return owned.use && from_cache && a->type == GGML_TYPE_F32 && type == GGML_TYPE_F16 ? a : __real_ggml_cast(ctx, a, type);
}
