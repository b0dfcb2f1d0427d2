// The adapter pool: one step serves tokens of different adapters.
//
// llama.cpp builds every adapted projection as
//     mul_mat(w, x) + scale * mul_mat(b, mul_mat(a, x))
// with one a and b per context. The pool is a llama_adapter_lora whose a and b
// are stacks of matrices, one per slot, and a linker wrapper (--wrap, in
// llama.go) around ggml_mul_mat that picks the slot: a view of one slice when all
// tokens of the step use the same slot, ggml_mul_mat_id with one slot number per
// token when they differ. No source of llama.cpp is changed.
//
// Wrapped symbols and why:
//   ggml_mul_mat                 picks the slot, as above
//   ggml_scale                   drops the multiplication by 1 behind it
//   llm_graph_result::can_reuse  llama.cpp compares only the address of the set
//                                of adapters when it reuses a graph, so a switch
//                                between steps of the same shape would go unseen
//   llama_model::n_tensors       sizes the graph; the added nodes of adapters are
//                                not counted, and an overflow aborts the process
#include "bridge.h"

#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "abort.h"
#include "attention.h"
#include "llama-adapter.h"
#include "llama-graph.h"
#include "llama-model.h"
#include "lowrank.h"

struct lk_pool {
    struct weight {
        std::string   name;
        ggml_tensor * a; // [n_in, rank, n_slots]
        ggml_tensor * b; // [rank, n_out, n_slots]
        bool          visited;
    };

    // Slot numbers of a step on one device: per token, and per output row (on
    // the last layer only those rows remain).
    struct ids {
        ggml_tensor * tokens;
        ggml_tensor * outputs;
    };

    llama_adapter_lora adapter; // what llama.cpp sees; its tensors are the pool's
    std::vector<weight> weights;
    std::map<ggml_backend_buffer_type_t, ids> ids_of_device;
    std::unordered_map<const ggml_tensor *, size_t> a_of, b_of; // index into weights

    int  n_slots    = 0;
    int  max_tokens = 0;
    bool attached   = false; // whether the context has the adapter set

    // This step.
    lk_mode mode     = LK_MODE_NONE;
    int     slot     = 0; // in uniform mode
    int64_t n_tokens = 0;
    std::vector<int32_t> output_slots;

    // The graph that is being built or was built last. After a failure llama.cpp
    // would take a half-built one for reusable.
    bool    graph_valid = false;
    lk_mode graph_mode = LK_MODE_NONE;
    int     graph_slot = 0;
    const ggml_tensor * x       = nullptr; // the last left factor, and its reshape: q, k and v share them
    ggml_tensor *       x_3d    = nullptr;
    const ggml_tensor * product = nullptr; // the last result of b

    std::map<std::pair<ggml_tensor *, int64_t>, ggml_tensor *> ids_views;

    void forget_graph_tensors() {
        x = product = nullptr;
        x_3d = nullptr;
        ids_views.clear();
    }
};

// The pool of the step that runs on this thread. A context has one owner thread.
static thread_local lk_pool * current = nullptr;

extern "C" {
ggml_tensor * __real_ggml_mul_mat(ggml_context * ctx, ggml_tensor * a, ggml_tensor * b);
ggml_tensor * __real_ggml_scale(ggml_context * ctx, ggml_tensor * a, float s);
bool          __real__ZN16llm_graph_result9can_reuseERK16llm_graph_params(llm_graph_result * self, const llm_graph_params & params);
size_t        __real__ZNK11llama_model9n_tensorsEv(const llama_model * self);
}

static ggml_tensor * view_of_slot(ggml_context * ctx, ggml_tensor * stack, int slot) {
    return ggml_view_2d(ctx, stack, stack->ne[0], stack->ne[1], stack->nb[1], slot * stack->nb[2]);
}

// The slot number of each of the n rows of x, as [1, n].
static ggml_tensor * ids_for(ggml_context * ctx, lk_pool & p, const ggml_tensor * stack, int64_t n) {
    const auto & ids = p.ids_of_device.at(ggml_backend_buffer_get_type(stack->buffer));
    ggml_tensor * all = n == p.n_tokens ? ids.tokens : ids.outputs;
    ggml_tensor *& view = p.ids_views[{ all, n }];
    if (!view) {
        view = ggml_view_2d(ctx, all, 1, n, all->nb[1], 0);
    }
    return view;
}

static ggml_tensor * mul_mat_a(ggml_context * ctx, lk_pool & p, ggml_tensor * a, ggml_tensor * x) {
    if (p.mode == LK_MODE_UNIFORM) {
        return __real_ggml_mul_mat(ctx, view_of_slot(ctx, a, p.slot), x);
    }
    if (x->ne[2] != 1 || x->ne[3] != 1) {
        throw std::runtime_error(std::string("adapters can't be mixed in this architecture: the input of ") + a->name + " is no matrix");
    }
    if (p.x != x) {
        p.x    = x;
        p.x_3d = ggml_reshape_3d(ctx, x, x->ne[0], 1, x->ne[1]);
    }
    return ggml_mul_mat_id(ctx, a, p.x_3d, ids_for(ctx, p, a, x->ne[1]));
}

static ggml_tensor * mul_mat_b(ggml_context * ctx, lk_pool & p, ggml_tensor * b, ggml_tensor * ax) {
    ggml_tensor * out;
    if (p.mode == LK_MODE_UNIFORM) {
        out = __real_ggml_mul_mat(ctx, view_of_slot(ctx, b, p.slot), ax);
    } else {
        const int64_t n = ax->ne[2];
        ggml_tensor * ids = ids_for(ctx, p, b, n);
        if (ggml_backend_buffer_is_host(b->buffer)) {
            out = lowrank_mul_mat_id(ctx, b, ax, ids);
        } else {
            out = ggml_mul_mat_id(ctx, b, ax, ids);
            out = ggml_reshape_2d(ctx, out, out->ne[0], n);
        }
    }
    p.product = out;
    return out;
}

extern "C" ggml_tensor * __wrap_ggml_mul_mat(ggml_context * ctx, ggml_tensor * a, ggml_tensor * b) {
    if (current) {
        lk_pool & p = *current;
        auto it = p.a_of.find(a);
        if (it != p.a_of.end()) {
            return mul_mat_a(ctx, p, a, b);
        }
        it = p.b_of.find(a);
        if (it != p.b_of.end()) {
            p.weights[it->second].visited = true;
            return mul_mat_b(ctx, p, a, b);
        }
    }
    return __real_ggml_mul_mat(ctx, a, b);
}

extern "C" ggml_tensor * __wrap_ggml_scale(ggml_context * ctx, ggml_tensor * a, float s) {
    if (current && a == current->product && s == 1.0f) {
        return a;
    }
    return __real_ggml_scale(ctx, a, s);
}

extern "C" bool __wrap__ZN16llm_graph_result9can_reuseERK16llm_graph_params(llm_graph_result * self, const llm_graph_params & params) {
    if (!current) {
        return __real__ZN16llm_graph_result9can_reuseERK16llm_graph_params(self, params);
    }
    lk_pool & p = *current;
    const bool same = p.graph_valid && p.graph_mode == p.mode && (p.mode != LK_MODE_UNIFORM || p.graph_slot == p.slot);
    if (same && __real__ZN16llm_graph_result9can_reuseERK16llm_graph_params(self, params)) {
        return true;
    }
    // The graph is built anew next.
    p.graph_valid = true;
    p.graph_mode = p.mode;
    p.graph_slot = p.slot;
    p.forget_graph_tensors();
    return false;
}

extern "C" size_t __wrap__ZNK11llama_model9n_tensorsEv(const llama_model * self) {
    // Up to 8 nodes are planned per tensor; an adapted matrix adds at most 7
    // (reshape, ids view, two products or views of each, reshape, sum).
    return 2 * __real__ZNK11llama_model9n_tensorsEv(self);
}

static bool is_target(const std::string & weight, const std::vector<std::string> & targets) {
    for (const auto & t : targets) {
        const std::string suffix = t + ".weight";
        if (weight == suffix) {
            return true;
        }
        if (weight.rfind("blk.", 0) == 0) {
            const auto dot = weight.find('.', 4);
            if (dot != std::string::npos && weight.compare(dot + 1, std::string::npos, suffix) == 0) {
                return true;
            }
        }
    }
    return false;
}

// Where tensors beside w go: its own buffer type, or the plain one of the CPU if
// w was repacked for it.
static ggml_backend_buffer_type_t device_of(const ggml_tensor * w) {
    ggml_backend_buffer_type_t type = ggml_backend_buffer_get_type(w->buffer);
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    auto extra = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), "ggml_backend_dev_get_extra_bufts");
    for (ggml_backend_buffer_type_t * e = extra ? extra(cpu) : nullptr; e && *e; e++) {
        if (*e == type) {
            return ggml_backend_dev_buffer_type(cpu);
        }
    }
    return type;
}

static void build(lk_pool & p, llama_model & model, const std::vector<std::string> & targets, int rank, ggml_type type) {
    std::map<ggml_backend_buffer_type_t, std::vector<const ggml_tensor *>> by_device;
    for (const auto & [name, w] : llama_internal_get_tensor_map(&model)) {
        // Embeddings are looked up, not multiplied.
        if (is_target(name, targets) && ggml_n_dims(w) == 2 && name != "token_embd.weight") {
            by_device[device_of(w)].push_back(w);
        }
    }
    for (const auto & [device, ws] : by_device) {
        ggml_context * ctx = ggml_init({ (2 * ws.size() + 2) * ggml_tensor_overhead(), nullptr, true });
        p.adapter.ctxs.emplace_back(ctx);
        for (const ggml_tensor * w : ws) {
            ggml_tensor * a = ggml_new_tensor_3d(ctx, type, w->ne[0], rank, p.n_slots);
            ggml_tensor * b = ggml_new_tensor_3d(ctx, type, rank, w->ne[1], p.n_slots);
            ggml_format_name(a, "%s.lora_a", w->name);
            ggml_format_name(b, "%s.lora_b", w->name);
            p.a_of[a] = p.b_of[b] = p.weights.size();
            p.weights.push_back({ w->name, a, b, false });
            p.adapter.ab_map[w->name] = llama_adapter_lora_weight(a, b);
        }
        ggml_tensor * tokens  = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, 1, p.max_tokens);
        ggml_tensor * outputs = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, 1, p.max_tokens);
        p.ids_of_device[device] = { tokens, outputs };
        ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors_from_buft(ctx, device);
        if (!buffer) {
            throw std::runtime_error(std::string("no memory for the adapter pool on ") + ggml_backend_buft_name(device));
        }
        p.adapter.bufs.emplace_back(buffer);
        ggml_backend_buffer_set_usage(buffer, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        ggml_backend_buffer_clear(buffer, 0);
    }
}

lk_pool * lk_pool_new(llama_model * model, const char * targets, int n_slots, int rank, ggml_type type, int max_tokens, char * err) {
    lk_pool * p = nullptr;
    try {
        p = new lk_pool();
        p->adapter.alpha = 0; // so that llama.cpp's scale is 1
        p->n_slots = n_slots;
        // llama.cpp rounds the tokens of a graph that it only measures up to a multiple of the sequences.
        p->max_tokens = max_tokens + (int) llama_max_parallel_sequences();
        std::vector<std::string> names;
        std::stringstream list(targets);
        for (std::string t; std::getline(list, t, ',');) {
            names.push_back(t);
        }
        build(*p, *model, names, rank, type);
        return p;
    } catch (const std::exception & e) {
        snprintf(err, LK_ERR_SIZE, "%s", e.what());
        delete p;
        return nullptr;
    }
}

void lk_pool_free(lk_pool * pool) {
    delete pool;
}

int lk_pool_n_weights(const lk_pool * pool) {
    return pool->weights.size();
}

lk_pool_weight lk_pool_get_weight(const lk_pool * pool, int i) {
    const auto & w = pool->weights[i];
    return { w.name.c_str(), w.a->ne[0], w.b->ne[1] };
}

bool lk_pool_weight_visited(const lk_pool * pool, int i) {
    return pool->weights[i].visited;
}

int lk_pool_set(lk_pool * pool, int weight, int slot, const void * a_and_b, char * err) {
    abort_guard guard;
    try {
        const auto & w = pool->weights[weight];
        ggml_backend_tensor_set(w.a, a_and_b, slot * w.a->nb[2], w.a->nb[2]);
        ggml_backend_tensor_set(w.b, (const char *) a_and_b + w.a->nb[2], slot * w.b->nb[2], w.b->nb[2]);
        return 0;
    } catch (const std::exception & e) {
        snprintf(err, LK_ERR_SIZE, "%s", e.what());
        return LK_LOST;
    }
}

static void prepare(lk_pool & p, llama_context * ctx, lk_mode mode, const llama_batch & batch, const int32_t * slots) {
    p.mode     = mode;
    p.slot     = slots[0];
    p.n_tokens = batch.n_tokens;
    p.forget_graph_tensors();

    const bool attach = mode != LK_MODE_NONE;
    if (attach != p.attached) {
        if (attach) {
            llama_set_adapter_lora(ctx, &p.adapter, 1.0f);
        } else {
            llama_clear_adapter_lora(ctx);
        }
        p.attached = attach;
    }
    if (mode == LK_MODE_MIXED) {
        p.output_slots.clear();
        for (int i = 0; i < batch.n_tokens; i++) {
            if (batch.logits[i]) {
                p.output_slots.push_back(slots[i]);
            }
        }
        for (auto & [device, ids] : p.ids_of_device) {
            ggml_backend_tensor_set(ids.tokens, slots, 0, batch.n_tokens * sizeof(int32_t));
            ggml_backend_tensor_set(ids.outputs, p.output_slots.data(), 0, p.output_slots.size() * sizeof(int32_t));
        }
    }
}

int lk_decode(llama_context * ctx, lk_pool * pool, lk_mode mode, llama_batch batch, const int32_t * slots, char * err) {
    abort_guard guard;
    try {
        if (pool) {
            prepare(*pool, ctx, mode, batch, slots);
        }
        attention_step(batch);
        current = pool;
        const int code = llama_decode(ctx, batch);
        if (code == 0) {
            llama_synchronize(ctx);
        }
        current = nullptr;
        if (pool && code != 0) {
            pool->graph_valid = false;
        }
        return code;
    } catch (const std::exception & e) {
        current = nullptr;
        if (pool) {
            pool->graph_valid = false;
        }
        snprintf(err, LK_ERR_SIZE, "%s", e.what());
        return dynamic_cast<const abort_error *>(&e) ? LK_LOST : LK_THREW;
    }
}
