package convert

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

const (
	configFile    = "config.json"
	maxConfigSize = 16 << 20
)

// config is config.json as far as llama.cpp has something for it.
type config struct {
	Architectures []string        `json:"architectures"`
	Quantization  json.RawMessage `json:"quantization_config"`

	Layers           int     `json:"num_hidden_layers"`
	Context          int     `json:"max_position_embeddings"`
	Hidden           int     `json:"hidden_size"`
	FeedForward      int     `json:"intermediate_size"`
	Heads            int     `json:"num_attention_heads"`
	KVHeads          int     `json:"num_key_value_heads"`
	HeadDim          int     `json:"head_dim"`
	Vocabulary       int     `json:"vocab_size"`
	NormEpsilon      float32 `json:"rms_norm_eps"`
	Activation       string  `json:"hidden_act"`
	HiddenActivation string  `json:"hidden_activation"` // gemma's, which counts
	QueryScalar      float64 `json:"query_pre_attn_scalar"`
	AttentionSoftcap float32 `json:"attn_logit_softcapping"`
	FinalSoftcap     float32 `json:"final_logit_softcapping"`
	Tied             *bool   `json:"tie_word_embeddings"`
	Bidirectional    bool    `json:"use_bidirectional_attention"`

	SlidingWindow     int      `json:"sliding_window"`
	UseSlidingWindow  *bool    `json:"use_sliding_window"`
	LayerTypes        []string `json:"layer_types"`
	WindowPattern     int      `json:"sliding_window_pattern"`
	WindowPatternOnce int      `json:"_sliding_window_pattern"` // as transformers 5 spells it

	RopeTheta       float64         `json:"rope_theta"`
	RopeLocalTheta  float64         `json:"rope_local_base_freq"`
	RopeScaling     json.RawMessage `json:"rope_scaling"`
	RopeParameters  json.RawMessage `json:"rope_parameters"` // from transformers 5 on: theta and scaling, for all layers or by their type
	PartialRotary   float64         `json:"partial_rotary_factor"`
	OriginalContext int             `json:"original_max_position_embeddings"`

	BOS json.RawMessage `json:"bos_token_id"`
	EOS json.RawMessage `json:"eos_token_id"`

	rope, localRope rope // localRope is that of layers with a sliding window
}

// rope is how positions are encoded.
type rope struct {
	Type      string    `json:"rope_type"`
	OldType   string    `json:"type"`
	Theta     float64   `json:"rope_theta"`
	Factor    float64   `json:"factor"`
	Low       float64   `json:"low_freq_factor"`
	High      float64   `json:"high_freq_factor"`
	Original  int       `json:"original_max_position_embeddings"`
	Long      []float32 `json:"long_factor"`
	Short     []float32 `json:"short_factor"`
	Attention float64   `json:"attention_factor"`
	BetaFast  float64   `json:"beta_fast"`
	BetaSlow  float64   `json:"beta_slow"`
	MScale    float64   `json:"mscale"`
	MScaleAll float64   `json:"mscale_all_dim"`
	Truncate  *bool     `json:"truncate"`
	Partial   float64   `json:"partial_rotary_factor"`
}

func readConfig(dir fs.FS) (*config, error) {
	data, err := readSmall(dir, configFile, maxConfigSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: not a directory that transformers has saved a base in", configFile)
	}
	if err != nil {
		return nil, err
	}
	c := &config{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%s: not the JSON expected: %w", configFile, err)
	}
	if len(c.Architectures) == 0 {
		return nil, fmt.Errorf("%s: names no architecture", configFile)
	}
	a, ok := architectures[c.Architectures[0]]
	if !ok {
		return nil, fmt.Errorf("%s: architecture %.60q is not converted (%s are)", configFile, c.Architectures[0], strings.Join(slices.Sorted(maps.Keys(architectures)), ", "))
	}
	if err := c.complete(a); err != nil {
		return nil, fmt.Errorf("%s: %w", configFile, err)
	}
	return c, nil
}

// complete fills in what transformers takes for granted, and checks the rest.
func (c *config) complete(a *architecture) error {
	if given(c.Quantization) {
		return errors.New("the base is quantized; convert the one that it was made from")
	}
	if c.Bidirectional {
		return errors.New("use_bidirectional_attention is not served")
	}
	c.KVHeads = cmp.Or(c.KVHeads, c.Heads)
	for name, v := range map[string]int{
		"num_hidden_layers": c.Layers, "hidden_size": c.Hidden, "intermediate_size": c.FeedForward, "num_attention_heads": c.Heads,
		"num_key_value_heads": c.KVHeads, "vocab_size": c.Vocabulary, "max_position_embeddings": c.Context,
	} {
		if v < 1 || v > 1<<30 {
			return fmt.Errorf("%s is %d", name, v)
		}
	}
	if c.Layers > maxLayers {
		return fmt.Errorf("num_hidden_layers is %d (limit %d)", c.Layers, maxLayers)
	}
	if c.HeadDim = cmp.Or(c.HeadDim, a.headDim, c.Hidden/c.Heads); c.HeadDim < 2 || c.HeadDim%2 != 0 || c.HeadDim > 1<<16 {
		return fmt.Errorf("head_dim is %d", c.HeadDim)
	}
	if c.SlidingWindow < 0 || c.SlidingWindow > 1<<30 {
		return fmt.Errorf("sliding_window is %d", c.SlidingWindow)
	}
	if c.NormEpsilon = cmp.Or(c.NormEpsilon, a.epsilon); !(c.NormEpsilon > 0) {
		return fmt.Errorf("rms_norm_eps is %v", c.NormEpsilon)
	}
	c.WindowPattern = cmp.Or(c.WindowPattern, c.WindowPatternOnce)
	return c.readRope(a)
}

const maxLayers = 512 // of llama.cpp

func given(m json.RawMessage) bool { return len(m) > 0 && string(m) != "null" }

func (c *config) readRope(a *architecture) error {
	parameters := c.RopeParameters
	if !given(parameters) {
		parameters = c.RopeScaling
	}
	if given(parameters) {
		var byType map[string]json.RawMessage
		if err := json.Unmarshal(parameters, &byType); err != nil {
			return fmt.Errorf("the parameters of rope: %w", err)
		}
		if full, ok := byType["full_attention"]; ok {
			parameters = full
		}
		if err := json.Unmarshal(parameters, &c.rope); err != nil {
			return fmt.Errorf("the parameters of rope: %w", err)
		}
		if local, ok := byType[slidingLayer]; ok {
			if err := json.Unmarshal(local, &c.localRope); err != nil {
				return fmt.Errorf("the parameters of rope: %w", err)
			}
		}
	}
	r := &c.rope
	r.Type = cmp.Or(r.Type, r.OldType, "default")
	r.Theta = cmp.Or(r.Theta, c.RopeTheta, a.theta)
	r.Partial = cmp.Or(r.Partial, c.PartialRotary, 1)
	r.Original = cmp.Or(r.Original, c.OriginalContext)
	c.localRope.Theta = cmp.Or(c.localRope.Theta, c.RopeLocalTheta, 1e4)
	if !(r.Theta > 0) || !(r.Partial > 0 && r.Partial <= 1) || r.Original < 0 || r.Original > 1<<30 {
		return fmt.Errorf("the parameters of rope: rope_theta %v, partial_rotary_factor %v, original_max_position_embeddings %d", r.Theta, r.Partial, r.Original)
	}
	if t := cmp.Or(c.localRope.Type, c.localRope.OldType, "default"); t != "default" {
		return fmt.Errorf("rope_type %.40q of layers with a sliding window is not converted", t)
	}
	return nil
}
