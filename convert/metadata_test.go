package convert

import (
	"encoding/json"
	"strings"
	"testing"
)

// What llama.cpp would compute otherwise than transformers is refused, or told.
func TestMetadata(t *testing.T) {
	gemma2 := object{
		"architectures": []string{"Gemma2ForCausalLM"}, "num_hidden_layers": 4, "head_dim": 16, "hidden_act": "gelu_pytorch_tanh", "sliding_window": 32,
		"attn_logit_softcapping": 50, "final_logit_softcapping": 30, "query_pre_attn_scalar": 16,
	}
	gemma3 := object{
		"architectures": []string{"Gemma3ForCausalLM"}, "num_hidden_layers": 7, "head_dim": 16, "hidden_act": nil, "hidden_activation": "gelu_pytorch_tanh",
		"sliding_window": 32, "rope_theta": 1e6, "rope_local_base_freq": 10000, "sliding_window_pattern": 6, "query_pre_attn_scalar": 16,
	}
	phi3 := object{"architectures": []string{"Phi3ForCausalLM"}, "hidden_act": "silu", "original_max_position_embeddings": 32}
	for name, c := range map[string]struct {
		architecture, changes object
		refusal, note         string
		key                   string
		value                 any
	}{
		"gemma2":                         {architecture: gemma2, key: "gemma2.attention.sliding_window", value: uint32(32)},
		"gemma2, softcap":                {architecture: gemma2, key: "gemma2.attn_logit_softcapping", value: float32(50)},
		"gemma2, no softcap":             {architecture: gemma2, changes: object{"attn_logit_softcapping": nil}, refusal: "attn_logit_softcapping"},
		"gemma2, other scalar":           {architecture: gemma2, changes: object{"query_pre_attn_scalar": 8}, refusal: "query_pre_attn_scalar is 8, llama.cpp takes 16"},
		"gemma2, scalar not given":       {architecture: gemma2, changes: object{"query_pre_attn_scalar": nil}, refusal: "query_pre_attn_scalar is 256, llama.cpp takes 16"},
		"gemma2, of 27B":                 {architecture: gemma2, changes: object{"num_hidden_layers": 46, "query_pre_attn_scalar": 8}, key: "gemma2.block_count", value: uint32(46)},
		"gemma2, other windows":          {architecture: gemma2, changes: object{"layer_types": []string{"full_attention"}}, refusal: "layer 0"},
		"gemma3":                         {architecture: gemma3, key: "gemma3.rope.freq_base", value: float32(1e6)},
		"gemma3, its default":            {architecture: gemma3, changes: object{"rope_theta": nil}, key: "gemma3.rope.freq_base", value: float32(1e6)},
		"gemma3, of transformers 5":      {architecture: gemma3, changes: object{"rope_theta": nil, "rope_parameters": object{"full_attention": object{"rope_theta": 5e5}, "sliding_attention": object{"rope_theta": 1e4}}}, key: "gemma3.rope.freq_base", value: float32(5e5)},
		"gemma3, other local theta":      {architecture: gemma3, changes: object{"rope_local_base_freq": 20000}, refusal: "20000"},
		"gemma3, other pattern":          {architecture: gemma3, changes: object{"sliding_window_pattern": 4}, refusal: "sliding_window_pattern is 4"},
		"gemma3, no window":              {architecture: gemma3, changes: object{"sliding_window": nil}, refusal: "sliding_window"},
		"gemma3, both ways":              {architecture: gemma3, changes: object{"use_bidirectional_attention": true}, refusal: "use_bidirectional_attention"},
		"gemma3, stretched":              {architecture: gemma3, changes: object{"rope_scaling": object{"rope_type": "linear", "factor": 8}}, key: "gemma3.rope.scaling.factor", value: float32(8)},
		"mistral, window":                {architecture: object{"architectures": []string{"MistralForCausalLM"}, "sliding_window": 32}, note: "beyond 32 tokens", key: "llama.context_length", value: uint32(64)},
		"mistral, window as the context": {architecture: object{"architectures": []string{"MistralForCausalLM"}, "sliding_window": 64}, key: "llama.rope.dimension_count", value: uint32(8)},
		"qwen2, window not used":         {architecture: object{"architectures": []string{"Qwen2ForCausalLM"}, "sliding_window": 32, "use_sliding_window": false}, key: "qwen2.rope.freq_base", value: float32(1e4)},
		"qwen3, its default":             {architecture: object{"architectures": []string{"Qwen3ForCausalLM"}}, key: "qwen3.attention.key_length", value: uint32(128)},
		"qwen3, yarn":                    {architecture: object{"architectures": []string{"Qwen3ForCausalLM"}, "rope_scaling": object{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}, key: "qwen3.rope.scaling.original_context_length", value: uint32(16)},
		"qwen3, yarn of its own":         {architecture: object{"architectures": []string{"Qwen3ForCausalLM"}, "rope_scaling": object{"rope_type": "yarn", "factor": 4.0, "beta_fast": 8}}, refusal: "beta_fast"},
		"qwen3, yarn of DeepSeek":        {architecture: object{"architectures": []string{"Qwen3ForCausalLM"}, "rope_scaling": object{"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 1.0}}, refusal: "mscale"},
		"qwen3, yarn not truncated":      {architecture: object{"architectures": []string{"Qwen3ForCausalLM"}, "rope_scaling": object{"rope_type": "yarn", "factor": 4.0, "truncate": false}}, refusal: "truncate"},
		"phi3, part of a head":           {architecture: phi3, changes: object{"partial_rotary_factor": 0.5}, key: "phi3.rope.dimension_count", value: uint32(4)},
		"llama, part of a head":          {changes: object{"partial_rotary_factor": 0.5}, refusal: "partial_rotary_factor"},
		"phi3, long":                     {architecture: phi3, changes: object{"rope_scaling": object{"type": "longrope", "long_factor": []int{1, 2, 3, 4}, "short_factor": []int{1, 1, 1, 1}}}, note: "over 32 tokens", key: "phi3.rope.scaling.attn_factor", value: float32(1.0954452)},
		"phi3, long, too few factors":    {architecture: phi3, changes: object{"rope_scaling": object{"type": "longrope", "long_factor": []int{1, 2, 3}, "short_factor": []int{1, 1, 1, 1}}}, refusal: "4 long and short factors"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tinyBase(t, "gpt2")
			set(t, dir, configFile, c.architecture)
			set(t, dir, configFile, c.changes)
			config, err := readConfig(dir)
			var m metadata
			var notes []string
			if err == nil {
				m, notes, err = architectures[config.Architectures[0]].metadata(config)
			}
			if c.refusal != "" {
				if err == nil || !strings.Contains(err.Error(), c.refusal) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := m[c.key]; got != c.value {
				t.Errorf("%s is %v, want %v", c.key, got, c.value)
			}
			if got := strings.Join(notes, "\n"); !strings.Contains(got, c.note) || c.note == "" && got != "" {
				t.Errorf("notes %q", got)
			}
		})
	}
}

func TestSpecialTokens(t *testing.T) {
	for name, c := range map[string]struct {
		settings, config object
		key              string
		want             any
	}{
		"bos of the settings":        {key: "tokenizer.ggml.bos_token_id", want: uint32(0)},
		"eos in an object":           {key: "tokenizer.ggml.eos_token_id", want: uint32(1)},
		"eos of config.json":         {settings: object{"eos_token": nil}, config: object{"eos_token_id": []int{3, 1}}, key: "tokenizer.ggml.eos_token_id", want: uint32(3)},
		"unknown name":               {settings: object{"pad_token": "<none>"}, key: "tokenizer.ggml.padding_token_id", want: nil},
		"bos by the template":        {key: "tokenizer.ggml.add_bos_token", want: true},
		"bos by the settings":        {settings: object{"add_bos_token": false}, key: "tokenizer.ggml.add_bos_token", want: false},
		"chat template":              {settings: object{"chat_template": "{{ messages }}"}, key: "tokenizer.chat_template", want: "{{ messages }}"},
		"chat template among others": {settings: object{"chat_template": []object{{"name": "rag", "template": "no"}, {"name": "default", "template": "yes"}}}, key: "tokenizer.chat_template", want: "yes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tinyBase(t, "llama3")
			set(t, dir, tokenizerConfigFile, c.settings)
			set(t, dir, configFile, c.config)
			config, err := readConfig(dir)
			if err != nil {
				t.Fatal(err)
			}
			v, err := readVocabulary(dir, config)
			if err != nil {
				t.Fatal(err)
			}
			m := metadata{}
			v.describe(m)
			if got := m[c.key]; got != c.want {
				t.Errorf("%s is %v, want %v", c.key, got, c.want)
			}
		})
	}
}

// llama.cpp goes by the base's name in whether white space behind added tokens is dropped.
func TestNames(t *testing.T) {
	for name, c := range map[string]struct {
		tokenizer, name string
		want            string
	}{
		"as wanted":                    {"gpt2", "parrot", "parrot"},
		"stripped":                     {"strip", "parrot", "Phi-3 parrot"},
		"stripped, named so":           {"strip", "my-PHI3-parrot", "my-PHI3-parrot"},
		"named so, but it is not":      {"gpt2", "Phi-3-parrot", "Phi 3-parrot"},
		"named so twice, but it isn't": {"llama3", "phi3 phi-3", "Phi 3 Phi 3"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := readVocabulary(tinyBase(t, c.tokenizer), &config{Vocabulary: 440})
			if err != nil {
				t.Fatal(err)
			}
			if got := v.name(c.name); got != c.want || len(v.notes) > 0 {
				t.Errorf("%q, want %q; notes %q", got, c.want, v.notes)
			}
		})
	}
	load(t, tinyBase(t, "gpt2"), Options{Name: "Phi-3-parrot"}) // by that name, llama.cpp would look for tokens that it lacks

	dir := tinyBase(t, "llama3")
	var content tokenizer
	if err := json.Unmarshal(dir[tokenizerFile].Data, &content); err != nil {
		t.Fatal(err)
	}
	content.Added[0].LStrip = true
	set(t, dir, tokenizerFile, object{"added_tokens": content.Added})
	v, err := readVocabulary(dir, &config{Vocabulary: 440})
	if err != nil {
		t.Fatal(err)
	}
	if got := v.name("parrot"); got != "parrot" || len(v.notes) != 1 || !strings.Contains(v.notes[0], content.Added[0].Content) {
		t.Errorf("%q, notes %q", got, v.notes)
	}
}

// Whatever config.json says, it is metadata or an error.
func FuzzConfig(f *testing.F) {
	data, err := json.Marshal(tinyConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"architectures": ["Phi3ForCausalLM"], "rope_scaling": {"type": "su", "long_factor": [1e38]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := tinyBase(t, "gpt2")
		dir[configFile].Data = data
		config, err := readConfig(dir)
		if err != nil {
			return
		}
		if _, _, err := architectures[config.Architectures[0]].metadata(config); err == nil {
			config.ropeTensors()
		}
	})
}
