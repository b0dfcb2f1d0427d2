package peft

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// The expected values are those of peft.utils.other.get_pattern_key.
func TestPatterns(t *testing.T) {
	const q0, q1, q10 = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "model.layers.10.self_attn.q_proj"
	tests := []struct {
		patterns string
		module   string
		want     float64 // 8 if none matches
	}{
		{`{}`, q0, 8},
		{`null`, q0, 8},
		{`{"q_proj": 2}`, q0, 2},
		{`{"k_proj": 2}`, q0, 8},
		{`{"proj": 2}`, q0, 8},
		{`{"q_pro": 2}`, q0, 8},
		{`{"self_attn.q_proj": 2}`, q0, 2},
		{`{"attn.q_proj": 2}`, q0, 8},
		{`{"model.layers.1.self_attn.q_proj": 2}`, q1, 2},
		{`{"model.layers.1.self_attn.q_proj": 2}`, q10, 8},
		{`{"q_proj": 2, "layers.0.self_attn.q_proj": 3}`, q0, 2},
		{`{"layers.0.self_attn.q_proj": 3, "q_proj": 2}`, q0, 3},
		{`{"layers.0.self_attn.q_proj": 3, "q_proj": 2}`, q1, 2},
		{`{"z": 1, "q_proj": 2, "a": 3, ".*": 4}`, q0, 2},
		{`{"(q|k)_proj": 2}`, q0, 2},
		{`{"k_proj|q_proj": 2}`, q0, 2},
		{`{"layers\\.[0-9]\\..*": 2}`, q1, 2},
		{`{"layers\\.[0-9]\\..*": 2}`, q10, 8},
		{`{"^model\\.layers\\.0\\.self_attn\\.q_proj": 2}`, q0, 2},
		{`{"^model\\.layers\\.1\\..*": 2}`, q1, 2},
		{`{"^model\\.layers\\.1\\..*": 2}`, q10, 8},
		{`{"^self_attn.q_proj": 2}`, q0, 8},
		{`{"^model.layers.1": 2}`, q1, 8},
		{`{"^model.layers.0|self_attn.q_proj": 2}`, q0, 2},
		{`{"^model.layers.1|self_attn.k_proj": 2}`, q1, 8},
		{`{"q_proj$": 2}`, q0, 2},
	}
	for _, tt := range tests {
		c, err := parseConfig(fmt.Appendf(nil, `{"peft_type": "LORA", "r": 8, "lora_alpha": 8, "rank_pattern": %s, "alpha_pattern": %[1]s}`, tt.patterns))
		if err != nil {
			t.Errorf("%s: %v", tt.patterns, err)
			continue
		}
		if rank, alpha := c.rankAndAlpha(tt.module); rank != int(tt.want) || alpha != tt.want {
			t.Errorf("%s: %s has rank %d and alpha %v, want %v", tt.patterns, tt.module, rank, alpha, tt.want)
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	c, err := parseConfig([]byte(`{"peft_type": "LORA", "init_lora_weights": "gaussian", "loftq_config": {}, "modules_to_save": null, "unknown": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	if rank, alpha := c.rankAndAlpha("x"); rank != 8 || alpha != 8 || c.UseRSLoRA {
		t.Errorf("rank %d, alpha %v", rank, alpha)
	}
}

// What concerns training only, or which modules were trained, changes nothing: peft
// computes the same with these options as without.
func TestOptionsOfTraining(t *testing.T) {
	weights := pair(q)
	want := read(t, folder(t, plain, weights...))
	for _, options := range []string{
		`"fan_in_fan_out": true`, `"lora_dropout": 0.5`, `"inference_mode": false`, `"task_type": "CAUSAL_LM"`, `"megatron_config": {}`, `"ensure_weight_tying": true`,
		`"target_modules": ["k_proj"]`, `"target_modules": ".*q_proj"`, `"target_modules": "all-linear"`, `"target_modules": null`, `"exclude_modules": ["q_proj"]`,
		`"layers_to_transform": 1`, `"layers_to_transform": [1, 2], "layers_pattern": "layers"`, `"layers_pattern": ["h"]`,
		`"init_lora_weights": true`, `"init_lora_weights": false`, `"init_lora_weights": "gaussian"`, `"init_lora_weights": "eva", "eva_config": {"rho": 2}`,
		`"init_lora_weights": "orthogonal"`, `"init_lora_weights": "mica"`, `"init_lora_weights": "lora_ga", "lora_ga_config": {"scale": "stable"}`,
		`"velora_config": {"num_groups": 4}`, `"monteclora_config": {"num_samples": 4}`, `"use_qalora": false, "qalora_group_size": 16`, `"modules_to_save": []`,
	} {
		got := read(t, folder(t, strings.TrimSuffix(plain, "}")+", "+options+"}", weights...))
		if !reflect.DeepEqual(got.Pairs, want.Pairs) {
			t.Errorf("%s: %+v, want %+v", options, got.Pairs, want.Pairs)
		}
	}
}

func TestRank(t *testing.T) {
	for config, want := range map[string]float64{
		`{"peft_type": "LORA"}`:          8,
		`{"peft_type": "LORA", "r": 12}`: 12,
		`{"peft_type": "LORA", "r": 12, "rank_pattern": {"q_proj": 64, "k_proj": 4}}`: 64,
		`{"peft_type": "LORA", "r": 12, "rank_pattern": {"k_proj": 4}}`:               12,
	} {
		if got, err := Rank(folder(t, config)); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", config, got, err, want)
		}
	}
	for config, want := range map[string]string{
		`{"peft_type": "LOHA"}`:              `adapter_config.json: peft_type "LOHA" is not served (LORA is)`,
		strings.Repeat(" ", maxConfigSize+1): "1048577 bytes are over the limit of 1048576",
	} {
		if _, err := Rank(folder(t, config)); err == nil || err.Error() != want {
			t.Errorf("%.40s: %v, want %s", config, err, want)
		}
	}
}

func TestConfigRefusals(t *testing.T) {
	tests := []struct{ options, want string }{
		{`"r": 0`, "r is 0"},
		{`"r": -4`, "r is -4"},
		{`"r": 4.5`, "not the JSON expected"},
		{`"r": "4"`, "not the JSON expected"},
		{`"r": 1e300`, "not the JSON expected"},
		{`"lora_alpha": "16"`, "not the JSON expected"},
		{`"lora_alpha": 1e999`, "not the JSON expected"},
		{`"use_rslora": 1`, "not the JSON expected"},
		{`"peft_type": "LOHA"`, `peft_type "LOHA" is not served`},
		{`"peft_type": "LOKR"`, `peft_type "LOKR" is not served`},
		{`"peft_type": ""`, `peft_type "" is not served`},
		{`"bias": "all"`, `bias "all" is not served`},
		{`"bias": "lora_only"`, `bias "lora_only" is not served`},
		{`"bias": 1`, "not the JSON expected"},
		{`"use_dora": true`, "use_dora: DoRA"},
		{`"use_qalora": true`, "use_qalora: QALoRA"},
		{`"use_bdlora": {"nblocks": 2}`, "use_bdlora: block-diagonal"},
		{`"lora_bias": true`, "lora_bias: biases"},
		{`"modules_to_save": ["lm_head"]`, "modules_to_save: modules_to_save"},
		{`"layer_replication": [[0, 4], [2, 5]]`, "layer_replication: layer_replication"},
		{`"trainable_token_indices": [1]`, "trainable_token_indices: trainable_token_indices"},
		{`"target_parameters": ["x"]`, "target_parameters: target_parameters"},
		{`"alora_invocation_tokens": "x"`, "not the JSON expected"},
		{`"alora_invocation_tokens": [1.5]`, "not the JSON expected"},
		{`"alora_invocation_tokens": [1e99]`, "not the JSON expected"},
		{`"arrow_config": {"top_k": 3}`, "arrow_config: Arrow"},
		{`"kasa_config": {"beta": 0.1}`, "kasa_config: KaSA"},
		{`"kasa_config": {}`, "kasa_config: KaSA"},
		{`"use_bdlora": {}`, "use_bdlora: block-diagonal"},
		{`"arrow_config": {}`, "arrow_config: Arrow"},
		{`"init_lora_weights": "pissa"`, `init_lora_weights "pissa" is not served`},
		{`"init_lora_weights": "pissa_niter_16"`, `init_lora_weights "pissa_niter_16" is not served`},
		{`"init_lora_weights": "OLoRA"`, `init_lora_weights "OLoRA" is not served`},
		{`"init_lora_weights": "corda"`, `init_lora_weights "corda" is not served`},
		{`"init_lora_weights": "loftq"`, `init_lora_weights "loftq" is not served`},
		{`"rank_pattern": [1]`, "a pattern map is not an object"},
		{`"rank_pattern": 1`, "a pattern map is not an object"},
		{`"rank_pattern": {"(": 4}`, `pattern "(": error parsing regexp`},
		{`"rank_pattern": {"a)": 4}`, `pattern "a)": error parsing regexp`},
		{`"rank_pattern": {"(?!q_proj).*": 4}`, `pattern "(?!q_proj).*": error parsing regexp`},
		{`"alpha_pattern": {"x": "4"}`, `pattern "x"`},
	}
	for _, tt := range tests {
		if _, err := parseConfig([]byte(`{"peft_type": "LORA", "r": 4, ` + tt.options + `}`)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.options, err, tt.want)
		}
	}
	for _, text := range []string{"", "{", "[]", `"LORA"`, "1", "{} {}", "\xff", strings.Repeat("[", 1<<20)} {
		if _, err := parseConfig([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), "not the JSON expected: ") {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	if _, err := parseConfig([]byte("null")); err == nil {
		t.Error("null is accepted")
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"peft_type": "LORA", "r": 4, "lora_alpha": 8.5, "rank_pattern": {"q_proj": 2, "^model.*": 3e9}}`), "model.layers.0.self_attn.q_proj")
	f.Add([]byte(`{"peft_type": "LORA", "alpha_pattern": {"(a|b)*\\d{2,5}": null}, "modules_to_save": [], "bias": null}`), "lm_head")
	f.Add([]byte(`{"peft_type": "LORA", "rank_pattern": {"a": {"b": [1]}}, "rank_pattern": null}`), "a")
	f.Add([]byte(`{"PEFT_TYPE": "LORA", "R": -1, "init_lora_weights": ["pissa"]}`), "")
	f.Fuzz(func(t *testing.T, data []byte, module string) {
		c, err := parseConfig(data)
		if err != nil {
			return
		}
		if c.R < 1 || c.Type != "LORA" {
			t.Errorf("accepted %+v", c)
		}
		c.rankAndAlpha(module)
	})
}
