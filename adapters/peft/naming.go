package peft

import (
	"fmt"
	"strings"

	"lorikeet/backend"
)

// naming says how the modules of an architecture are called in GGUF.
type naming struct {
	modules map[string]string // within a layer
	rotary  bool              // llama.cpp wants the rows of q and k interleaved
}

var (
	attention = map[string]string{
		"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
	}
	feedForward = map[string]string{"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}

	// What phi3 keeps in one matrix, its GGUF keeps in one too, in the same order.
	phi3 = map[string]string{
		"self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
	}
)

// architectures are those whose adapters are served, by their names in GGUF. Mistral's
// is "llama".
var architectures = map[string]naming{
	"llama":  {modules: join(attention, feedForward), rotary: true},
	"qwen2":  {modules: join(attention, feedForward)},
	"qwen3":  {modules: join(attention, feedForward)},
	"gemma":  {modules: join(attention, feedForward)},
	"gemma2": {modules: join(attention, feedForward)},
	"gemma3": {modules: join(attention, feedForward)},
	"phi3":   {modules: phi3},
}

func join(maps ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range maps {
		for module, weight := range m {
			all[module] = weight
		}
	}
	return all
}

// textModel is what stands before the layers, or lm_head: some models have parts for
// other things than text.
var textModel = []string{"model.language_model.", "language_model.model.", "language_model.", "model."}

// weight translates a module's path, such as "model.layers.0.self_attn.q_proj".
func (n naming) weight(module string) (weight string, err error) {
	path := module
	for _, prefix := range textModel {
		if after, ok := strings.CutPrefix(module, prefix); ok {
			path = after
			break
		}
	}
	if path == "lm_head" {
		return "output.weight", nil
	}
	after, inLayer := strings.CutPrefix(path, "layers.")
	layer, rest, _ := strings.Cut(after, ".")
	name, known := n.modules[rest]
	if !inLayer || !known || !isLayer(layer) {
		return "", fmt.Errorf("module %q can't be adapted", module)
	}
	return "blk." + layer + "." + name + ".weight", nil
}

// isLayer tells whether s is a number below 10000, as Python writes it.
func isLayer(s string) bool {
	if s == "" || len(s) > 4 || s[0] == '0' && s != "0" {
		return false
	}
	return strings.Trim(s, "0123456789") == ""
}

// tensorName takes apart the name of a matrix: its module, and 'A' or 'B'.
func tensorName(name string) (module string, which byte, ok bool) {
	name = strings.TrimPrefix(name, "base_model.model.")
	name, weight := strings.CutSuffix(name, ".weight")
	name = strings.TrimSuffix(name, ".default")
	module, a := strings.CutSuffix(name, ".lora_A")
	if a {
		return module, 'A', weight && module != ""
	}
	module, b := strings.CutSuffix(name, ".lora_B")
	return module, 'B', weight && b && module != ""
}

// heads is the number of heads whose rows llama.cpp wants interleaved, 0 for weights
// that are taken as they are.
func (n naming) heads(weight string, base *backend.ModelInfo) int {
	switch {
	case n.rotary && strings.HasSuffix(weight, ".attn_q.weight"):
		return base.Heads
	case n.rotary && strings.HasSuffix(weight, ".attn_k.weight"):
		return base.KVHeads
	}
	return 0
}

// whyNot explains a tensor that is no matrix of a LoRA.
func whyNot(name string) string {
	switch {
	case strings.Contains(name, "lora_magnitude_vector"):
		return "DoRA is not served"
	case strings.Contains(name, "lora_embedding_"):
		return "adapters of embeddings are not served"
	case strings.Contains(name, "base_layer"):
		return "a copy of the base's weight; save with save_embedding_layers=False"
	case strings.Contains(name, "modules_to_save"):
		return "modules_to_save are not served"
	case strings.HasSuffix(name, ".bias"):
		return "biases are not served"
	case strings.Contains(name, "hada_"), strings.Contains(name, "lokr_"):
		return "LoHa and LoKr are not served"
	}
	return "not a tensor of a LoRA"
}
