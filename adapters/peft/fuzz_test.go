package peft

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"lorikeet/adapters/lora"
	"lorikeet/backend"
)

// Whatever the files hold, Read gives an adapter whose matrices lie within the files, or
// an error that names a file.
func FuzzRead(f *testing.F) {
	f.Add([]byte(plain), safetensorsFile(f, pair(q)...))
	f.Add([]byte(`{"peft_type": "LORA", "r": 2, "lora_alpha": 16, "rank_pattern": {"q_proj": 3}, "use_rslora": true}`), safetensorsFile(f, pair(layer+"mlp.up_proj")...))
	f.Add([]byte(`{"peft_type": "LORA", "alora_invocation_tokens": [1, 2]}`), []byte("\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Add([]byte(`{"rank_pattern": {"(": 1}}`), []byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"))
	base := &backend.ModelInfo{Architecture: "llama", Heads: 4, KVHeads: 2, Pool: backend.Pool{
		Slots: 2, Rank: 8, Weights: []backend.Weight{{Name: "blk.0.attn_q.weight", In: 3, Out: 8}, {Name: "blk.0.ffn_up.weight", In: 3, Out: 8}},
	}}
	f.Fuzz(func(t *testing.T, config, weights []byte) {
		a, err := Read(fstest.MapFS{ConfigFile: {Data: config}, WeightsFile: {Data: weights}}, base, "")
		if err != nil {
			var unusable *lora.Error
			if !errors.As(err, &unusable) || unusable.File == "" {
				t.Fatalf("%v names no file", err)
			}
			return
		}
		defer a.Close()
		for _, p := range a.Pairs {
			for _, m := range []lora.Matrix{p.A, p.B} {
				if len(m.Data) != m.Rows*m.Cols*m.Type.Size() || len(m.Data) > len(weights) {
					t.Fatalf("%s: %d bytes for %d x %d", m.Name, len(m.Data), m.Rows, m.Cols)
				}
			}
		}
		if a.Check(base) == nil {
			_ = lora.Image(make([]byte, base.Pool.ImageSize()), base, []lora.Scaled{{Adapter: a, Scale: 1}}) // it may refuse values
		}
	})
}

// Whatever an index says, an adapter that is accepted has the tensors it names, each in
// the file it names.
func FuzzIndex(f *testing.F) {
	whole := inShards(f)
	f.Add(whole[indexFile].Data)
	f.Add(bytes.Replace(whole[indexFile].Data, []byte(shard2), []byte(shard1), 1))
	f.Add(bytes.Replace(whole[indexFile].Data, []byte(`"weight_map": {`), []byte(`"weight_map": {"x": "`+shard2+`",`), 1))
	f.Add([]byte(`{"weight_map": {"x": "../adapter_model-1-of-1.safetensors", "y": 1}}`))
	f.Add([]byte(`{"WEIGHT_MAP": {"x": "adapter_model-00001-of-00002.safetensors", "x": null}, "weight_map": []}`))
	f.Fuzz(func(t *testing.T, index []byte) {
		fsys := maps.Clone(whole)
		fsys[indexFile] = &fstest.MapFile{Data: index}
		a, err := Read(fsys, llama, "")
		if err != nil {
			var unusable *lora.Error
			if !errors.As(err, &unusable) || unusable.File == "" {
				t.Fatalf("%v names no file", err)
			}
			return
		}
		defer a.Close()
		var named struct {
			WeightMap map[string]string `json:"weight_map"`
		}
		if err := json.Unmarshal(index, &named); err != nil {
			t.Fatalf("accepted an index that is no JSON: %v", err)
		}
		in := map[string]string{} // file by tensor
		for _, p := range a.Pairs {
			in[p.A.Name], in[p.B.Name] = shard2, shard2
			if strings.HasPrefix(p.A.Name, q) {
				in[p.A.Name] = shard1
			}
		}
		if !maps.Equal(in, named.WeightMap) || a.Tensors != len(in) {
			t.Fatalf("%d tensors in %v, the index says %v", a.Tensors, in, named.WeightMap)
		}
	})
}

// Whatever a tensor is called, it is taken for a matrix of the architecture, in the layer
// that its name says, or for the output; or not at all.
func FuzzName(f *testing.F) {
	for architecture := range architectures {
		f.Add(architecture, "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight")
		f.Add(architecture, "base_model.model.model.language_model.layers.0.mlp.gate_up_proj.lora_B.default.weight")
		f.Add(architecture, "base_model.model.lm_head.lora_A.weight")
		f.Add(architecture, "layers.9999.self_attn.qkv_proj.lora_B.weight")
	}
	f.Fuzz(func(t *testing.T, architecture, name string) {
		names := architectures[architecture]
		module, _, ok := tensorName(name)
		if !ok {
			return
		}
		weight, err := names.weight(module)
		if err != nil || weight == "output.weight" && strings.HasSuffix(module, "lm_head") {
			return
		}
		for in, matrix := range names.modules {
			layer, ok := strings.CutSuffix(module, "."+in)
			if ok && weight == "blk."+layer[strings.LastIndex(layer, ".")+1:]+"."+matrix+".weight" {
				return
			}
		}
		t.Errorf("%s: %q is taken for %q", architecture, name, weight)
	})
}
