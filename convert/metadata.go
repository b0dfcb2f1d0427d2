package convert

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"lorikeet/adapters/gguf"
)

// metadata is that of a GGUF file, with values as gguf.Entry has them.
type metadata map[string]any

func (m metadata) entries() []gguf.Entry {
	var entries []gguf.Entry
	for _, key := range slices.Sorted(maps.Keys(m)) {
		entries = append(entries, gguf.Entry{Key: key, Value: m[key]})
	}
	return entries
}

// metadata is what config.json says, in llama.cpp's words. What llama.cpp would take
// otherwise is an error; what it passes over, a note.
func (a *architecture) metadata(c *config) (metadata, []string, error) {
	m := metadata{"general.architecture": a.name, "general.type": "model", "general.quantization_version": uint32(2)}
	set := func(key string, value any) { m[a.name+"."+key] = value }
	set("block_count", uint32(c.Layers))
	set("context_length", uint32(c.Context))
	set("embedding_length", uint32(c.Hidden))
	set("feed_forward_length", uint32(c.FeedForward))
	set("attention.head_count", uint32(c.Heads))
	set("attention.head_count_kv", uint32(c.KVHeads))
	set("attention.key_length", uint32(c.HeadDim))
	set("attention.value_length", uint32(c.HeadDim))
	set("attention.layer_norm_rms_epsilon", c.NormEpsilon)
	set("rope.freq_base", float32(c.rope.Theta))
	set("rope.dimension_count", uint32(c.rotaryDims()))
	if err := a.checkActivation(c); err != nil {
		return nil, nil, err
	}
	if a.rotary && c.rope.Partial != 1 {
		return nil, nil, fmt.Errorf("partial_rotary_factor is %v, llama.cpp takes 1 for %s", c.rope.Partial, a.name)
	}
	if is, want := cmp.Or(c.QueryScalar, 256), a.queryScalar(c); a.window > 0 && is != want {
		return nil, nil, fmt.Errorf("query_pre_attn_scalar is %v, llama.cpp takes %v", is, want)
	}
	if err := a.checkSoftcaps(c); err != nil {
		return nil, nil, err
	}
	if a.softcap {
		set("attn_logit_softcapping", c.AttentionSoftcap)
		set("final_logit_softcapping", c.FinalSoftcap)
	}
	var notes []string
	if a.window > 0 {
		if err := a.checkWindows(c); err != nil {
			return nil, nil, err
		}
		set("attention.sliding_window", uint32(c.SlidingWindow))
	} else if c.windowed() {
		notes = append(notes, fmt.Sprintf("llama.cpp computes no sliding window for %s: beyond %d tokens answers differ from the original's", a.name, c.SlidingWindow))
	}
	if c.rope.Long != nil && c.Context > c.rope.Original {
		notes = append(notes, fmt.Sprintf("if it is served with a context of over %[1]d tokens, llama.cpp takes the long factors of rope for texts of less too, and answers differ from the original's: its context is best %[1]d, if that is enough", c.rope.Original))
	}
	return m, notes, a.ropeScaling(c, set)
}

func (a *architecture) checkActivation(c *config) error {
	switch act := cmp.Or(c.HiddenActivation, c.Activation); {
	case act == "", act == a.activation:
		return nil
	case a.name == "gemma" && act == "gelu": // so its first configs call the other one
		return nil
	default:
		return fmt.Errorf("hidden_act %.40q is not what llama.cpp computes for %s (%s)", act, a.name, a.activation)
	}
}

// queryScalar is what llama.cpp divides the scores of attention by, squared. The largest
// models of a family have another rule, and it knows them by their layers.
func (a *architecture) queryScalar(c *config) float64 {
	if a.name == "gemma2" && c.Layers == 46 || a.name == "gemma3" && c.Layers == 62 {
		return float64(c.Hidden / c.Heads)
	}
	return float64(c.HeadDim)
}

func (a *architecture) checkSoftcaps(c *config) error {
	switch {
	case a.softcap && (c.AttentionSoftcap <= 0 || c.FinalSoftcap <= 0):
		return fmt.Errorf("attn_logit_softcapping is %v and final_logit_softcapping %v: llama.cpp computes %s with both", c.AttentionSoftcap, c.FinalSoftcap, a.name)
	case !a.softcap && (c.AttentionSoftcap != 0 || c.FinalSoftcap != 0):
		return fmt.Errorf("attn_logit_softcapping is %v and final_logit_softcapping %v: %s is converted without", c.AttentionSoftcap, c.FinalSoftcap, a.name)
	}
	return nil
}

// windowed tells whether some layers look back over less than the context.
func (c *config) windowed() bool {
	some := len(c.LayerTypes) == 0 || slices.Contains(c.LayerTypes, slidingLayer)
	return some && c.SlidingWindow > 0 && c.SlidingWindow < c.Context && (c.UseSlidingWindow == nil || *c.UseSlidingWindow)
}

const slidingLayer = "sliding_attention" // in layer_types

// checkWindows checks that the layers have sliding windows where llama.cpp has them.
func (a *architecture) checkWindows(c *config) error {
	if c.SlidingWindow < 1 {
		return errors.New("sliding_window is missing")
	}
	if a.name == "gemma3" && c.localRope.Theta != 1e4 {
		return fmt.Errorf("rope_theta of layers with a sliding window is %v, llama.cpp takes 10000", c.localRope.Theta)
	}
	if c.WindowPattern != 0 && c.WindowPattern != a.window {
		return fmt.Errorf("sliding_window_pattern is %d, llama.cpp takes %d", c.WindowPattern, a.window)
	}
	for i, t := range c.LayerTypes {
		if sliding := (i+1)%a.window != 0; sliding != (t == slidingLayer) {
			return fmt.Errorf("layer_types: layer %d is %.40q, llama.cpp has a window in all but every %dth layer", i, t, a.window)
		}
	}
	return nil
}

// ropeScaling adds what stretches the positions beyond those of the training.
func (a *architecture) ropeScaling(c *config, set func(key string, value any)) error {
	r := &c.rope
	switch r.Type {
	case "default":
	case "linear":
		set("rope.scaling.type", "linear")
		set("rope.scaling.factor", float32(r.Factor))
	case "yarn":
		if r.Attention != 0 || r.MScale != 0 || r.MScaleAll != 0 || cmp.Or(r.BetaFast, 32) != 32 || cmp.Or(r.BetaSlow, 1) != 1 || r.Truncate != nil && !*r.Truncate {
			return errors.New("rope_type yarn with an attention_factor, mscale, mscale_all_dim, beta_fast, beta_slow or truncate of its own is not converted")
		}
		set("rope.scaling.type", "yarn")
		set("rope.scaling.factor", float32(r.Factor))
		set("rope.scaling.original_context_length", uint32(cmp.Or(r.Original, c.Context)))
	case "llama3": // a tensor, see ropeTensors
		if a.name != "llama" || r.Original < 1 || r.Low <= 0 || r.High <= r.Low {
			return errors.New("rope_type llama3 is converted for llama only, with its factors and original_max_position_embeddings")
		}
	case "longrope", "su":
		half := c.rotaryDims() / 2
		if a.name != "phi3" || r.Original < 2 || len(r.Long) != half || len(r.Short) != half {
			return fmt.Errorf("rope_type %s is converted for phi3 only, with original_max_position_embeddings and %d long and short factors", r.Type, half)
		}
		attention := r.Attention
		if scale := float64(c.Context) / float64(r.Original); attention == 0 {
			attention = 1
			if scale > 1 {
				attention = math.Sqrt(1 + math.Log(scale)/math.Log(float64(r.Original)))
			}
		}
		set("rope.scaling.original_context_length", uint32(r.Original))
		set("rope.scaling.attn_factor", float32(attention))
	default:
		return fmt.Errorf("rope_type %.40q is not converted", r.Type)
	}
	if r.Type != "default" && r.Long == nil && r.Factor <= 0 {
		return fmt.Errorf("rope_type %s has a factor of %v", r.Type, r.Factor)
	}
	return nil
}

// rotaryDims is how many numbers of a head are rotated.
func (c *config) rotaryDims() int { return int(math.Round(float64(c.HeadDim) * c.rope.Partial)) }

// ropeTensors are the divisors of rope's frequencies, where the config has some.
func (c *config) ropeTensors() sources {
	r := &c.rope
	switch r.Type {
	case "longrope", "su":
		return sources{figures("rope_factors_long.weight", r.Long), figures("rope_factors_short.weight", r.Short)}
	case "llama3":
		// Long waves are stretched by the factor, short ones are left, with a slope between.
		low, high := float64(r.Original)/r.Low, float64(r.Original)/r.High
		var divisors []float32
		for i := 0; i < c.HeadDim; i += 2 {
			divisor := 1.0
			if wave := 2 * math.Pi * math.Pow(r.Theta, float64(i)/float64(c.HeadDim)); wave > low {
				divisor = r.Factor
			} else if wave >= high {
				short := (float64(r.Original)/wave - r.Low) / (r.High - r.Low)
				divisor = 1 / ((1-short)/r.Factor + short)
			}
			divisors = append(divisors, float32(divisor))
		}
		return sources{figures("rope_freqs.weight", divisors)}
	}
	return nil
}
