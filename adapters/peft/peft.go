// Package peft reads an adapter directory as the peft library saves it:
// adapter_config.json and adapter_model.safetensors.
//
// What can't be served is refused by name; nothing is skipped.
package peft

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"regexp"
	"strings"

	"lorikeet/adapters/lora"
	"lorikeet/adapters/safetensors"
	"lorikeet/backend"
)

// The files of an adapter.
const (
	ConfigFile  = "adapter_config.json"
	WeightsFile = "adapter_model.safetensors"
)

const maxConfigSize = 1 << 20

// Read reads the adapter in fsys, to be used with the base. Errors are *lora.Error.
func Read(fsys fs.FS, base *backend.ModelInfo) (*lora.Adapter, error) {
	config, err := readFile(fsys, ConfigFile, maxConfigSize)
	if err != nil {
		return nil, err
	}
	weights, err := readFile(fsys, WeightsFile, lora.MaxFileSize(base))
	if err != nil {
		return nil, err
	}
	c, err := parseConfig(config)
	if err != nil {
		return nil, &lora.Error{File: ConfigFile, Reason: err.Error()}
	}
	names, ok := architectures[base.Architecture]
	if !ok {
		return nil, &lora.Error{File: ConfigFile, Reason: fmt.Sprintf("PEFT adapters for bases of architecture %q are not served; use a GGUF adapter", base.Architecture)}
	}
	tensors, err := safetensors.Parse(weights)
	if err != nil {
		return nil, &lora.Error{File: WeightsFile, Reason: err.Error()}
	}
	a := &lora.Adapter{File: WeightsFile, Digest: digest(config, weights)}
	if c.Invocation != nil {
		if a.Invocation, err = lora.Invocation(c.Invocation); err != nil {
			return nil, &lora.Error{File: ConfigFile, Reason: "alora_invocation_tokens: " + err.Error()}
		}
	}
	if err := collect(a, tensors, c, names, base); err != nil {
		return nil, err
	}
	return a, nil
}

// Rank is the largest rank that the config of the adapter in fsys names. Nothing else
// is read or checked.
func Rank(fsys fs.FS) (float64, error) {
	data, err := readFile(fsys, ConfigFile, maxConfigSize)
	if err != nil {
		return 0, err
	}
	c, err := parseConfig(data)
	if err != nil {
		return 0, &lora.Error{File: ConfigFile, Reason: err.Error()}
	}
	return c.largestRank(), nil
}

func readFile(fsys fs.FS, name string, limit int64) ([]byte, error) {
	data, err := lora.ReadFile(fsys, name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		reason := "is missing"
		if _, err := fs.Stat(fsys, "adapter_model.bin"); err == nil && name == WeightsFile {
			reason = "is missing; adapter_model.bin is a pickle, which is not read: save with safe_serialization=True"
		}
		return nil, &lora.Error{File: name, Reason: reason}
	}
	return data, err
}

// digest identifies the content: both files, each with its length in front.
func digest(files ...[]byte) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%d\n", len(f))
		h.Write(f)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// naming says how an architecture's modules are called in GGUF.
type naming struct {
	modules map[string]string // within a layer
	rotary  bool              // llama.cpp wants the rows of q and k interleaved
}

var architectures = map[string]naming{
	"llama": {
		modules: map[string]string{
			"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
			"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
		},
		rotary: true,
	},
}

// weight translates a module's path, such as "model.layers.0.self_attn.q_proj".
func (n naming) weight(module string) (weight string, err error) {
	path := strings.TrimPrefix(module, "model.")
	if path == "lm_head" {
		return "output.weight", nil
	}
	after, ok := strings.CutPrefix(path, "layers.")
	layer, rest, ok2 := strings.Cut(after, ".")
	gguf, known := n.modules[rest]
	if !ok || !ok2 || !known || !layerNumber.MatchString(layer) {
		return "", fmt.Errorf("module %q can't be adapted", module)
	}
	return "blk." + layer + "." + gguf + ".weight", nil
}

var (
	layerNumber = regexp.MustCompile(`^(0|[1-9][0-9]{0,3})$`)
	tensorName  = regexp.MustCompile(`^(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight$`)
)

// collect pairs up the tensors.
func collect(a *lora.Adapter, tensors []safetensors.Tensor, c *config, names naming, base *backend.ModelInfo) error {
	index := map[string]int{}
	modules := []string{}
	for _, t := range tensors {
		m := tensorName.FindStringSubmatch(t.Name)
		if m == nil {
			return refuse(t.Name, whyNot(t.Name))
		}
		module, which := m[1], m[2]
		weight, err := names.weight(module)
		if err != nil {
			return refuse(t.Name, err.Error())
		}
		matrix, err := matrixOf(t)
		if err != nil {
			return refuse(t.Name, err.Error())
		}
		i, ok := index[weight]
		if !ok {
			i = len(a.Pairs)
			index[weight] = i
			a.Pairs = append(a.Pairs, lora.Pair{Weight: weight})
			modules = append(modules, module)
		}
		p := &a.Pairs[i]
		slot := &p.A
		if which == "B" {
			slot = &p.B
			if names.rotary && strings.HasSuffix(weight, ".attn_q.weight") {
				matrix.Heads = base.Heads
			} else if names.rotary && strings.HasSuffix(weight, ".attn_k.weight") {
				matrix.Heads = base.KVHeads
			}
		}
		if slot.Data != nil {
			return refuse(t.Name, "a second tensor for "+weight)
		}
		*slot = matrix
	}
	for i := range a.Pairs {
		p := &a.Pairs[i]
		switch {
		case p.A.Data == nil:
			return refuse(p.B.Name, "its lora_A is missing")
		case p.B.Data == nil:
			return refuse(p.A.Name, "its lora_B is missing")
		}
		rank, alpha := c.rankAndAlpha(modules[i])
		if rank != p.Rank() {
			return refuse(p.A.Name, fmt.Sprintf("rank %d, but %s says %d", p.Rank(), ConfigFile, rank))
		}
		p.Scale = float32(alpha / float64(rank))
		if c.UseRSLoRA {
			p.Scale = float32(alpha / math.Sqrt(float64(rank)))
		}
	}
	return nil
}

func refuse(tensor, reason string) error {
	return &lora.Error{File: WeightsFile, Tensor: tensor, Reason: reason}
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

func matrixOf(t safetensors.Tensor) (lora.Matrix, error) {
	types := map[string]lora.DataType{"F32": lora.F32, "F16": lora.F16, "BF16": lora.BF16}
	typ, ok := types[t.Type]
	if !ok {
		return lora.Matrix{}, fmt.Errorf("type %s is not served (F32, F16 and BF16 are)", t.Type)
	}
	if len(t.Shape) != 2 || t.Shape[0] == 0 || t.Shape[1] == 0 {
		return lora.Matrix{}, fmt.Errorf("shape %v is not that of a matrix", t.Shape)
	}
	return lora.Matrix{Name: t.Name, Rows: t.Shape[0], Cols: t.Shape[1], Type: typ, Data: t.Data}, nil
}
