package convert

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"

	"lorikeet/backend/engine"
)

type object = map[string]any

// tinyConfig is that of a base of one layer.
func tinyConfig() object {
	return object{
		"architectures": []string{"LlamaForCausalLM"}, "num_hidden_layers": 1, "max_position_embeddings": 64, "hidden_size": 16, "intermediate_size": 24,
		"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 440, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true,
		"rope_theta": 10000,
	}
}

// tinyShapes are the tensors that a base of tinyConfig has.
func tinyShapes() map[string][]int {
	return map[string][]int{
		"model.embed_tokens.weight": {440, 16}, "model.norm.weight": {16},
		"model.layers.0.input_layernorm.weight": {16}, "model.layers.0.post_attention_layernorm.weight": {16},
		"model.layers.0.self_attn.q_proj.weight": {16, 16}, "model.layers.0.self_attn.k_proj.weight": {8, 16},
		"model.layers.0.self_attn.v_proj.weight": {8, 16}, "model.layers.0.self_attn.o_proj.weight": {16, 16},
		"model.layers.0.mlp.gate_proj.weight": {24, 16}, "model.layers.0.mlp.up_proj.weight": {24, 16}, "model.layers.0.mlp.down_proj.weight": {16, 24},
	}
}

// safetensorsOf holds tensors of small random values.
func safetensorsOf(t *testing.T, typ string, shapes map[string][]int) []byte {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	header, data := object{}, []byte{}
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		n := 1
		for _, d := range shapes[name] {
			n *= d
		}
		begin := len(data)
		for range n {
			v := float32(random.NormFloat64() / 8)
			if typ == "F32" {
				data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
			} else {
				data = binary.LittleEndian.AppendUint16(data, bfloat16(v))
			}
		}
		header[name] = object{"dtype": typ, "shape": shapes[name], "data_offsets": []int{begin, len(data)}}
	}
	head := marshal(t, header)
	return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head, data)
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// tinyBase is a whole base, with the tokenizer of a folder of testdata.
func tinyBase(t *testing.T, tokenizer string) fstest.MapFS {
	t.Helper()
	dir := fstest.MapFS{
		"config.json":       {Data: marshal(t, tinyConfig())},
		"model.safetensors": {Data: safetensorsOf(t, "F32", tinyShapes())},
	}
	addTokenizer(dir, tokenizer)
	return dir
}

func addTokenizer(dir fstest.MapFS, tokenizer string) {
	for _, name := range []string{tokenizerFile, tokenizerConfigFile, sentencepieceFile} {
		if data, err := os.ReadFile(filepath.Join("testdata", tokenizer, name)); err == nil {
			dir[name] = &fstest.MapFile{Data: data}
		}
	}
}

// set changes keys of a file of JSON.
func set(t *testing.T, dir fstest.MapFS, file string, changes object) {
	t.Helper()
	content := object{}
	if f := dir[file]; f != nil {
		if err := json.Unmarshal(f.Data, &content); err != nil {
			t.Fatal(err)
		}
	}
	for key, v := range changes {
		if v == nil {
			delete(content, key)
		} else {
			content[key] = v
		}
	}
	dir[file] = &fstest.MapFile{Data: marshal(t, content)}
}

// load converts and loads a base.
func load(t *testing.T, dir fstest.MapFS, o Options) (*engine.Engine, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "base.gguf")
	if _, err := Base(t.Context(), dir, path, o); err != nil {
		t.Fatal(err)
	}
	return start(t, path), path
}

func start(t *testing.T, path string) *engine.Engine {
	t.Helper()
	e, err := engine.New(engine.Params{Path: path, Sequences: 1, Slots: 1, Rank: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func tokenizers(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*/expected.json")
	if err != nil || len(files) < 11 {
		t.Fatalf("%d tokenizers, %v", len(files), err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	return names
}

func readExpected(t *testing.T, tokenizer string) (expected []struct {
	Text   string
	Tokens []int32
}) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", tokenizer, "expected.json"))
	if err == nil {
		err = json.Unmarshal(data, &expected)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", tokenizer, err))
	}
	return expected
}
