package convert

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"lorikeet/adapters/files"
	"lorikeet/adapters/gguf"
	"lorikeet/backend"
	"lorikeet/backend/engine"
)

// What the header of a base tells is what the engine tells when it has loaded the base.
func TestBaseAsTheEngineSeesIt(t *testing.T) {
	compare := func(t *testing.T, path string) {
		e := start(t, path)
		want := e.Info()
		got, err := gguf.Base(os.DirFS(filepath.Dir(path)), filepath.Base(path), engine.DefaultTargets)
		if err != nil {
			t.Fatal(err)
		}
		byName := func(a, b backend.Weight) int { return strings.Compare(a.Name, b.Name) }
		slices.SortFunc(want.Pool.Weights, byName)
		slices.SortFunc(got.Pool.Weights, byName)
		if !slices.Equal(got.Pool.Weights, want.Pool.Weights) {
			t.Errorf("weights %v, want %v", got.Pool.Weights, want.Pool.Weights)
		}
		if got.Pool.Type != want.Pool.Type {
			t.Errorf("pool of %s, want %s", got.Pool.Type, want.Pool.Type)
		}
		got.Pool, want.Pool, want.Fingerprint = backend.Pool{}, backend.Pool{}, ""
		if got.Context < want.Context { // the engine's has a limit of its own
			t.Errorf("context %d, want at least %d", got.Context, want.Context)
		}
		got.Context = want.Context
		// What a header does not tell, or only with the tokens' names.
		want.BOS, want.EOS, want.Infill, want.Embedding, want.Pooling = got.BOS, got.EOS, got.Infill, got.Embedding, got.Pooling
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("got  %+v\nwant %+v", *got, want)
		}
	}
	kept, err := filepath.Glob("../tests/oracle/testdata/*/base.gguf")
	if err != nil || len(kept) == 0 {
		t.Fatal("no bases", err)
	}
	for _, path := range append(kept, "../demo/parrot.gguf") {
		t.Run(path, func(t *testing.T) { compare(t, path) })
	}
	for _, dir := range oracleBases(t) {
		t.Run(dir, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "base.gguf")
			if _, err := Base(t.Context(), os.DirFS(dir), path, Options{}); err != nil {
				t.Fatal(err)
			}
			compare(t, path)
		})
	}
}

func oracleBases(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("../tests/oracle/testdata/*/base")
	if err != nil || len(dirs) < 8 {
		t.Fatalf("%d bases, %v", len(dirs), err)
	}
	return dirs
}

func TestTypes(t *testing.T) {
	for stored, shapes := range map[string]map[string][]int{"F32": tinyShapes(), "BF16": tinyShapes()} {
		for typ, want := range map[string]string{"": stored, "f32": "F32", "f16": "F16", "BF16": "BF16"} {
			t.Run(stored+" to "+typ, func(t *testing.T) {
				dir := tinyBase(t, "gpt2")
				dir["model.safetensors"] = &fstest.MapFile{Data: safetensorsOf(t, stored, shapes)}
				path := filepath.Join(t.TempDir(), "base.gguf")
				s, err := Base(t.Context(), dir, path, Options{Type: typ})
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(s.Types, []string{want}) || s.Architecture != "llama" || s.Tensors != len(shapes) {
					t.Errorf("%+v", s)
				}
				if st, err := os.Stat(path); err != nil || st.Size() != s.Bytes || st.Mode().Perm() != 0o644 {
					t.Errorf("%v, %v, of %d bytes", st, err, s.Bytes)
				}
				if got := start(t, path).Info().Parameters; got != parameters(shapes) {
					t.Errorf("%d parameters", got)
				}
			})
		}
	}
}

func parameters(shapes map[string][]int) (n uint64) {
	for _, s := range shapes {
		if len(s) == 1 {
			s = append(s, 1)
		}
		n += uint64(s[0] * s[1])
	}
	return n
}

// Several files with an index give what one file does, whatever lies beside them.
func TestShards(t *testing.T) {
	whole, path := tinyBase(t, "gpt2"), filepath.Join(t.TempDir(), "base.gguf")
	if _, err := Base(t.Context(), whole, path, Options{}); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parts := tinyBase(t, "gpt2")
	delete(parts, "model.safetensors")
	index := object{}
	first, second := map[string][]int{}, map[string][]int{}
	for name, shape := range tinyShapes() {
		part, file := first, "model-00001-of-00002.safetensors"
		if strings.Contains(name, "mlp") {
			part, file = second, "model-00002-of-00002.safetensors"
		}
		part[name], index[name] = shape, file
	}
	parts["model-00001-of-00002.safetensors"] = &fstest.MapFile{Data: safetensorsOf(t, "F32", first)}
	parts["model-00002-of-00002.safetensors"] = &fstest.MapFile{Data: safetensorsOf(t, "F32", second)}
	parts["model.safetensors.index.json"] = &fstest.MapFile{Data: marshal(t, object{"weight_map": index})}
	parts["consolidated.safetensors"] = &fstest.MapFile{Data: []byte("another format")}
	if _, err := Base(t.Context(), parts, path, Options{Force: true}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Errorf("%d bytes, from one file %d", len(got), len(want))
	}
	start(t, path)
}

// A file that exists stays, unless it is to be replaced; what fails leaves nothing behind.
func TestOutput(t *testing.T) {
	dir, folder := tinyBase(t, "gpt2"), t.TempDir()
	path := filepath.Join(folder, "base.gguf")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Base(t.Context(), dir, path, Options{}); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("error %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Base(cancelled, dir, path, Options{Force: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "mine" {
		t.Errorf("%.20q, %v", data, err)
	}
	if _, err := Base(t.Context(), dir, path, Options{Force: true}); err != nil {
		t.Error(err)
	}
	if _, err := Base(t.Context(), dir, filepath.Join(folder, "none", "base.gguf"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestRefusals(t *testing.T) {
	edit := func(changes object) func(*testing.T, fstest.MapFS) {
		return func(t *testing.T, dir fstest.MapFS) { set(t, dir, "config.json", changes) }
	}
	put := func(file, content string) func(*testing.T, fstest.MapFS) {
		return func(_ *testing.T, dir fstest.MapFS) { dir[file] = &fstest.MapFile{Data: []byte(content)} }
	}
	shapes := func(change func(map[string][]int)) func(*testing.T, fstest.MapFS) {
		return func(t *testing.T, dir fstest.MapFS) {
			s := tinyShapes()
			change(s)
			dir["model.safetensors"] = &fstest.MapFile{Data: safetensorsOf(t, "F32", s)}
		}
	}
	index := func(content string) func(*testing.T, fstest.MapFS) {
		return func(_ *testing.T, dir fstest.MapFS) {
			delete(dir, "model.safetensors")
			dir[indexFile] = &fstest.MapFile{Data: []byte(content)}
		}
	}
	tokenizer := func(changes object) func(*testing.T, fstest.MapFS) {
		return func(t *testing.T, dir fstest.MapFS) { set(t, dir, tokenizerFile, changes) }
	}
	for name, c := range map[string]struct {
		spoil func(*testing.T, fstest.MapFS)
		want  []string
	}{
		"no config":            {func(_ *testing.T, d fstest.MapFS) { delete(d, "config.json") }, []string{"config.json is missing"}},
		"config cut":           {put("config.json", `{"architectures": [`), []string{"config.json", "JSON"}},
		"config a list":        {put("config.json", `[]`), []string{"config.json", "JSON"}},
		"no architecture":      {edit(object{"architectures": nil}), []string{"config.json", "architecture"}},
		"unknown architecture": {edit(object{"architectures": []string{"MambaForCausalLM"}}), []string{"config.json", "MambaForCausalLM", "LlamaForCausalLM"}},
		"quantized":            {edit(object{"quantization_config": object{"quant_method": "gptq"}}), []string{"config.json", "quantized"}},
		"no heads":             {edit(object{"num_attention_heads": 0}), []string{"config.json", "num_attention_heads is 0"}},
		"2^62 layers":          {edit(object{"num_hidden_layers": 1 << 62}), []string{"config.json", "num_hidden_layers"}},
		"10000 layers":         {edit(object{"num_hidden_layers": 10000}), []string{"config.json", "limit 512"}},
		"odd head":             {edit(object{"head_dim": 7}), []string{"config.json", "head_dim is 7"}},
		"relu":                 {edit(object{"hidden_act": "relu"}), []string{"config.json", "relu", "silu"}},
		"dynamic rope":         {edit(object{"rope_scaling": object{"rope_type": "dynamic", "factor": 2}}), []string{"config.json", "dynamic"}},
		"linear rope by 0":     {edit(object{"rope_scaling": object{"type": "linear"}}), []string{"config.json", "linear"}},
		"llama3 rope, empty":   {edit(object{"rope_scaling": object{"rope_type": "llama3", "factor": 8}}), []string{"config.json", "llama3"}},
		"rope a number":        {edit(object{"rope_scaling": 3}), []string{"config.json", "rope"}},
		"rope_theta negative":  {edit(object{"rope_theta": -1}), []string{"config.json", "rope_theta -1"}},
		"other vocabulary":     {edit(object{"vocab_size": 441}), []string{"model.safetensors", "embed_tokens", "441"}},
		"two layers":           {edit(object{"num_hidden_layers": 2}), []string{"blk.1.", "not all"}},
		"untied, no lm_head":   {edit(object{"tie_word_embeddings": false}), []string{"output.weight"}},
		"other heads":          {edit(object{"num_key_value_heads": nil}), []string{"model.safetensors", "k_proj", "shape [8 16]", "[16 16]"}},
		"other head_dim":       {edit(object{"head_dim": 4}), []string{"model.safetensors", "proj", "config.json"}},
		"other feed forward":   {edit(object{"intermediate_size": 48}), []string{"model.safetensors", "mlp", "config.json", "48"}},

		"no weights":   {func(_ *testing.T, d fstest.MapFS) { delete(d, "model.safetensors") }, []string{"model.safetensors is missing", "pickles"}},
		"empty":        {put("model.safetensors", ""), []string{"model.safetensors", "too short"}},
		"cut":          {func(_ *testing.T, d fstest.MapFS) { f := d["model.safetensors"]; f.Data = f.Data[:len(f.Data)-1] }, []string{"model.safetensors", "tensor"}},
		"header 2^62":  {put("model.safetensors", "\x00\x00\x00\x00\x00\x00\x00\x40{}"), []string{"model.safetensors", "header"}},
		"other tensor": {shapes(func(s map[string][]int) { s["model.layers.0.mlp.experts.0.w1.weight"] = []int{4, 4} }), []string{"model.safetensors", "experts", "not known for llama"}},
		"layer beyond": {shapes(func(s map[string][]int) { s["model.layers.1.mlp.up_proj.weight"] = []int{24, 16} }), []string{"blk.1.", "num_hidden_layers is 1"}},
		"3 dimensions": {shapes(func(s map[string][]int) { s["model.norm.weight"] = []int{2, 2, 2} }), []string{"model.safetensors", "model.norm.weight", "shape"}},
		"long bias":    {shapes(func(s map[string][]int) { s["model.layers.0.self_attn.k_proj.bias"] = []int{16} }), []string{"k_proj.bias", "shape [16]", "[8]"}},
		"other lm_head": {func(t *testing.T, d fstest.MapFS) {
			edit(object{"tie_word_embeddings": false})(t, d)
			shapes(func(s map[string][]int) { s["lm_head.weight"] = []int{441, 16} })(t, d)
		}, []string{"lm_head", "shape [441 16]"}},
		"no norm":   {shapes(func(s map[string][]int) { delete(s, "model.norm.weight") }), []string{"output_norm.weight"}},
		"odd heads": {shapes(func(s map[string][]int) { s["model.layers.0.self_attn.q_proj.weight"] = []int{15, 16} }), []string{"model.safetensors", "q_proj", "shape [15 16]", "config.json", "[16 16]"}},

		"index is text":    {index(`oh`), []string{indexFile, "JSON"}},
		"index is empty":   {index(`{"weight_map": {}}`), []string{indexFile, "no files"}},
		"index leads out":  {index(`{"weight_map": {"a": "../secret.safetensors"}}`), []string{indexFile, "../secret.safetensors"}},
		"index absolute":   {index(`{"weight_map": {"a": "/etc/passwd.safetensors"}}`), []string{indexFile, "/etc/passwd"}},
		"index, backslash": {index(`{"weight_map": {"a": "..\\x.safetensors"}}`), []string{indexFile}},
		"index, a pickle":  {index(`{"weight_map": {"a": "pytorch_model.bin"}}`), []string{indexFile, "pytorch_model.bin"}},
		"index, no shard":  {index(`{"weight_map": {"a": "model-1.safetensors"}}`), []string{"model-1.safetensors", "missing"}},

		"no tokenizer":      {func(_ *testing.T, d fstest.MapFS) { delete(d, tokenizerFile) }, []string{tokenizerFile, sentencepieceFile}},
		"tokenizer cut":     {put(tokenizerFile, `{"model": {`), []string{tokenizerFile, "JSON"}},
		"tokenizer is null": {put(tokenizerFile, `null`), []string{tokenizerFile}},
		"settings are text": {put(tokenizerConfigFile, `"hello"`), []string{tokenizerConfigFile}},
		"unigram":           {tokenizer(object{"model": object{"type": "Unigram", "vocab": object{"a": 0}}}), []string{tokenizerFile, "Unigram"}},
		"unknown split":     {tokenizer(object{"pre_tokenizer": object{"type": "Sequence", "pretokenizers": []object{{"type": "Split", "pattern": object{"Regex": "[a-z]"}}, {"type": "ByteLevel", "use_regex": false}}}}), []string{tokenizerFile, "pre_tokenizer", "[a-z]"}},
		"lower case":        {tokenizer(object{"normalizer": object{"type": "Lowercase"}}), []string{tokenizerFile, "Lowercase"}},
		"id beyond":         {tokenizer(object{"model": object{"type": "BPE", "vocab": object{"a": 440}}}), []string{tokenizerFile, "440"}},
		"id negative":       {tokenizer(object{"model": object{"type": "BPE", "vocab": object{"a": -1}}}), []string{tokenizerFile, "-1"}},
		"two with one id":   {tokenizer(object{"model": object{"type": "BPE", "vocab": object{"a": 1, "b": 1}}}), []string{tokenizerFile, "one id"}},
		"no tokens":         {tokenizer(object{"model": object{"type": "BPE"}}), []string{tokenizerFile, "no tokens"}},
		"one text twice":    {tokenizer(object{"added_tokens": []object{{"id": 400, "content": "a"}}}), []string{tokenizerFile, "token 400"}},
		"merge of three":    {tokenizer(object{"model": object{"type": "BPE", "vocab": object{"a": 1}, "merges": [][]string{{"a", "b", "c"}}}}), []string{tokenizerFile, "merge"}},
		"bad model": {func(_ *testing.T, d fstest.MapFS) {
			delete(d, tokenizerFile)
			d[sentencepieceFile] = &fstest.MapFile{Data: []byte("oh")}
		}, []string{sentencepieceFile}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, path := tinyBase(t, "gpt2"), filepath.Join(t.TempDir(), "base.gguf")
			c.spoil(t, dir)
			_, err := Base(t.Context(), dir, path, Options{})
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if _, err := os.Lstat(path); err == nil {
				t.Error("a file was written")
			}
		})
	}
}

// Cut anywhere, the files of a base give an error or a base, and never end the process.
func TestCutFiles(t *testing.T) {
	for _, name := range []string{"config.json", "model.safetensors", tokenizerFile, tokenizerConfigFile, sentencepieceFile} {
		whole := tinyBase(t, "sentencepiece")
		if name == tokenizerFile {
			whole = tinyBase(t, "pieces")
		}
		data := whole[name].Data
		for n := 0; n < len(data); n += 1 + len(data)/60 {
			whole[name] = &fstest.MapFile{Data: data[:n]}
			_, err := Base(t.Context(), whole, filepath.Join(t.TempDir(), "base.gguf"), Options{})
			if err != nil && !strings.Contains(err.Error(), name) {
				t.Fatalf("%s cut to %d bytes: error %q does not name it", name, n, err)
			}
			if err == nil && name != sentencepieceFile { // whose last tokens may be missing
				t.Fatalf("%s cut to %d bytes: no error", name, n)
			}
		}
	}
}

// Links that lead out of the folder, FIFOs and folders are no files of a base.
func TestStrangeFiles(t *testing.T) {
	for _, name := range []string{"config.json", "model.safetensors", tokenizerFile, tokenizerConfigFile} {
		for kind, make := range map[string]func(path string) error{
			"link out": func(path string) error { return os.Symlink("/etc/passwd", path) },
			"loop":     func(path string) error { return os.Symlink(name, path) },
			"FIFO":     func(path string) error { return syscall.Mkfifo(path, 0o600) },
			"folder":   func(path string) error { return os.Mkdir(path, 0o700) },
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				folder := t.TempDir()
				for file, f := range tinyBase(t, "gpt2") {
					if file != name {
						if err := os.WriteFile(filepath.Join(folder, file), f.Data, 0o600); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := make(filepath.Join(folder, name)); err != nil {
					t.Fatal(err)
				}
				root, err := os.OpenRoot(folder)
				if err != nil {
					t.Fatal(err)
				}
				defer root.Close()
				_, err = Base(t.Context(), files.Root(root), filepath.Join(t.TempDir(), "base.gguf"), Options{})
				if err == nil || !strings.Contains(err.Error(), name) {
					t.Errorf("error %v", err)
				}
			})
		}
	}
}

// On a disk, files are mapped; the result is the same.
func TestMapped(t *testing.T) {
	dir, folder, out := tinyBase(t, "llama3"), t.TempDir(), t.TempDir()
	for file, f := range dir {
		if err := os.WriteFile(filepath.Join(folder, file), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var results [][]byte
	for _, fsys := range []fs.FS{dir, os.DirFS(folder)} {
		path := filepath.Join(out, "base.gguf")
		if _, err := Base(t.Context(), fsys, path, Options{Force: true, Type: "f16"}); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, data)
	}
	if !bytes.Equal(results[0], results[1]) {
		t.Error("the files differ")
	}
}
