package peft

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"

	"lorikeet/adapters/files"
	"lorikeet/adapters/safetensors"
)

// Files of an adapter that is stored otherwise than in one WeightsFile.
const (
	indexFile  = WeightsFile + ".index.json" // says which shard holds which tensor
	shardFiles = "adapter_model-*-of-*.safetensors"
	pickleFile = "adapter_model.bin" // is refused

	maxIndexSize = safetensors.MaxHeader
)

// Files returns the names of the files in fsys that make up an adapter, sorted.
// ConfigFile and WeightsFile are named even if they are not there.
func Files(fsys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	names := []string{ConfigFile, WeightsFile}
	for _, e := range entries {
		if name := e.Name(); name == indexFile || name == pickleFile || isShard(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func isShard(name string) bool {
	ok, _ := path.Match(shardFiles, name) // the pattern is well formed
	return ok
}

// Incomplete says what is missing of an adapter that is being copied to fsys, in words
// for a person, or "". It goes by the headers and does not judge: files that are wrong
// otherwise are complete.
func Incomplete(fsys fs.FS) string {
	if _, missing := readJSON(fsys, ConfigFile, maxConfigSize); missing != "" {
		return missing
	}
	if there(fsys, WeightsFile) {
		return weightsIncomplete(fsys, WeightsFile)
	}
	names, err := Files(fsys)
	if err != nil {
		return ""
	}
	shards := slices.DeleteFunc(names, func(name string) bool { return !isShard(name) })
	switch {
	case there(fsys, indexFile):
		index, missing := readJSON(fsys, indexFile, maxIndexSize)
		if missing != "" {
			return missing
		}
		shards = shardsOf(index)
	case len(shards) > 0:
		return indexFile + " is missing"
	case there(fsys, pickleFile):
		return ""
	default:
		return WeightsFile + " is missing"
	}
	for _, name := range shards {
		if missing := weightsIncomplete(fsys, name); missing != "" {
			return missing
		}
	}
	return ""
}

func there(fsys fs.FS, name string) bool {
	_, err := fs.Stat(fsys, name)
	return !errors.Is(err, fs.ErrNotExist)
}

// shardsOf returns the shards that an index names, sorted.
func shardsOf(index []byte) []string {
	var parsed struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if json.Unmarshal(index, &parsed) != nil {
		return nil
	}
	shards := map[string]bool{}
	for _, name := range parsed.WeightMap {
		if isShard(name) {
			shards[name] = true
		}
	}
	return slices.Sorted(maps.Keys(shards))
}

// readJSON reads a file of JSON, and says what is missing of it.
func readJSON(fsys fs.FS, name string, limit int64) (data []byte, missing string) {
	data, size, err := files.Head(fsys, name, limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, name + " is missing"
	case err != nil || size > limit:
		return nil, ""
	}
	var any json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&any); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, name + " ends within its JSON"
	}
	return data, ""
}

// weightsIncomplete says what is missing of a file of tensors, or "".
func weightsIncomplete(fsys fs.FS, name string) string {
	n, _ := safetensors.HeaderSize(nil)
	head, size, err := files.Head(fsys, name, n)
	if err == nil {
		n, err = safetensors.HeaderSize(head)
	}
	if err == nil {
		head, size, err = files.Head(fsys, name, n)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return name + " is missing"
	case err != nil:
		return ""
	case size < n:
		return name + " ends within its header"
	}
	whole, err := safetensors.FileSize(head)
	if err != nil {
		return ""
	}
	return files.Missing(name, size, whole)
}
