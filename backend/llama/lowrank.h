// The second product of adapters in a mixed step, on the CPU.
#pragma once

#include "ggml.h"

// b [rank, n_out, n_slots] of F16 or F32 times ax [rank, 1, n] of F32, row i with the
// slice that ids [1, n] names, as [n_out, n]. ggml_mul_mat_id gives the same, but its
// dot products are made for long rows: with the few elements that a rank has, they
// take most of the time that adapters cost.
ggml_tensor * lowrank_mul_mat_id(ggml_context * ctx, ggml_tensor * b, ggml_tensor * ax, ggml_tensor * ids);
