// Attention on the CPU, in place of ggml's flash attention (through a linker wrapper).
//
// All sequences share one KV cache: steps that mix adapters need that. ggml's kernel
// asks the mask about every cell of the cache for each token, head and layer, so each
// token pays for what all other sequences hold, kept prefixes included. This one lists
// the cells of a token's sequence once per step, and computes the tokens of a prompt
// in tiles. It sums in F32 whatever the type of the cache.
//
// It reads no cell that the mask hides: a number that is not finite stays in the
// sequence where it came up.
#pragma once

#include "llama.h"

struct llama_model;

// From here on, contexts that this thread makes and computes with use it, if the model
// allows: one with attention sinks does not.
void attention_use(const llama_model & model, bool use);

// Tells which sequences the tokens of the next step belong to.
void attention_step(const llama_batch & batch);
