package peft

import (
	"slices"
	"testing"

	"lorikeet/backend"
)

// Every architecture's modules, in all the ways in which transformers calls them, are
// weights as llama.cpp calls them. The names are those of llama.cpp's conversion tables.
func TestNaming(t *testing.T) {
	split := map[string]string{
		"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
		"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
	}
	fused := map[string]string{"self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
	for architecture, modules := range map[string]map[string]string{
		"llama": split, "qwen2": split, "qwen3": split, "gemma": split, "gemma2": split, "gemma3": split, "phi3": fused,
	} {
		for module, want := range modules {
			for _, prefix := range []string{"", "model.", "language_model.model.", "model.language_model.", "language_model."} {
				got, err := architectures[architecture].weight(prefix + "layers.11." + module)
				if err != nil || got != "blk.11."+want+".weight" {
					t.Errorf("%s: %s%s is %q, %v", architecture, prefix, module, got, err)
				}
			}
		}
		for _, head := range []string{"lm_head", "language_model.lm_head"} {
			if got, err := architectures[architecture].weight(head); err != nil || got != "output.weight" {
				t.Errorf("%s: %s is %q, %v", architecture, head, got, err)
			}
		}
		for _, module := range []string{
			"model.embed_tokens", "model.norm", "model.layers.0.input_layernorm", "model.layers.0.self_attn.q_norm", "model.layers.x.mlp.down_proj",
			"model.layers.0.mlp.experts.3.down_proj", "model.layers.00.mlp.down_proj", "model.layers.10000.mlp.down_proj", "vision_tower.layers.0.mlp.down_proj",
			"model.model.layers.0.mlp.down_proj", "model.0.mlp.down_proj", "layers.0.mlp", "", "model.", "score",
		} {
			if got, err := architectures[architecture].weight(module); err == nil {
				t.Errorf("%s: %q is taken for %s", architecture, module, got)
			}
		}
	}
	if len(architectures) != 7 {
		t.Errorf("%d architectures are served, 7 are tested", len(architectures))
	}
}

// Only llama's q and k are stored in another order of rows.
func TestHeads(t *testing.T) {
	for architecture, names := range architectures {
		base := &backend.ModelInfo{Architecture: architecture, Heads: 8, KVHeads: 2}
		got := []int{names.heads("blk.0.attn_q.weight", base), names.heads("blk.0.attn_k.weight", base), names.heads("blk.0.attn_v.weight", base)}
		want := []int{0, 0, 0}
		if architecture == "llama" {
			want = []int{8, 2, 0}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", architecture, got, want)
		}
	}
}
