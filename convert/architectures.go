package convert

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	ollama "github.com/ollama/ollama/convert"
	"github.com/ollama/ollama/fs/ggml"

	"lorikeet/adapters/safetensors"
)

// architecture is what llama.cpp has for one of transformers'.
type architecture struct {
	name       string            // general.architecture
	layer      map[string]string // modules within a layer, by their names in transformers
	biases     []string          // modules of layer that have one
	activation string
	rotary     bool // the rows of q and k are interleaved
	addOne     bool // to all norms
	window     int  // every so manieth layer has no sliding window; 0: none has one
	tied       bool // there is no lm_head
}

var (
	common = map[string]string{
		"input_layernorm": "attn_norm", "self_attn.o_proj": "attn_output", "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm",
	}
	split = with(common, map[string]string{
		"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
	})
	fused     = with(common, map[string]string{"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"})
	headNorms = map[string]string{"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
	sandwich  = map[string]string{
		"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
	}

	llama  = architecture{name: "llama", layer: split, activation: "silu", rotary: true}
	gemma3 = architecture{name: "gemma3", layer: with(split, sandwich, headNorms), activation: "gelu_pytorch_tanh", addOne: true, window: 6, tied: true}
)

// architectures are those that are converted, by their names in transformers.
var architectures = map[string]*architecture{
	"LlamaForCausalLM":   &llama,
	"MistralForCausalLM": &llama,
	"Qwen2ForCausalLM":   {name: "qwen2", layer: split, activation: "silu", biases: []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
	"Qwen3ForCausalLM":   {name: "qwen3", layer: with(split, headNorms), activation: "silu"},
	"GemmaForCausalLM":   {name: "gemma", layer: split, activation: "gelu_pytorch_tanh", addOne: true, tied: true},
	"Gemma2ForCausalLM":  {name: "gemma2", layer: with(split, sandwich), activation: "gelu_pytorch_tanh", addOne: true, window: 2, tied: true},
	"Gemma3ForCausalLM":  &gemma3,
	"Phi3ForCausalLM":    {name: "phi3", layer: fused, activation: "silu"},

	"Gemma3ForConditionalGeneration": &gemma3, // its text
}

func with(tables ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, t := range tables {
		maps.Copy(all, t)
	}
	return all
}

// metadata is what config.json says, in llama.cpp's words. What llama.cpp would take
// otherwise is an error; what it passes over, a note.
func (a *architecture) metadata(c *config) (ollama.KV, []string, error) {
	kv := ollama.KV{
		"block_count": uint32(c.Layers), "context_length": uint32(c.Context), "embedding_length": uint32(c.Hidden),
		"feed_forward_length": uint32(c.FeedForward), "vocab_size": uint32(c.VocabSize),
		"attention.head_count": uint32(c.Heads), "attention.head_count_kv": uint32(c.KVHeads),
		"attention.key_length": uint32(c.HeadDim), "attention.value_length": uint32(c.HeadDim),
		"attention.layer_norm_rms_epsilon": c.NormEpsilon,
		"rope.freq_base":                   float32(c.rope.Theta),
		"rope.dimension_count":             uint32(math.Round(float64(c.HeadDim) * c.rope.Partial)),
	}
	var notes []string
	if act := orElse(c.Activation2, c.Activation); act != a.activation && act != "" && !(act == "gelu" && a.addOne) { // as gemma's first configs say
		return nil, nil, fmt.Errorf("hidden_act %.40q is not what llama.cpp computes for %s (%s)", act, a.name, a.activation)
	}
	if a.addOne && c.QueryScalar != 0 && c.QueryScalar != float64(c.HeadDim) && c.Layers != 46 && c.Layers != 62 { // those are of 27B, which has another rule
		return nil, nil, fmt.Errorf("query_pre_attn_scalar is %v, llama.cpp takes head_dim, which is %d", c.QueryScalar, c.HeadDim)
	}
	if err := a.windows(c); err != nil {
		return nil, nil, err
	}
	switch {
	case a.window > 0:
		kv["attention.sliding_window"] = uint32(c.SlidingWindow)
	case c.windowed() && c.SlidingWindow < c.Context:
		notes = append(notes, fmt.Sprintf("llama.cpp computes no sliding window for this architecture: beyond %d tokens answers differ from the original's", c.SlidingWindow))
	}
	if c.AttnSoftcap != 0 {
		kv["attn_logit_softcapping"] = c.AttnSoftcap
	}
	if c.FinalSoftcap != 0 {
		kv["final_logit_softcapping"] = c.FinalSoftcap
	}
	if err := a.scaling(c, kv); err != nil {
		return nil, nil, err
	}
	return kv, notes, nil
}

func orElse(s, t string) string {
	if s != "" {
		return s
	}
	return t
}

// windowed tells whether some layers look back over a sliding window only.
func (c *config) windowed() bool {
	if len(c.LayerTypes) > 0 {
		return slices.Contains(c.LayerTypes, "sliding_attention")
	}
	return c.SlidingWindow > 0 && (c.UseSlidingWindow == nil || *c.UseSlidingWindow)
}

// windows checks that the layers have sliding windows where llama.cpp has them.
func (a *architecture) windows(c *config) error {
	if a.window == 0 {
		if a.name == "qwen2" || a.name == "qwen3" {
			if c.windowed() && c.SlidingWindow < c.Context {
				return errors.New("llama.cpp computes no sliding window for this architecture")
			}
		}
		return nil
	}
	if c.SlidingWindow < 1 {
		return errors.New("sliding_window is missing")
	}
	if a.name == "gemma3" && c.localRope.Theta != 10000 {
		return fmt.Errorf("rope_local_base_freq is %v, llama.cpp takes 10000", c.localRope.Theta)
	}
	if c.WindowPattern != 0 && c.WindowPattern != a.window {
		return fmt.Errorf("sliding_window_pattern is %d, llama.cpp takes %d", c.WindowPattern, a.window)
	}
	for i, t := range c.LayerTypes {
		if sliding := (i+1)%a.window != 0; sliding != (t == "sliding_attention") {
			return fmt.Errorf("layer_types: layer %d is %.40q, llama.cpp has a window in all but every %dth layer", i, t, a.window)
		}
	}
	return nil
}

// scaling adds what stretches the positions beyond those of the training.
func (a *architecture) scaling(c *config, kv ollama.KV) error {
	r := &c.rope
	switch r.Type {
	case "default":
	case "linear":
		kv["rope.scaling.type"], kv["rope.scaling.factor"] = "linear", float32(r.Factor)
	case "yarn":
		kv["rope.scaling.type"], kv["rope.scaling.factor"] = "yarn", float32(r.Factor)
		kv["rope.scaling.original_context_length"] = uint32(r.Original)
		if r.Attn != 0 || r.BetaFast != 0 && r.BetaFast != 32 || r.BetaSlow != 0 && r.BetaSlow != 1 {
			return errors.New("rope: yarn with an attention_factor, beta_fast or beta_slow of its own is not converted")
		}
	case "llama3": // a tensor, see factors
		if a.name != "llama" {
			return fmt.Errorf("rope_type llama3 is not converted for %s", a.name)
		}
	case "longrope", "su":
		if a.name != "phi3" || r.Original < 1 {
			return fmt.Errorf("rope_type %s is not converted for %s without original_max_position_embeddings", r.Type, a.name)
		}
		kv["rope.scaling.original_context_length"] = uint32(r.Original)
		scale := float64(c.Context) / float64(r.Original)
		if attn := r.Attn; attn != 0 {
			kv["rope.scaling.attn_factor"] = float32(attn)
		} else if scale > 1 {
			kv["rope.scaling.attn_factor"] = float32(math.Sqrt(1 + math.Log(scale)/math.Log(float64(r.Original))))
		} else {
			kv["rope.scaling.attn_factor"] = float32(1)
		}
	default:
		return fmt.Errorf("rope_type %.40q is not converted", r.Type)
	}
	return nil
}

// ropeTensors are the divisors of rope's frequencies, where the config has some.
func (c *config) ropeTensors() map[string]factors {
	r := &c.rope
	switch r.Type {
	case "longrope", "su":
		return map[string]factors{"rope_factors_long.weight": r.Long, "rope_factors_short.weight": r.Short}
	case "llama3": // as transformers' modeling_rope_utils computes them
		low, high := float64(r.Original)/r.Low, float64(r.Original)/r.High
		var f factors
		for i := 0; i < c.HeadDim; i += 2 {
			switch wave := 2 * math.Pi * math.Pow(r.Theta, float64(i)/float64(c.HeadDim)); {
			case wave < high:
				f = append(f, 1)
			case wave > low:
				f = append(f, float32(r.Factor))
			default:
				smooth := (float64(r.Original)/wave - r.Low) / (r.High - r.Low)
				f = append(f, float32(1/((1-smooth)/r.Factor+smooth)))
			}
		}
		return map[string]factors{"rope_freqs.weight": f}
	}
	return nil
}

var (
	layerTensor = regexp.MustCompile(`^layers\.(0|[1-9][0-9]{0,3})\.(.+)\.(weight|bias)$`)
	// otherParts are of models that have more than text; they are left out.
	otherParts = regexp.MustCompile(`^(?:model\.)?(?:vision_tower|multi_modal_projector)\.`)
	textPart   = regexp.MustCompile(`^(?:model\.language_model\.|language_model\.model\.|language_model\.|model\.)`)
)

// tensors names all tensors of the base, in their types.
func (a *architecture) tensors(c *config, shards []shard, matrices string) ([]*ggml.Tensor, error) {
	kind, given := kinds[matrices]
	if matrices != "" && !given {
		return nil, fmt.Errorf("type %.20q is none of f32, f16, bf16", matrices)
	}
	var out []*ggml.Tensor
	seen := map[string]bool{}
	for _, s := range shards {
		for _, t := range s.tensors {
			if otherParts.MatchString(t.Name) || strings.HasSuffix(t.Name, ".rotary_emb.inv_freq") {
				continue
			}
			name, err := a.tensorName(t.Name, c)
			if err == nil && seen[name] {
				err = errors.New("occurs twice")
			}
			stored, ok := kinds[t.Type]
			if err == nil && !ok {
				err = fmt.Errorf("type %s is not converted (F32, F16 and BF16 are)", t.Type)
			}
			if err == nil && (len(t.Shape) < 1 || len(t.Shape) > 2 || len(t.Data) == 0) {
				err = fmt.Errorf("shape %v", t.Shape)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: tensor %.200q: %w", s.Name, t.Name, err)
			}
			seen[name] = true
			if name == "" {
				continue // tied
			}
			src := &source{Tensor: t, kind: kindF32, addOne: a.addOne && strings.HasSuffix(name, "norm.weight"), heads: a.heads(name, c)}
			if len(t.Shape) > 1 {
				if src.kind = stored; given {
					src.kind = kind
				}
			}
			if src.heads != 0 && t.Shape[0]%(2*src.heads) != 0 {
				return nil, fmt.Errorf("%s: tensor %.200q: %d rows can't be the halves of %d heads", s.Name, t.Name, t.Shape[0], src.heads)
			}
			out = append(out, ggmlTensor(name, t, src))
		}
	}
	if err := a.missing(c, seen); err != nil {
		return nil, err
	}
	for name, f := range c.ropeTensors() {
		out = append(out, &ggml.Tensor{Name: name, Kind: kindF32, Shape: []uint64{uint64(len(f))}, WriterTo: f})
	}
	return out, nil
}

func ggmlTensor(name string, t safetensors.Tensor, src *source) *ggml.Tensor {
	shape := make([]uint64, len(t.Shape))
	for i, d := range t.Shape { // ggml's fastest dimension is the first
		shape[len(shape)-1-i] = uint64(d)
	}
	return &ggml.Tensor{Name: name, Kind: src.kind, Shape: shape, WriterTo: src}
}

// tensorName is llama.cpp's name of a tensor; "" for one that llama.cpp does not want.
func (a *architecture) tensorName(name string, c *config) (string, error) {
	name = textPart.ReplaceAllString(name, "")
	switch name {
	case "embed_tokens.weight":
		return "token_embd.weight", nil
	case "norm.weight":
		return "output_norm.weight", nil
	case "lm_head.weight":
		if a.tied {
			return "", errors.New("llama.cpp takes the embeddings instead of an lm_head here")
		}
		return "output.weight", nil
	}
	m := layerTensor.FindStringSubmatch(name)
	if m == nil {
		return "", errors.New("is not known for this architecture")
	}
	module, known := a.layer[m[2]]
	if !known || m[3] == "bias" && !slices.Contains(a.biases, m[2]) {
		return "", errors.New("is not known for this architecture")
	}
	return "blk." + m[1] + "." + module + "." + m[3], nil
}

// heads is the number of heads whose rows are interleaved, 0 for other tensors.
func (a *architecture) heads(name string, c *config) int {
	switch {
	case a.rotary && strings.HasSuffix(name, ".attn_q.weight"):
		return c.Heads
	case a.rotary && strings.HasSuffix(name, ".attn_k.weight"):
		return c.KVHeads
	}
	return 0
}

// missing names a tensor that is not there.
func (a *architecture) missing(c *config, seen map[string]bool) error {
	want := []string{"token_embd.weight", "output_norm.weight"}
	for layer := range c.Layers {
		for hf, module := range a.layer {
			want = append(want, fmt.Sprintf("blk.%d.%s.weight", layer, module))
			if slices.Contains(a.biases, hf) {
				want = append(want, fmt.Sprintf("blk.%d.%s.bias", layer, module))
			}
		}
	}
	for _, name := range want {
		if !seen[name] {
			return fmt.Errorf("no tensor for %s: the files are not all of the base", name)
		}
	}
	return nil
}
