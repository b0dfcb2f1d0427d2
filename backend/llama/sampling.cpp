// What is read from an output, and how the next token is chosen: llama.cpp's
// samplers, in a chain whose scratch memory is used again.
//
// A chain that cuts to the k most likely tokens and changes no logit before that
// never sees the whole vocabulary. A grammar is asked about the token that was
// drawn; only if it refuses does it look at every token, which takes long enough to
// be done apart from the step (lk_sample_slowly). A grammar that waits for a trigger
// is asked about the one token that completes it, which may go on behind it.
#include "bridge.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "llama-grammar.h"
#include "llama-vocab.h"

static const uint32_t EXPONENT = 0x7f800000u; // all ones in numbers that are not finite

bool lk_finite(const float * logits, int n_vocab) {
    uint32_t bad = 0; // on the bits, which vectorizes: it is done for each generated token
    for (int t = 0; t < n_vocab; t++) {
        uint32_t bits;
        memcpy(&bits, &logits[t], sizeof(bits));
        bad |= (bits & EXPONENT) == EXPONENT;
    }
    return !bad;
}

// The largest of n numbers. Eight lanes, because the order of comparisons is part of
// what a compiler keeps.
static float max_of(const float * x, int n) {
    float lanes[8];
    std::fill(lanes, lanes + 8, -INFINITY);
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int j = 0; j < 8; j++) {
            lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
        }
    }
    float best = *std::max_element(lanes, lanes + 8);
    for (; i < n; i++) {
        best = std::max(best, x[i]);
    }
    return best;
}

llama_token lk_argmax(const float * logits, int n_vocab) {
    if (!lk_finite(logits, n_vocab)) {
        return -1;
    }
    return std::find(logits, logits + n_vocab, max_of(logits, n_vocab)) - logits;
}

// Calls f(token) for the k largest logits, the largest first, the lower id first among equals.
template <typename F> static void for_top_k(const float * logits, int n_vocab, int k, F f) {
    static thread_local std::vector<llama_token> heap;
    auto better = [&](llama_token a, llama_token b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
    heap.clear(); // the k best so far, the worst of them in front
    k = std::min(k, n_vocab);
    llama_token t = 0;
    for (; t < k; t++) {
        heap.push_back(t);
    }
    std::make_heap(heap.begin(), heap.end(), better);
    for (; t < n_vocab; t++) {
        if (logits[t] > logits[heap.front()]) { // an equal one has a higher id
            std::pop_heap(heap.begin(), heap.end(), better);
            heap.back() = t;
            std::push_heap(heap.begin(), heap.end(), better);
        }
    }
    std::sort_heap(heap.begin(), heap.end(), better);
    for (llama_token best : heap) {
        f(best);
    }
}

float lk_logprobs(const float * logits, int n_vocab, llama_token token, int k, llama_token * top, float * top_logprobs) {
    const float max = max_of(logits, n_vocab);
    double sum = 0;
    for (int t = 0; t < n_vocab; t++) {
        sum += expf(logits[t] - max);
    }
    const double log_sum = log(sum) + max;
    if (k > 0) {
        int j = 0;
        for_top_k(logits, n_vocab, k, [&](llama_token t) {
            top[j] = t;
            top_logprobs[j] = logits[t] - log_sum;
            j++;
        });
    }
    return logits[token] - log_sum;
}

//
// A limit to the time that a grammar takes
//
// What a grammar allows next is a set of stacks, and an ambiguous grammar can double
// them with every character. llama.cpp copies each in newly allocated memory, so the
// allocator is where it can be stopped: a linker wrapper (--wrap, in llama.go) around
// operator new throws when the thread has used up its time.
//

static const int64_t GRAMMAR_NANOSECONDS = 250 * 1000 * 1000; // of the thread's CPU time, for one token

static thread_local int64_t  deadline    = 0; // 0: none
static thread_local unsigned allocations = 0;

static int64_t thread_nanoseconds() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

extern "C" void * __real__Znwm(size_t n);

extern "C" void * __wrap__Znwm(size_t n) {
    if (deadline && ++allocations % 64 == 0 && thread_nanoseconds() > deadline) {
        deadline = 0; // what unwinds may allocate
        throw std::bad_alloc();
    }
    return __real__Znwm(n);
}

namespace {
struct time_limit {
    void start() { deadline = thread_nanoseconds() + GRAMMAR_NANOSECONDS; }
    ~time_limit() { deadline = 0; }
};
}

//
// Samplers
//

namespace {
struct sampler_deleter {
    void operator()(llama_sampler * s) const { llama_sampler_free(s); }
    void operator()(llama_grammar * g) const { llama_grammar_free_impl(g); }
};
}
using sampler_ptr = std::unique_ptr<llama_sampler, sampler_deleter>;
using grammar_ptr = std::unique_ptr<llama_grammar, sampler_deleter>;

static const int MAX_HEAP = 1024; // a larger one is slower than a sort

struct lk_sampler {
    const llama_vocab * vocab = nullptr;
    int n_vocab = 0;
    int top_k   = 0; // the first cut, if it can be made on the logits as they are; 0: it can't

    std::vector<llama_token> allowed; // nothing else is a candidate; empty: everything is
    std::vector<llama_token> ends;
    std::vector<llama_logit_bias> bias; // token is the candidate's index

    std::vector<std::vector<llama_token>> bad_words;
    size_t longest_bad = 0;
    std::vector<llama_token> recent; // the end of the answer, as long as the bad words need it

    grammar_ptr grammar;
    std::vector<std::string> triggers; // of the grammar, until the answer has one
    size_t longest_trigger = 0;        // bytes
    std::string tail;                  // the end of the answer's text, in which a trigger may have begun

    sampler_ptr penalties;
    sampler_ptr choice; // cuts and draws; null: greedy
};

// Of the choice under way on this thread.
static thread_local std::vector<llama_token_data> candidates;
static thread_local std::vector<llama_token> banned;
static thread_local std::string text;

// Fills banned: the first n_ends ends, and what would complete a bad word.
static void ban(const lk_sampler & s, int n_ends) {
    banned.assign(s.ends.begin(), s.ends.begin() + n_ends);
    for (const auto & w : s.bad_words) {
        const size_t before = w.size() - 1;
        if (before <= s.recent.size() && std::equal(w.begin(), w.end() - 1, s.recent.end() - before)) {
            banned.push_back(w.back());
        }
    }
}

// The index of a token among all candidates, or -1.
static int index_of(const lk_sampler & s, llama_token t) {
    if (s.allowed.empty()) {
        return t >= 0 && t < s.n_vocab ? t : -1;
    }
    auto at = std::lower_bound(s.allowed.begin(), s.allowed.end(), t);
    return at == s.allowed.end() || *at != t ? -1 : at - s.allowed.begin();
}

static llama_token_data_array candidates_of(const lk_sampler & s, const float * logits, int n_ends, int top_k) {
    ban(s, n_ends);
    if (top_k > 0 && banned.size() <= MAX_HEAP) {
        std::sort(banned.begin(), banned.end());
        candidates.clear();
        for_top_k(logits, s.n_vocab, top_k + banned.size(), [&](llama_token t) {
            if ((int) candidates.size() < top_k && !std::binary_search(banned.begin(), banned.end(), t)) {
                candidates.push_back({ t, logits[t], 0.0f });
            }
        });
        return { candidates.data(), candidates.size(), -1, true };
    }
    candidates.resize(s.allowed.empty() ? s.n_vocab : s.allowed.size());
    for (size_t i = 0; i < candidates.size(); i++) {
        const llama_token t = s.allowed.empty() ? i : s.allowed[i];
        candidates[i] = { t, logits[t], 0.0f };
    }
    for (const auto & b : s.bias) {
        candidates[b.token].logit += b.bias;
    }
    for (llama_token t : banned) {
        const int i = index_of(s, t);
        if (i >= 0) {
            candidates[i].logit = -INFINITY;
        }
    }
    return { candidates.data(), candidates.size(), -1, false };
}

// Chooses from what has a logit above -inf; LK_NO_TOKEN if nothing has.
static llama_token choose(lk_sampler & s, llama_token_data_array & c) {
    if (s.penalties) {
        llama_sampler_apply(s.penalties.get(), &c);
    }
    llama_token_data * end = std::remove_if(c.data, c.data + c.size, [](const llama_token_data & d) { return d.logit == -INFINITY; });
    c.size = end - c.data;
    if (c.size == 0) {
        return LK_NO_TOKEN;
    }
    if (!s.choice) {
        return std::max_element(c.data, end, [](const llama_token_data & a, const llama_token_data & b) { return a.logit < b.logit; })->id;
    }
    llama_sampler_apply(s.choice.get(), &c);
    return c.selected < 0 ? LK_NO_TOKEN : c.data[c.selected].id;
}

//
// Triggers
//

static bool waits(const lk_sampler & s) { return !s.triggers.empty(); }

// Puts what a token makes of the answer's end into text, and returns where in it a
// trigger begins, or npos. What ends the answer stands for no text.
static size_t triggered(const lk_sampler & s, llama_token t) {
    text = s.tail;
    if (llama_vocab_is_eog(s.vocab, t)) {
        return std::string::npos;
    }
    text += s.vocab->token_to_piece(t);
    size_t first = std::string::npos;
    for (const auto & trigger : s.triggers) {
        first = std::min(first, text.find(trigger));
    }
    return first;
}

// Makes the grammar, from its beginning on, take in a string that ends with a token;
// if it refuses, it is of no use until its state is put back.
static bool follows(llama_grammar & g, llama_token t, const std::string & s) {
    try {
        llama_grammar_accept_token(g, t, s);
    } catch (const std::runtime_error &) {
        return false;
    }
    const uint32_t none = 0;
    return std::any_of(g.stacks.begin(), g.stacks.end(), [&](const llama_grammar_stack & stack) { // the half character at the end, too
        return llama_grammar_reject_candidates_for_stack(g.rules, stack, { { 0, &none, g.partial_utf8, t } }).empty();
    });
}

// Whether a waiting grammar allows a token that completes a trigger, at the given place in text.
static bool may_trigger(const lk_sampler & s, llama_token t, size_t at) {
    const auto stacks = s.grammar->stacks;
    const auto partial = s.grammar->partial_utf8;
    const bool ok = follows(*s.grammar, t, text.substr(at));
    s.grammar->stacks = stacks;
    s.grammar->partial_utf8 = partial;
    return ok;
}

static llama_token accept(lk_sampler & s, llama_token t) {
    if (waits(s)) {
        const size_t at = triggered(s, t);
        if (at != std::string::npos) {
            follows(*s.grammar, t, text.substr(at));
            s.triggers.clear();
        } else {
            const size_t keep = std::min(text.size(), s.longest_trigger - 1);
            s.tail.assign(text, text.size() - keep, keep);
        }
    } else if (s.grammar) {
        llama_grammar_accept_impl(*s.grammar, t);
    }
    for (llama_sampler * part : { s.penalties.get(), s.choice.get() }) {
        if (part) {
            llama_sampler_accept(part, t);
        }
    }
    if (s.longest_bad > 1) {
        if (s.recent.size() == s.recent.capacity()) {
            s.recent.erase(s.recent.begin(), s.recent.end() - (s.longest_bad - 1));
        }
        s.recent.push_back(t);
    }
    return t;
}

llama_token lk_sample(lk_sampler * sampler, const float * logits, int32_t n_banned) {
    lk_sampler & s = *sampler;
    try {
        time_limit limit;
        auto all = candidates_of(s, logits, n_banned, s.top_k);
        const llama_token t = choose(s, all);
        if (t < 0) {
            return t;
        }
        if (waits(s)) {
            const size_t at = triggered(s, t);
            if (at != std::string::npos) {
                limit.start();
                if (!may_trigger(s, t, at)) {
                    return LK_SLOW;
                }
            }
        } else if (s.grammar) {
            limit.start();
            llama_token_data one = { t, 1.0f, 0.0f };
            llama_token_data_array only = { &one, 1, -1, false };
            llama_grammar_apply_impl(*s.grammar, &only);
            if (one.logit == -INFINITY) {
                return LK_SLOW;
            }
        }
        return accept(s, t);
    } catch (const std::exception &) {
        return LK_TOO_LONG;
    }
}

llama_token lk_sample_slowly(lk_sampler * sampler, const float * logits, int32_t n_banned) {
    lk_sampler & s = *sampler;
    try {
        time_limit limit;
        limit.start();
        auto all = candidates_of(s, logits, n_banned, 0); // top-k counts what the grammar allows
        if (waits(s)) {
            for (size_t i = 0; i < all.size; i++) {
                const size_t at = triggered(s, all.data[i].id);
                if (at != std::string::npos && !may_trigger(s, all.data[i].id, at)) {
                    all.data[i].logit = -INFINITY;
                }
            }
        } else {
            llama_grammar_apply_impl(*s.grammar, &all);
        }
        const llama_token t = choose(s, all);
        return t < 0 ? t : accept(s, t);
    } catch (const std::exception &) {
        return LK_TOO_LONG;
    }
}

bool lk_sampler_bound(const lk_sampler * sampler) {
    return sampler->grammar && !waits(*sampler);
}

static llama_sampler * new_chain() {
    llama_sampler_chain_params params = llama_sampler_chain_default_params();
    params.no_perf = true;
    return llama_sampler_chain_init(params);
}

static void build(lk_sampler & s, const llama_vocab * vocab, const lk_sampling & p) {
    s.vocab = vocab;
    s.n_vocab = llama_vocab_n_tokens(vocab);
    s.ends.assign(p.ends, p.ends + p.n_ends);
    s.allowed.assign(p.allowed, p.allowed + p.n_allowed);
    std::sort(s.allowed.begin(), s.allowed.end());
    s.allowed.erase(std::unique(s.allowed.begin(), s.allowed.end()), s.allowed.end());
    for (int i = 0; i < p.n_bias; i++) {
        const int index = index_of(s, p.bias[i].token);
        if (index >= 0) {
            s.bias.push_back({ index, p.bias[i].bias });
        }
    }
    const llama_token * word = p.bad_words;
    for (int i = 0; i < p.n_bad; word += p.bad_lengths[i++]) {
        if (p.bad_lengths[i] > 0) {
            s.bad_words.emplace_back(word, word + p.bad_lengths[i]);
            s.longest_bad = std::max(s.longest_bad, s.bad_words.back().size());
        }
    }
    s.recent.reserve(2 * s.longest_bad);

    if (p.grammar) {
        time_limit limit;
        limit.start();
        s.grammar.reset(llama_grammar_init_impl(vocab, nullptr, p.grammar, "root", false, nullptr, 0, nullptr, 0));
        if (!s.grammar) {
            throw std::runtime_error("llama.cpp does not accept it");
        }
        const char * trigger = p.triggers;
        for (int i = 0; i < p.n_triggers; trigger += p.trigger_lengths[i++]) {
            s.triggers.emplace_back(trigger, p.trigger_lengths[i]);
            s.longest_trigger = std::max(s.longest_trigger, s.triggers.back().size());
        }
    }

    const bool repetition = p.repetition_penalty != 0 && p.repetition_penalty != 1;
    const bool counts = p.presence_penalty != 0 || p.frequency_penalty != 0;
    if (repetition || counts) {
        s.penalties.reset(new_chain());
        if (repetition) {
            llama_sampler * penalty = llama_sampler_init_penalties(p.n_prompt + p.n_answer, p.repetition_penalty, 0, 0);
            for (int i = 0; i < p.n_prompt; i++) {
                llama_sampler_accept(penalty, p.prompt[i]);
            }
            llama_sampler_chain_add(s.penalties.get(), penalty);
        }
        if (counts) { // of the answer only
            llama_sampler_chain_add(s.penalties.get(), llama_sampler_init_penalties(p.n_answer, 1, p.frequency_penalty, p.presence_penalty));
        }
    }

    const bool on_logits = s.allowed.empty() && s.bias.empty() && !s.penalties;
    if (p.temperature <= 0) {
        s.top_k = on_logits;
        return;
    }
    s.choice.reset(new_chain());
    llama_sampler * chain = s.choice.get();
    const int top_k = p.top_k >= s.n_vocab ? 0 : p.top_k;
    if (top_k > 0) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_k(top_k));
        s.top_k = on_logits && top_k <= MAX_HEAP ? top_k : 0;
    }
    // OpenAI's top_p cuts the tempered distribution.
    llama_sampler_chain_add(chain, llama_sampler_init_temp(p.temperature));
    if (p.typical_p > 0 && p.typical_p < 1) {
        llama_sampler_chain_add(chain, llama_sampler_init_typical(p.typical_p, 1));
    }
    if (p.top_p < 1) {
        llama_sampler_chain_add(chain, llama_sampler_init_top_p(p.top_p, 1));
    }
    if (p.min_p > 0) {
        llama_sampler_chain_add(chain, llama_sampler_init_min_p(p.min_p, 1));
    }
    // llama.cpp draws a seed of its own for this one.
    llama_sampler_chain_add(chain, llama_sampler_init_dist(p.seed == LLAMA_DEFAULT_SEED ? p.seed - 1 : p.seed));
}

lk_sampler * lk_sampler_new(const llama_vocab * vocab, const lk_sampling * params, char * err) {
    lk_sampler * s = nullptr;
    try {
        s = new lk_sampler();
        build(*s, vocab, *params);
        return s;
    } catch (const std::exception & e) {
        snprintf(err, LK_ERR_SIZE, "%s", e.what());
        delete s;
        return nullptr;
    }
}

void lk_sampler_free(lk_sampler * sampler) {
    delete sampler;
}
