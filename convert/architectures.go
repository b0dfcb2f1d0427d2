package convert

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"lorikeet/adapters/lora"
	"lorikeet/adapters/safetensors"
)

// architecture is what llama.cpp has for one of transformers'.
type architecture struct {
	name       string            // general.architecture
	layer      map[string]string // modules within a layer, by their names in transformers
	biases     []string          // of them, those that may have one
	activation string
	rotary     bool // the rows of q and k are interleaved
	gemma      bool // norms lack the 1 that is added, and the embeddings are the output
	softcap    bool // of attention and output
	window     int  // all layers but every so manieth have a sliding window; 0: none has

	// What transformers takes if config.json does not say.
	headDim int // 0: the embedding's length, divided among the heads
	theta   float64
	epsilon float32
}

var (
	common = map[string]string{
		"input_layernorm": "attn_norm", "self_attn.o_proj": "attn_output", "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm",
	}
	separate = with(common, map[string]string{
		"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
	})
	fused     = with(common, map[string]string{"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"})
	headNorms = map[string]string{"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
	sandwich  = map[string]string{
		"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
	}
	qkv = []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}

	llama = &architecture{
		name: "llama", layer: separate, biases: append(slices.Clone(qkv), "self_attn.o_proj"), activation: "silu", rotary: true, theta: 1e4, epsilon: 1e-6,
	}
)

const tanhGELU = "gelu_pytorch_tanh"

// architectures are those that are converted, by their names in transformers.
var architectures = map[string]*architecture{
	"LlamaForCausalLM":   llama,
	"MistralForCausalLM": llama,
	"Qwen2ForCausalLM":   {name: "qwen2", layer: separate, biases: qkv, activation: "silu", theta: 1e4, epsilon: 1e-6},
	"Qwen3ForCausalLM":   {name: "qwen3", layer: with(separate, headNorms), activation: "silu", headDim: 128, theta: 1e4, epsilon: 1e-6},
	"GemmaForCausalLM":   {name: "gemma", layer: separate, activation: tanhGELU, gemma: true, headDim: 256, theta: 1e4, epsilon: 1e-6},
	"Gemma2ForCausalLM": {
		name: "gemma2", layer: with(separate, sandwich), activation: tanhGELU, gemma: true, softcap: true, window: 2, headDim: 256, theta: 1e4, epsilon: 1e-6,
	},
	"Gemma3ForCausalLM": {
		name: "gemma3", layer: with(separate, sandwich, headNorms), activation: tanhGELU, gemma: true, window: 6, headDim: 256, theta: 1e6, epsilon: 1e-6,
	},
	"Phi3ForCausalLM": {name: "phi3", layer: fused, activation: "silu", theta: 1e4, epsilon: 1e-5},
}

func with(tables ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, t := range tables {
		maps.Copy(all, t)
	}
	return all
}

var layerTensor = regexp.MustCompile(`^layers\.(0|[1-9][0-9]{0,3})\.(.+)\.(weight|bias)$`)

// tensorName is llama.cpp's name of a tensor; "" for one that it does not want.
func (a *architecture) tensorName(name string, c *config) (string, error) {
	name = strings.TrimPrefix(name, "model.")
	switch name {
	case "embed_tokens.weight":
		return embeddings, nil
	case "norm.weight":
		return "output_norm.weight", nil
	case "lm_head.weight":
		switch tied := c.Tied; {
		case tied != nil && *tied, tied == nil && a.gemma:
			return "", nil // a copy of the embeddings
		case a.gemma:
			return "", fmt.Errorf("llama.cpp has no output of its own for %s, it takes the embeddings", a.name)
		}
		return "output.weight", nil
	}
	m := layerTensor.FindStringSubmatch(name)
	if m == nil {
		return "", fmt.Errorf("is not known for %s", a.name)
	}
	module, known := a.layer[m[2]]
	if !known || m[3] == "bias" && !slices.Contains(a.biases, m[2]) {
		return "", fmt.Errorf("is not known for %s", a.name)
	}
	return "blk." + m[1] + "." + module + "." + m[3], nil
}

// heads is the number of heads whose rows are interleaved, 0 for other tensors.
func (a *architecture) heads(name string, c *config) int {
	switch {
	case a.rotary && strings.Contains(name, ".attn_q."):
		return c.Heads
	case a.rotary && strings.Contains(name, ".attn_k."):
		return c.KVHeads
	}
	return 0
}

// sources names all tensors of the base. Matrices get a type, if one is given.
func (a *architecture) sources(c *config, shards []*shard, typ *lora.DataType) (sources, error) {
	var all sources
	seen := map[string]bool{}
	for _, s := range shards {
		for _, t := range s.tensors {
			if strings.HasSuffix(t.Name, ".rotary_emb.inv_freq") {
				continue // computed
			}
			name, err := a.tensorName(t.Name, c)
			if err == nil && name == "" {
				continue
			}
			if err == nil && seen[name] {
				err = errors.New("occurs twice")
			}
			var src *source
			if err == nil {
				src, err = a.source(c, name, t, typ)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: tensor %.200q: %w", s.name, t.Name, err)
			}
			seen[name] = true
			all = append(all, src)
		}
	}
	if err := a.missing(c, seen); err != nil {
		return nil, err
	}
	return append(all, c.ropeTensors()...), nil
}

// shape is what the figures of the config make of a tensor, rows first. llama.cpp loads no
// other.
func (a *architecture) shape(name string, c *config) []int {
	parts := strings.Split(name, ".")
	module, kind := parts[len(parts)-2], parts[len(parts)-1]
	q, kv, up := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim, c.FeedForward
	if a.layer["mlp.gate_up_proj"] != "" {
		up *= 2
	}
	var shape []int
	switch module {
	case "token_embd", "output":
		shape = []int{c.Vocabulary, c.Hidden}
	case "attn_q":
		shape = []int{q, c.Hidden}
	case "attn_k", "attn_v":
		shape = []int{kv, c.Hidden}
	case "attn_qkv":
		shape = []int{q + 2*kv, c.Hidden}
	case "attn_output":
		shape = []int{c.Hidden, q}
	case "ffn_gate", "ffn_up":
		shape = []int{up, c.Hidden}
	case "ffn_down":
		shape = []int{c.Hidden, c.FeedForward}
	case "attn_q_norm", "attn_k_norm":
		shape = []int{c.HeadDim}
	default: // norms
		shape = []int{c.Hidden}
	}
	if kind == "bias" {
		shape = shape[:1]
	}
	return shape
}

func (a *architecture) source(c *config, name string, t safetensors.Tensor, typ *lora.DataType) (*source, error) {
	stored, ok := dataTypes[t.Type]
	if !ok {
		return nil, fmt.Errorf("type %s is not converted (F32, F16 and BF16 are)", t.Type)
	}
	if want := a.shape(name, c); !slices.Equal(t.Shape, want) {
		return nil, fmt.Errorf("shape %v, but by %s it is %v", t.Shape, configFile, want)
	}
	m := lora.Matrix{Name: t.Name, Rows: t.Shape[0], Cols: len(t.Data) / stored.Size() / t.Shape[0], Type: stored, Data: t.Data, Heads: a.heads(name, c)}
	src := &source{name: name, shape: t.Shape, matrix: m, typ: stored, addOne: a.gemma && isNorm(name)}
	switch {
	case len(t.Shape) == 1:
		src.typ = lora.F32
	case typ != nil:
		src.typ = *typ
	}
	return src, nil
}

// missing names a tensor that is not there.
func (a *architecture) missing(c *config, seen map[string]bool) error {
	want := []string{embeddings, "output_norm.weight"}
	for layer := range c.Layers {
		for _, module := range slices.Sorted(maps.Values(a.layer)) {
			want = append(want, fmt.Sprintf("blk.%d.%s.weight", layer, module))
		}
	}
	if !a.gemma && c.Tied != nil && !*c.Tied {
		want = append(want, "output.weight")
	}
	for _, name := range want {
		if !seen[name] {
			return fmt.Errorf("no tensor for %s: the *.safetensors files are not all of the base", name)
		}
		delete(seen, name)
	}
	for name := range seen {
		if layer := 0; strings.HasPrefix(name, "blk.") {
			if _, err := fmt.Sscanf(name, "blk.%d.", &layer); err != nil || layer >= c.Layers {
				return fmt.Errorf("a tensor for %s, but num_hidden_layers is %d", name, c.Layers)
			}
		}
	}
	return nil
}
