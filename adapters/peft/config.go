package peft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
)

// config is adapter_config.json as far as it matters here. target_modules,
// layers_to_transform and the like are not read: the tensors tell what was trained. Nor
// is fan_in_fan_out: peft too passes it over where a module is a Linear, as all are here.
type config struct {
	Type         string   `json:"peft_type"`
	R            int      `json:"r"`
	Alpha        float64  `json:"lora_alpha"`
	UseRSLoRA    bool     `json:"use_rslora"`
	RankPattern  patterns `json:"rank_pattern"`
	AlphaPattern patterns `json:"alpha_pattern"`
	Bias         string   `json:"bias"`
	Init         any      `json:"init_lora_weights"`
	Invocation   []int64  `json:"alora_invocation_tokens"` // of an activated LoRA, else nil
}

// What each of these options, if set, would change, so that it can't be served.
var refusedOptions = map[string]string{
	"use_dora":                "DoRA is not served",
	"use_qalora":              "QALoRA is not served",
	"use_bdlora":              "block-diagonal LoRA is not served",
	"lora_bias":               "biases are not served",
	"modules_to_save":         "modules_to_save are not served",
	"layer_replication":       "layer_replication is not served",
	"trainable_token_indices": "trainable_token_indices are not served",
	"target_parameters":       "target_parameters are not served",
	"arrow_config":            "Arrow routing is not served",
	"kasa_config":             "KaSA is not served",
}

// Initializations that take a part out of the base's weights: peft does so again
// when it loads the adapter, so that A and B don't fit the base as it is. LoRA-GA takes
// one out too, but peft then loads the adapter as any other.
var initChangesBase = regexp.MustCompile(`(?i)^(pissa|olora|corda|loftq)`)

func parseConfig(data []byte) (*config, error) {
	c := config{R: 8, Alpha: 8, Bias: "none"} // as peft takes what is missing
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("not the JSON expected: %w", err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("not the JSON expected: %w", err)
	}
	for _, option := range slices.Sorted(maps.Keys(refusedOptions)) {
		switch strings.TrimSpace(string(all[option])) {
		case "", "null", "false", "[]":
		default: // to peft, {} is a variant with its defaults
			return nil, fmt.Errorf("%s: %s", option, refusedOptions[option])
		}
	}
	switch {
	case c.Type != "LORA":
		return nil, fmt.Errorf("peft_type %.20q is not served (LORA is)", c.Type)
	case c.Bias != "none" && c.Bias != "":
		return nil, fmt.Errorf("bias %.20q is not served", c.Bias)
	case initChangesBase.MatchString(fmt.Sprint(c.Init)):
		return nil, fmt.Errorf("init_lora_weights %.20q is not served: it changes the base (convert the adapter to a plain LoRA)", c.Init)
	case c.R < 1:
		return nil, fmt.Errorf("r is %d", c.R)
	}
	return &c, nil
}

// rankAndAlpha returns what the config says of a module.
func (c *config) rankAndAlpha(module string) (rank int, alpha float64) {
	return int(c.RankPattern.match(module, float64(c.R))), c.AlphaPattern.match(module, c.Alpha)
}

// scale is what a module's B·A is multiplied with.
func (c *config) scale(module string) (rank int, scale float64) {
	rank, alpha := c.rankAndAlpha(module)
	if c.UseRSLoRA {
		return rank, alpha / math.Sqrt(float64(rank))
	}
	return rank, alpha / float64(rank)
}

// largestRank is the largest rank that the config names, whether or not a module has it.
func (c *config) largestRank() float64 {
	rank := float64(c.R)
	for _, p := range c.RankPattern {
		rank = max(rank, p.value)
	}
	return rank
}

// maxPatterns bounds the work of matching each module.
const maxPatterns = 256

// patterns are values by regular expression, in the order of the file.
type patterns []pattern

type pattern struct {
	re    *regexp.Regexp
	value float64
}

// UnmarshalJSON keeps the order of the keys, as peft does: the first match counts.
func (p *patterns) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	t, err := dec.Token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('{') {
		return fmt.Errorf("a pattern map is not an object")
	}
	for dec.More() {
		if len(*p) == maxPatterns {
			return fmt.Errorf("more than %d patterns", maxPatterns)
		}
		t, err := dec.Token()
		if err != nil {
			return err
		}
		key := t.(string)
		// As peft's get_pattern_key: anchored at the end, and at the start of the module or of a name in it.
		re, err := regexp.Compile(`^(?:(?:.*\.)?(?:` + key + `)$)`)
		if err != nil {
			return fmt.Errorf("pattern %.60q: %w", key, err)
		}
		var v float64
		if err := dec.Decode(&v); err != nil {
			return fmt.Errorf("pattern %.60q: %w", key, err)
		}
		*p = append(*p, pattern{re, v})
	}
	return nil
}

func (p patterns) match(module string, otherwise float64) float64 {
	for _, e := range p {
		if e.re.MatchString(module) {
			return e.value
		}
	}
	return otherwise
}
