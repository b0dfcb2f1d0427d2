package peft

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"testing"
	"testing/fstest"

	"lorikeet/adapters/lora"
)

const (
	shard1 = "adapter_model-00001-of-00002.safetensors"
	shard2 = "adapter_model-00002-of-00002.safetensors"
)

// inShards is an adapter of two pairs, whose first lies in both shards.
func inShards(t testing.TB) fstest.MapFS {
	t.Helper()
	up := pair(layer + "mlp.up_proj")
	index := fmt.Sprintf(`{"metadata": {"total_size": 1}, "weight_map": {%q: %q, %q: %q, %q: %q, %q: %q}}`,
		q+".lora_A.weight", shard1, q+".lora_B.weight", shard2, up[0].name, shard2, up[1].name, shard2)
	return fstest.MapFS{
		ConfigFile: {Data: []byte(plain)}, indexFile: {Data: []byte(index)},
		shard1: {Data: safetensorsFile(t, pair(q)[0])}, shard2: {Data: safetensorsFile(t, append(up, pair(q)[1])...)},
	}
}

func TestShards(t *testing.T) {
	sharded := read(t, inShards(t))
	whole := read(t, folder(t, plain, append(pair(q), pair(layer+"mlp.up_proj")...)...))
	if len(sharded.Pairs) != 2 || sharded.Tensors != 4 || sharded.File != indexFile {
		t.Fatalf("%+v", sharded)
	}
	for i, p := range sharded.Pairs {
		w := whole.Pairs[i]
		p.A.Data, p.B.Data, w.A.Data, w.B.Data = nil, nil, nil, nil // counted per file
		if !reflect.DeepEqual(p, w) {
			t.Errorf("got %+v, want %+v", p, w)
		}
	}
	for name := range inShards(t) {
		changed := inShards(t)
		data := changed[name].Data
		if name == ConfigFile || name == indexFile {
			data = append(data, ' ')
		} else {
			data[len(data)-1]++
		}
		changed[name].Data = data
		if read(t, changed).Digest == sharded.Digest {
			t.Errorf("%s: a change is not told", name)
		}
	}
}

func TestShardRefusals(t *testing.T) {
	index := func(text string) func(fstest.MapFS) {
		return func(m fstest.MapFS) { m[indexFile] = &fstest.MapFile{Data: []byte(text)} }
	}
	for _, tt := range []struct {
		name   string
		change func(fstest.MapFS)
		want   string
	}{
		{"a missing shard", func(m fstest.MapFS) { delete(m, shard2) }, shard2 + ": is missing"},
		{"an empty index", index(`{}`), indexFile + ": names no files such as adapter_model-00001-of-00002.safetensors"},
		{"a path out", index(`{"weight_map": {"x": "../adapter_model-00001-of-00002.safetensors"}}`), indexFile + ": names no files such as adapter_model-00001-of-00002.safetensors"},
		{"an absolute path", index(`{"weight_map": {"x": "/etc/passwd"}}`), indexFile + ": names no files such as adapter_model-00001-of-00002.safetensors"},
		{"a tensor that is nowhere", index(fmt.Sprintf(`{"weight_map": {"x": %q}}`, shard1)), fmt.Sprintf("%s: tensor %q is in %s, but not by the index", indexFile, q+".lora_A.weight", shard1)},
		{"a tensor too many", func(m fstest.MapFS) {
			m[indexFile] = &fstest.MapFile{Data: bytes.Replace(m[indexFile].Data, []byte(`"weight_map": {`), fmt.Appendf(nil, `"weight_map": {"x": %q, `, shard2), 1)}
		}, fmt.Sprintf("%s: tensor %q is not in %q", indexFile, "x", shard2)},
		{"a tensor in two shards", func(m fstest.MapFS) { m[shard2] = &fstest.MapFile{Data: safetensorsFile(t, pair(q)...)} }, fmt.Sprintf("%s: tensor %q is in %s, but not by the index", indexFile, q+".lora_A.weight", shard2)},
		{"a broken shard", func(m fstest.MapFS) { m[shard1] = &fstest.MapFile{Data: []byte("short")} }, shard1 + ": 5 bytes are too short for a safetensors header"},
		{"a half", func(m fstest.MapFS) {
			m[indexFile] = &fstest.MapFile{Data: fmt.Appendf(nil, `{"weight_map": {%q: %q}}`, q+".lora_A.weight", shard1)}
			delete(m, shard2)
		}, fmt.Sprintf("%s: tensor %q: its lora_B is missing", shard1, q+".lora_A.weight")},
	} {
		fsys := maps.Clone(inShards(t))
		tt.change(fsys)
		if _, err := Read(fsys, llama, ""); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

// The limit is that of all shards together: each of these is below it.
func TestShardsOverTheLimit(t *testing.T) {
	fsys := inShards(t)
	large := make([]byte, lora.MaxFileSize(llama)/2+1)
	for _, name := range []string{shard1, shard2} {
		fsys[name] = &fstest.MapFile{Data: large}
	}
	want := fmt.Sprintf("%s: %d bytes are over the limit of %d", shard2, len(large), lora.MaxFileSize(llama)-int64(len(large)))
	if _, err := Read(fsys, llama, ""); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
