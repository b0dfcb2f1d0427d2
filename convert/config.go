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

	"lorikeet/adapters/files"
)

// config is config.json as far as llama.cpp has something for it.
type config struct {
	Architectures []string `json:"architectures"`
	Text          *config  `json:"text_config"` // of a model that has more than text

	Layers       int     `json:"num_hidden_layers"`
	Context      int     `json:"max_position_embeddings"`
	Hidden       int     `json:"hidden_size"`
	FeedForward  int     `json:"intermediate_size"`
	Heads        int     `json:"num_attention_heads"`
	KVHeads      int     `json:"num_key_value_heads"`
	HeadDim      int     `json:"head_dim"`
	VocabSize    int     `json:"vocab_size"`
	NormEpsilon  float32 `json:"rms_norm_eps"`
	Activation   string  `json:"hidden_act"`
	Activation2  string  `json:"hidden_activation"` // gemma's, which counts
	QueryScalar  float64 `json:"query_pre_attn_scalar"`
	AttnSoftcap  float32 `json:"attn_logit_softcapping"`
	FinalSoftcap float32 `json:"final_logit_softcapping"`

	SlidingWindow    int      `json:"sliding_window"`
	UseSlidingWindow *bool    `json:"use_sliding_window"`
	LayerTypes       []string `json:"layer_types"`
	WindowPattern    int      `json:"sliding_window_pattern"`
	WindowPattern2   int      `json:"_sliding_window_pattern"`

	RopeTheta       float64         `json:"rope_theta"`
	RopeLocalTheta  float64         `json:"rope_local_base_freq"`
	RopeScaling     json.RawMessage `json:"rope_scaling"`
	RopeParameters  json.RawMessage `json:"rope_parameters"` // from transformers 5 on: theta and scaling, for all layers or by their type
	PartialRotary   float64         `json:"partial_rotary_factor"`
	OriginalContext int             `json:"original_max_position_embeddings"`

	rope, localRope rope
}

// rope is how positions are encoded.
type rope struct {
	Type     string    `json:"rope_type"`
	OldType  string    `json:"type"`
	Theta    float64   `json:"rope_theta"`
	Factor   float64   `json:"factor"`
	Low      float64   `json:"low_freq_factor"`
	High     float64   `json:"high_freq_factor"`
	Original int       `json:"original_max_position_embeddings"`
	Long     []float32 `json:"long_factor"`
	Short    []float32 `json:"short_factor"`
	Attn     float64   `json:"attention_factor"`
	BetaFast float64   `json:"beta_fast"`
	BetaSlow float64   `json:"beta_slow"`
	Partial  float64   `json:"partial_rotary_factor"`
}

const maxConfigSize = 16 << 20

func readConfig(dir fs.FS) (*config, error) {
	data, size, err := files.Head(dir, "config.json", maxConfigSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("config.json is missing: not a directory that transformers has saved")
	case err != nil:
		return nil, err
	case size > maxConfigSize:
		return nil, fmt.Errorf("config.json: %d bytes are over the limit of %d", size, maxConfigSize)
	}
	c := &config{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("config.json: not the JSON expected: %w", err)
	}
	if len(c.Architectures) == 0 {
		return nil, errors.New("config.json: names no architecture")
	}
	if _, ok := architectures[c.Architectures[0]]; !ok {
		return nil, fmt.Errorf("config.json: architecture %.60q is not converted (%s are)", c.Architectures[0], strings.Join(slices.Sorted(maps.Keys(architectures)), ", "))
	}
	if c.Text != nil {
		c.Text.Architectures = c.Architectures
		c = c.Text
	}
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	return c, nil
}

// complete fills in what transformers takes for granted, and checks the rest.
func (c *config) complete() error {
	c.KVHeads = cmp.Or(c.KVHeads, c.Heads)
	for name, v := range map[string]int{
		"num_hidden_layers": c.Layers, "hidden_size": c.Hidden, "intermediate_size": c.FeedForward, "num_attention_heads": c.Heads,
		"num_key_value_heads": c.KVHeads, "vocab_size": c.VocabSize, "max_position_embeddings": c.Context,
	} {
		if v < 1 || v > 1<<30 {
			return fmt.Errorf("%s is %d", name, v)
		}
	}
	if c.HeadDim = cmp.Or(c.HeadDim, c.Hidden/c.Heads); c.HeadDim < 1 || c.HeadDim > 1<<20 {
		return fmt.Errorf("head_dim is %d", c.HeadDim)
	}
	c.WindowPattern = cmp.Or(c.WindowPattern, c.WindowPattern2)
	return c.readRope()
}

func (c *config) readRope() error {
	parameters := c.RopeParameters
	if string(parameters) == "null" || parameters == nil {
		parameters = c.RopeScaling
	}
	if parameters != nil {
		var byType map[string]json.RawMessage
		if err := json.Unmarshal(parameters, &byType); err != nil {
			return fmt.Errorf("the parameters of rope: %w", err)
		}
		if local, ok := byType["sliding_attention"]; ok {
			if err := json.Unmarshal(local, &c.localRope); err != nil {
				return fmt.Errorf("the parameters of rope: %w", err)
			}
		}
		if full, ok := byType["full_attention"]; ok {
			parameters = full
		}
		if err := json.Unmarshal(parameters, &c.rope); err != nil {
			return fmt.Errorf("the parameters of rope: %w", err)
		}
	}
	r := &c.rope
	r.Type = cmp.Or(r.Type, r.OldType, "default")
	r.Theta = cmp.Or(r.Theta, c.RopeTheta, 10000)
	r.Partial = cmp.Or(r.Partial, c.PartialRotary, 1)
	r.Original = cmp.Or(r.Original, c.OriginalContext)
	c.localRope.Theta = cmp.Or(c.localRope.Theta, c.RopeLocalTheta, 10000)
	return nil
}
