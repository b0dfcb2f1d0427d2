package peft

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"lorikeet/adapters/files"
	"lorikeet/adapters/lora"
	"lorikeet/backend"
)

var llama = &backend.ModelInfo{Architecture: "llama", Heads: 4, KVHeads: 2}

type tensor struct {
	name  string
	dtype string
	shape []int
}

// safetensorsFile holds counting bytes as the data.
func safetensorsFile(t testing.TB, tensors ...tensor) []byte {
	t.Helper()
	size := map[string]int{"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
	header := map[string]any{}
	end := 0
	for _, x := range tensors {
		begin := end
		n := size[x.dtype]
		for _, d := range x.shape {
			n *= d
		}
		end += n
		header[x.name] = map[string]any{"dtype": x.dtype, "shape": x.shape, "data_offsets": []int{begin, end}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	for i := range end {
		b = append(b, byte(i))
	}
	return b
}

// pair is A and B of a module, of rank 2 and 8 outputs.
func pair(module string) []tensor {
	return []tensor{{module + ".lora_A.weight", "F32", []int{2, 3}}, {module + ".lora_B.weight", "F32", []int{8, 2}}}
}

const (
	plain = `{"peft_type": "LORA", "r": 2, "lora_alpha": 16}`
	layer = "base_model.model.model.layers.0."
	q     = layer + "self_attn.q_proj"
)

func folder(t *testing.T, config string, tensors ...tensor) fstest.MapFS {
	t.Helper()
	return fstest.MapFS{ConfigFile: {Data: []byte(config)}, WeightsFile: {Data: safetensorsFile(t, tensors...)}}
}

func read(t *testing.T, fsys fs.FS) *lora.Adapter {
	t.Helper()
	a, err := Read(fsys, llama, "")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestRead(t *testing.T) {
	a := read(t, folder(t, plain,
		tensor{q + ".lora_B.weight", "BF16", []int{8, 2}},
		tensor{q + ".lora_A.weight", "F16", []int{2, 3}},
		tensor{layer + "mlp.down_proj.lora_A.weight", "F32", []int{2, 1}},
		tensor{layer + "mlp.down_proj.lora_B.weight", "F32", []int{3, 2}},
	))
	data := make([]byte, 32+12+8+24)
	for i := range data {
		data[i] = byte(i)
	}
	want := []lora.Pair{
		{
			Weight: "blk.0.attn_q.weight", Scale: 8,
			A: lora.Matrix{Name: q + ".lora_A.weight", Rows: 2, Cols: 3, Type: lora.F16, Data: data[32:44]},
			B: lora.Matrix{Name: q + ".lora_B.weight", Rows: 8, Cols: 2, Type: lora.BF16, Data: data[:32], Heads: 4},
		},
		{
			Weight: "blk.0.ffn_down.weight", Scale: 8,
			A: lora.Matrix{Name: layer + "mlp.down_proj.lora_A.weight", Rows: 2, Cols: 1, Type: lora.F32, Data: data[44:52]},
			B: lora.Matrix{Name: layer + "mlp.down_proj.lora_B.weight", Rows: 3, Cols: 2, Type: lora.F32, Data: data[52:]},
		},
	}
	if !reflect.DeepEqual(a.Pairs, want) {
		t.Errorf("got %+v, want %+v", a.Pairs, want)
	}
	if a.File != WeightsFile || a.Architecture != "" || len(a.Digest) != 64 {
		t.Errorf("file %q, architecture %q, digest %q", a.File, a.Architecture, a.Digest)
	}
}

func TestNames(t *testing.T) {
	tests := []struct {
		module string
		weight string
		heads  int
	}{
		{"model.layers.0.self_attn.q_proj", "blk.0.attn_q.weight", 4},
		{"model.layers.21.self_attn.k_proj", "blk.21.attn_k.weight", 2},
		{"model.layers.9999.self_attn.v_proj", "blk.9999.attn_v.weight", 0},
		{"model.layers.0.self_attn.o_proj", "blk.0.attn_output.weight", 0},
		{"model.layers.0.mlp.gate_proj", "blk.0.ffn_gate.weight", 0},
		{"model.layers.0.mlp.up_proj", "blk.0.ffn_up.weight", 0},
		{"model.layers.0.mlp.down_proj", "blk.0.ffn_down.weight", 0},
		{"layers.0.self_attn.q_proj", "blk.0.attn_q.weight", 4},
		{"lm_head", "output.weight", 0},
	}
	for _, tt := range tests {
		for _, prefix := range []string{"base_model.model.", ""} {
			for _, suffix := range []string{".weight", ".default.weight"} {
				a := read(t, folder(t, plain,
					tensor{prefix + tt.module + ".lora_A" + suffix, "F32", []int{2, 3}},
					tensor{prefix + tt.module + ".lora_B" + suffix, "F32", []int{8, 2}}))
				if p := a.Pairs[0]; len(a.Pairs) != 1 || p.Weight != tt.weight || p.A.Heads != 0 || p.B.Heads != tt.heads {
					t.Errorf("%s%s%s: %+v", prefix, tt.module, suffix, a.Pairs)
				}
			}
		}
	}
}

func TestScale(t *testing.T) {
	tests := []struct {
		options string
		want    float64
	}{
		{`"r": 2, "lora_alpha": 16`, 8},
		{`"r": 2, "lora_alpha": 3`, 1.5},
		{`"r": 2, "lora_alpha": 0`, 0},
		{`"r": 2`, 4},
		{`"r": 2, "lora_alpha": 16, "use_rslora": true`, 16 / math.Sqrt2},
		{`"r": 9, "lora_alpha": 16, "rank_pattern": {"q_proj": 2}`, 8},
		{`"r": 2, "lora_alpha": 16, "alpha_pattern": {"k_proj": 1, "q_proj": 5, "layers.0.self_attn.q_proj": 7}`, 2.5},
		{`"r": 9, "lora_alpha": 16, "rank_pattern": {"^model.layers.0.*": 2, "q_proj": 3}, "alpha_pattern": {".*_proj": 6}`, 3},
		{`"r": 9, "lora_alpha": 16, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 4}, "use_rslora": true`, 4 / math.Sqrt2},
	}
	for _, tt := range tests {
		a := read(t, folder(t, `{"peft_type": "LORA", `+tt.options+`}`, pair(q)...))
		if got := a.Pairs[0].Scale; got != float32(tt.want) {
			t.Errorf("%s: scale %v, want %v", tt.options, got, tt.want)
		}
	}
}

func TestInvocation(t *testing.T) {
	for options, want := range map[string][]backend.Token{``: nil, `, "alora_invocation_tokens": null`: nil, `, "alora_invocation_tokens": [5, 0, 5]`: {5, 0, 5}} {
		if got := read(t, folder(t, `{"peft_type": "LORA", "r": 2`+options+`}`, pair(q)...)).Invocation; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", options, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	with := func(name, dtype string, shape ...int) []tensor { return append(pair(q), tensor{name, dtype, shape}) }
	tests := []struct {
		name    string
		config  string
		tensors []tensor
		want    string // of the whole message
	}{
		{"config is not JSON", "{", pair(q), "adapter_config.json: not the JSON expected: "},
		{"wrong type", `{"peft_type": "LORA", "r": []}`, pair(q), "adapter_config.json: not the JSON expected: "},
		{"r is 0", `{"peft_type": "LORA", "r": 0}`, pair(q), "adapter_config.json: r is 0"},
		{"LoKr", `{"peft_type": "LOKR", "r": 2}`, pair(q), `adapter_config.json: peft_type "LOKR" is not served (LORA is)`},
		{"DoRA", `{"peft_type": "LORA", "r": 2, "use_dora": true}`, pair(q), "adapter_config.json: use_dora: DoRA is not served"},
		{"bad regular expression", `{"peft_type": "LORA", "r": 2, "rank_pattern": {"(q": 4}}`, pair(q), `adapter_config.json: not the JSON expected: pattern "(q": error parsing regexp`},

		{"no invocation tokens", `{"peft_type": "LORA", "r": 2, "alora_invocation_tokens": []}`, pair(q), "adapter_config.json: alora_invocation_tokens: not 1 to 64 tokens"},
		{"negative invocation token", `{"peft_type": "LORA", "r": 2, "alora_invocation_tokens": [1, -1]}`, pair(q), "adapter_config.json: alora_invocation_tokens: -1 is no token"},
		{"too large an invocation token", `{"peft_type": "LORA", "r": 2, "alora_invocation_tokens": [2147483648]}`, pair(q), "adapter_config.json: alora_invocation_tokens: 2147483648 is no token"},

		{"DoRA's magnitude", plain, with(q+".lora_magnitude_vector.weight", "F32", 8), q + `.lora_magnitude_vector.weight": DoRA is not served`},
		{"embedding", plain, with("base_model.model.model.embed_tokens.lora_embedding_A", "F32", 2, 3), `embed_tokens.lora_embedding_A": adapters of embeddings are not served`},
		{"embedding as a module", plain, pair("base_model.model.model.embed_tokens"), `embed_tokens.lora_A.weight": module "model.embed_tokens" can't be adapted`},
		{"copy of the base", plain, with("base_model.model.lm_head.base_layer.weight", "F32", 8, 3), `lm_head.base_layer.weight": a copy of the base's weight`},
		{"modules_to_save", plain, with("base_model.model.lm_head.modules_to_save.weight", "F32", 8, 3), `lm_head.modules_to_save.weight": modules_to_save are not served`},
		{"bias", plain, with(q+".bias", "F32", 8), q + `.bias": biases are not served`},
		{"bias of B", plain, with(q+".lora_B.bias", "F32", 8), q + `.lora_B.bias": biases are not served`},
		{"LoHa's tensor", plain, with(q+".hada_w1_a", "F32", 8, 2), q + `.hada_w1_a": LoHa and LoKr are not served`},
		{"LoKr's tensor", plain, with(q+".lokr_w1", "F32", 8, 2), q + `.lokr_w1": LoHa and LoKr are not served`},
		{"another tensor", plain, with("x", "F32", 1), `tensor "x": not a tensor of a LoRA`},
		{"another adapter's name", plain, with(q+".lora_A.other.weight", "F32", 2, 3), `.lora_A.other.weight": not a tensor of a LoRA`},

		{"unknown module", plain, pair(layer + "mlp.experts"), `module "model.layers.0.mlp.experts" can't be adapted`},
		{"no layer", plain, pair("base_model.model.model.self_attn.q_proj"), `module "model.self_attn.q_proj" can't be adapted`},
		{"layer 00", plain, pair("base_model.model.model.layers.00.self_attn.q_proj"), `module "model.layers.00.self_attn.q_proj" can't be adapted`},
		{"layer 99999", plain, pair("base_model.model.model.layers.99999.self_attn.q_proj"), `module "model.layers.99999.self_attn.q_proj" can't be adapted`},
		{"layer -1", plain, pair("base_model.model.model.layers.-1.self_attn.q_proj"), `module "model.layers.-1.self_attn.q_proj" can't be adapted`},
		{"two prefixes", plain, pair("base_model.model.model.model.layers.0.self_attn.q_proj"), `can't be adapted`},
		{"the same weight by two names", plain, append(pair(q), pair("layers.0.self_attn.q_proj")...), `tensor "layers.0.self_attn.q_proj.lora_A.weight": a second tensor for blk.0.attn_q.weight`},

		{"no A", plain, pair(q)[1:], q + `.lora_B.weight": its lora_A is missing`},
		{"no B", plain, pair(q)[:1], q + `.lora_A.weight": its lora_B is missing`},
		{"rank", `{"peft_type": "LORA", "r": 4}`, pair(q), q + `.lora_A.weight": rank 2, but adapter_config.json says 4`},
		{"rank by a pattern", `{"peft_type": "LORA", "r": 2, "rank_pattern": {"q_proj": 3}}`, pair(q), q + `.lora_A.weight": rank 2, but adapter_config.json says 3`},
		{"rank of 0 by a pattern", `{"peft_type": "LORA", "r": 2, "rank_pattern": {"q_proj": 0}}`, pair(q), `rank 2, but adapter_config.json says 0`},
		{"one dimension", plain, []tensor{{q + ".lora_A.weight", "F32", []int{2}}}, q + `.lora_A.weight": shape [2] is not that of a matrix`},
		{"three dimensions", plain, []tensor{{q + ".lora_A.weight", "F32", []int{2, 3, 1}}}, q + `.lora_A.weight": shape [2 3 1] is not that of a matrix`},
		{"no rows", plain, []tensor{{q + ".lora_A.weight", "F32", []int{0, 3}}}, q + `.lora_A.weight": shape [0 3] is not that of a matrix`},
		{"I64", plain, []tensor{{q + ".lora_A.weight", "I64", []int{2, 3}}}, q + `.lora_A.weight": type I64 is not served`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Read(folder(t, tt.config, tt.tensors...), llama, "")
			var e *lora.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %s", err, tt.want)
			}
			file := WeightsFile
			if strings.HasPrefix(tt.want, ConfigFile) {
				file = ConfigFile
			}
			if e.File != file || (file == WeightsFile) == (e.Tensor == "") {
				t.Errorf("file %q, tensor %q", e.File, e.Tensor)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	whole := folder(t, plain, pair(q)...)
	config, weights := whole[ConfigFile], whole[WeightsFile]
	tests := []struct {
		name string
		fsys fstest.MapFS
		arch string
		want string
	}{
		{"no config", fstest.MapFS{WeightsFile: weights}, "llama", "adapter_config.json: is missing"},
		{"no weights", fstest.MapFS{ConfigFile: config}, "llama", "adapter_model.safetensors: is missing"},
		{"pickle", fstest.MapFS{ConfigFile: config, "adapter_model.bin": {}}, "llama", "adapter_model.safetensors: is missing; adapter_model.bin is a pickle, which is not read: save with safe_serialization=True"},
		{"pickle without config", fstest.MapFS{"adapter_model.bin": {}}, "llama", "adapter_config.json: is missing"},
		{"weights in a folder", fstest.MapFS{ConfigFile: config, WeightsFile + "/x": weights}, "llama", "adapter_model.safetensors: is not a regular file"},
		{"empty weights", fstest.MapFS{ConfigFile: config, WeightsFile: {}}, "llama", "adapter_model.safetensors: 0 bytes are too short for a safetensors header"},
		{"unknown architecture", whole, "mamba", `adapter_config.json: PEFT adapters for bases of architecture "mamba" are not served; use a GGUF adapter`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Read(tt.fsys, &backend.ModelInfo{Architecture: tt.arch}, "")
			var e *lora.Error
			if !errors.As(err, &e) || err.Error() != tt.want {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

// Messages reach clients.
func TestErrorsHidePaths(t *testing.T) {
	good := folder(t, plain, pair(q)...)
	tests := []struct {
		name string
		make func(config string) error // instead of the config
		want string
	}{
		{"missing", func(string) error { return nil }, "adapter_config.json: is missing"},
		{"a folder", func(p string) error { return os.Mkdir(p, 0o700) }, "adapter_config.json: is not a regular file"},
		{"FIFO", func(p string) error { return syscall.Mkfifo(p, 0o600) }, "adapter_config.json: is not a regular file"},
		{"link to the outside", func(p string) error { return os.Symlink("/etc/passwd", p) }, "adapter_config.json: can't be read"},
		{"link to itself", func(p string) error { return os.Symlink(ConfigFile, p) }, "adapter_config.json: can't be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, WeightsFile), good[WeightsFile].Data, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := tt.make(filepath.Join(dir, ConfigFile)); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if _, err := Read(files.Root(root), llama, ""); err == nil || err.Error() != tt.want {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

func TestDigest(t *testing.T) {
	whole := folder(t, plain, pair(q)...)
	digest := read(t, whole).Digest
	if again := read(t, folder(t, plain, pair(q)...)).Digest; again != digest {
		t.Errorf("%s for the same content as %s", again, digest)
	}
	weights := bytes.Clone(whole[WeightsFile].Data)
	weights[len(weights)-1]++
	for name, fsys := range map[string]fstest.MapFS{
		ConfigFile:  {ConfigFile: {Data: []byte(plain + " ")}, WeightsFile: whole[WeightsFile]},
		WeightsFile: {ConfigFile: whole[ConfigFile], WeightsFile: {Data: weights}},
	} {
		if read(t, fsys).Digest == digest {
			t.Errorf("%s: a change is not told", name)
		}
	}
}
