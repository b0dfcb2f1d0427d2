package peft

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lorikeet/adapters/files"
	"lorikeet/adapters/lora"
	"lorikeet/adapters/safetensors"
)

func TestFilesOfAnAdapter(t *testing.T) {
	const shard1, shard2 = "adapter_model-00001-of-00002.safetensors", "adapter_model-00002-of-00002.safetensors"
	tests := []struct{ there, want []string }{
		{nil, []string{ConfigFile, WeightsFile}},
		{[]string{"README.md", "optimizer.pt", "tokenizer.json", "adapter_model.safetensors.tmp", "adapter_model-.safetensors", "checkpoint/x"}, []string{ConfigFile, WeightsFile}},
		{[]string{WeightsFile, ConfigFile}, []string{ConfigFile, WeightsFile}},
		{[]string{shard2, ConfigFile, indexFile, shard1}, []string{ConfigFile, shard1, shard2, WeightsFile, indexFile}},
		{[]string{ConfigFile, pickleFile}, []string{ConfigFile, pickleFile, WeightsFile}},
	}
	for _, tt := range tests {
		fsys := fstest.MapFS{}
		for _, name := range tt.there {
			fsys[name] = &fstest.MapFile{}
		}
		got, err := Files(fsys)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%v: %v, %v, want %v", tt.there, got, err, tt.want)
		}
	}
	if _, err := Files(os.DirFS(filepath.Join(t.TempDir(), "missing"))); err == nil {
		t.Error("a directory that is not there has files")
	}
}

// While an adapter is copied, byte by byte and in any order, it is incomplete.
func TestIncompleteUntilTheLastByte(t *testing.T) {
	whole := folder(t, plain, pair(q)...)
	sharded := fstest.MapFS{
		ConfigFile: whole[ConfigFile],
		indexFile:  {Data: []byte(`{"metadata": {}, "weight_map": {"a": "adapter_model-00001-of-00002.safetensors", "b": "adapter_model-00002-of-00002.safetensors"}}`)},
		"adapter_model-00001-of-00002.safetensors": {Data: safetensorsFile(t, pair(q)...)},
		"adapter_model-00002-of-00002.safetensors": {Data: safetensorsFile(t, pair(layer+"mlp.up_proj")...)},
	}
	for _, fsys := range []fstest.MapFS{whole, sharded} {
		if got := Incomplete(fsys); got != "" {
			t.Errorf("whole: %s", got)
		}
		for name, file := range fsys {
			part := fstest.MapFS{}
			for other, f := range fsys {
				part[other] = f
			}
			delete(part, name)
			if got := Incomplete(part); !strings.HasSuffix(got, " is missing") {
				t.Errorf("without %s: %q", name, got)
			}
			for n := range file.Data {
				part[name] = &fstest.MapFile{Data: file.Data[:n]}
				if got := Incomplete(part); !strings.HasPrefix(got, name+" ") {
					t.Errorf("%d of %d bytes of %s: %q", n, len(file.Data), name, got)
				}
			}
		}
	}
}

func TestIncomplete(t *testing.T) {
	whole := folder(t, plain, pair(q)...)
	config, weights := whole[ConfigFile], whole[WeightsFile]
	with := func(name string, data []byte) fstest.MapFS {
		fsys := fstest.MapFS{ConfigFile: config, WeightsFile: weights}
		fsys[name] = &fstest.MapFile{Data: data}
		return fsys
	}
	tests := []struct {
		name string
		fsys fstest.MapFS
		want string
	}{
		{"nothing", fstest.MapFS{}, "adapter_config.json is missing"},
		{"config alone", fstest.MapFS{ConfigFile: config}, "adapter_model.safetensors is missing"},
		{"half", with(WeightsFile, weights.Data[:len(weights.Data)-8]), "adapter_model.safetensors has 324 of 332 bytes"},
		{"half a header", with(WeightsFile, weights.Data[:50]), "adapter_model.safetensors ends within its header"},
		{"half a config", with(ConfigFile, config.Data[:9]), "adapter_config.json ends within its JSON"},
		{"empty config", with(ConfigFile, nil), "adapter_config.json ends within its JSON"},
		{"shards before their index", fstest.MapFS{ConfigFile: config, "adapter_model-1-of-2.safetensors": weights}, "adapter_model.safetensors.index.json is missing"},

		// What is wrong in another way is complete.
		{"pickle", fstest.MapFS{ConfigFile: config, pickleFile: {}}, ""},
		{"config is no JSON", with(ConfigFile, []byte("hello")), ""},
		{"config is too large", with(ConfigFile, make([]byte, maxConfigSize+1)), ""},
		{"config is deep", with(ConfigFile, []byte(strings.Repeat("[", 1<<20))), ""},
		{"config is a folder", fstest.MapFS{ConfigFile + "/x": config, WeightsFile: weights}, ""},
		{"weights are a folder", fstest.MapFS{ConfigFile: config, WeightsFile + "/x": weights}, ""},
		{"header of 2^63 bytes", with(WeightsFile, []byte{0, 0, 0, 0, 0, 0, 0, 128}), ""},
		{"header is no JSON", with(WeightsFile, append([]byte{5, 0, 0, 0, 0, 0, 0, 0}, "hello"...)), ""},
		{"bytes after the last", with(WeightsFile, append(slices.Clone(weights.Data), 0)), ""},
		{"offset of 2^64-1", with(WeightsFile, append([]byte{49, 0, 0, 0, 0, 0, 0, 0}, `{"x":{"data_offsets":[0, 18446744073709551615]}} `...)), ""},
		{"index names files elsewhere", fstest.MapFS{ConfigFile: config, indexFile: {Data: []byte(`{"weight_map": {"a": "../x.safetensors", "b": "/etc/passwd", "c": "adapter_model-1-of-1.safetensors/../../x"}}`)}}, ""},
		{"index of another kind", fstest.MapFS{ConfigFile: config, indexFile: {Data: []byte(`{"weight_map": []}`)}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Incomplete(tt.fsys); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// A file that is cut while it is read is an error, not the end of the process.
func TestFileIsCutAfterItWasOpened(t *testing.T) {
	dir := t.TempDir()
	for name, f := range folder(t, plain, pair(q)...) {
		if err := os.WriteFile(filepath.Join(dir, name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, parser := range map[string]func([]byte) error{
		ConfigFile:  func(data []byte) error { _, err := parseConfig(data); return err },
		WeightsFile: func(data []byte) error { _, err := safetensors.Parse(data); return err },
	} {
		a := &lora.Adapter{}
		defer a.Close()
		f, err := readFile(a, files.Root(root), name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, name), 0); err != nil {
			t.Fatal(err)
		}
		if err := parse(f, parser); err == nil || err.Error() != name+": became shorter while it was read" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
