package peft

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestDescribe(t *testing.T) {
	const config = `{"peft_type": "LORA", "r": 2, "lora_alpha": 16, "use_rslora": true, "alpha_pattern": {"up_proj": 4},
		"base_model_name_or_path": "meta/llama", "alora_invocation_tokens": [5, 6]}`
	fsys := folder(t, config, slices.Concat(pair(layer+"mlp.up_proj"), pair(q))...)
	d := Describe(fsys)
	want := &Description{
		Base: "meta/llama", Alpha: 16, RSLoRA: true, Invocation: []int32{5, 6}, Tensors: 4, Types: []string{"F32"}, Digest: read(t, fsys).Digest,
		Modules: []Module{
			{Name: "model.layers.0.mlp.up_proj", Rank: 2, Scale: 4 / math.Sqrt(2), file: WeightsFile, a: true, b: true},
			{Name: "model.layers.0.self_attn.q_proj", Rank: 2, Scale: 16 / math.Sqrt(2), file: WeightsFile, a: true, b: true},
		},
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("%+v, want %+v", d, want)
	}
}

// All that is wrong is told, not only the first of it, and what is right beside it.
func TestDescribeRefusals(t *testing.T) {
	all := slices.Concat(pair(q)[:1], pair(layer+"self_attn.v_proj"), []tensor{
		{layer + "self_attn.k_proj.lora_magnitude_vector", "F32", []int{4}},
		{layer + "self_attn.o_proj.lora_A.weight", "I64", []int{2, 3}},
	})
	d := Describe(folder(t, `{"peft_type": "LORA", "r": 4, "lora_alpha": 16}`, all...))
	var got []string
	for _, err := range d.Refusals {
		got = append(got, err.Error())
	}
	slices.Sort(got)
	want := []string{
		`adapter_model.safetensors: module "model.layers.0.self_attn.q_proj": one of lora_A and lora_B is missing`,
		`adapter_model.safetensors: module "model.layers.0.self_attn.v_proj": rank 2, but adapter_config.json says 4`,
		`adapter_model.safetensors: tensor "base_model.model.model.layers.0.self_attn.k_proj.lora_magnitude_vector": DoRA is not served`,
		`adapter_model.safetensors: tensor "base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight": type I64 is not served (F32, F16 and BF16 are)`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	if d.Tensors != 5 || !slices.Equal(d.Types, []string{"F32", "I64"}) || len(d.Modules) != 2 {
		t.Errorf("%+v", d)
	}
}

// Of a config that is refused, the tensors are described all the same; and the other
// way round.
func TestDescribePart(t *testing.T) {
	d := Describe(folder(t, `{"peft_type": "LOKR", "lora_alpha": 16, "base_model_name_or_path": "b"}`, pair(q)...))
	if len(d.Refusals) != 1 || d.Base != "b" || d.Alpha != 16 || len(d.Modules) != 1 || d.Modules[0].Rank != 2 || d.Digest == "" {
		t.Errorf("%+v", d)
	}
	d = Describe(fstest.MapFS{ConfigFile: {Data: []byte(plain)}, pickleFile: {Data: []byte("\x80")}})
	if len(d.Refusals) != 1 || !strings.Contains(d.Refusals[0].Error(), "pickle") || d.Alpha != 16 || d.Digest != "" {
		t.Errorf("%+v", d)
	}
	d = Describe(fstest.MapFS{WeightsFile: {Data: safetensorsFile(t, pair(q)...)[:40]}})
	if len(d.Refusals) != 2 || d.Tensors != 0 {
		t.Errorf("%+v", d)
	}
}

// Shards are described as one file is, and have the version that is served.
func TestDescribeShards(t *testing.T) {
	const shard1, shard2 = "adapter_model-00001-of-00002.safetensors", "adapter_model-00002-of-00002.safetensors"
	up := layer + "mlp.up_proj"
	index := `{"weight_map": {"` + q + `.lora_A.weight": "` + shard1 + `", "` + q + `.lora_B.weight": "` + shard2 + `", "` +
		up + `.lora_A.weight": "` + shard2 + `", "` + up + `.lora_B.weight": "` + shard2 + `"}}`
	fsys := fstest.MapFS{
		ConfigFile: {Data: []byte(plain)}, indexFile: {Data: []byte(index)}, shard1: {Data: safetensorsFile(t, pair(q)[0])},
		shard2: {Data: safetensorsFile(t, append(pair(up), pair(q)[1])...)},
	}
	d := Describe(fsys)
	if d.Digest != read(t, fsys).Digest || d.Tensors != 4 || len(d.Modules) != 2 || len(d.Refusals) != 0 {
		t.Errorf("%+v", d)
	}
	fsys[shard2].Data = fsys[shard2].Data[:50]
	if d := Describe(fsys); len(d.Refusals) != 1 || !strings.HasPrefix(d.Refusals[0].Error(), shard2+": ") || d.Digest == "" {
		t.Errorf("%+v", d)
	}
}
