package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"

	"lorikeet/adapters/files"
	"lorikeet/adapters/guard"
	"lorikeet/adapters/safetensors"
)

const (
	weightsFile = "model.safetensors"
	indexFile   = weightsFile + ".index.json" // says which file holds which tensor

	maxIndexSize = 64 << 20
)

// shard is a file of a base's tensors.
type shard struct {
	name    string
	data    []byte
	mapped  bool
	tensors []safetensors.Tensor
}

// openShards opens the files of tensors. They are to be closed also beside an error.
func openShards(dir fs.FS) ([]*shard, error) {
	names, err := shardNames(dir)
	if err != nil {
		return nil, err
	}
	var shards []*shard
	for _, name := range names {
		s, err := openShard(dir, name)
		if err != nil {
			return shards, fmt.Errorf("%s: %w", name, reason(err))
		}
		shards = append(shards, s)
		err = guard.Run(func() (err error) { s.tensors, err = safetensors.Parse(s.data); return err })
		if err != nil {
			return shards, fmt.Errorf("%s: %w", name, err)
		}
	}
	return shards, nil
}

// shardNames are the names of the files that hold the tensors: others may lie beside
// them that hold the same ones in another way.
func shardNames(dir fs.FS) ([]string, error) {
	if _, err := fs.Stat(dir, weightsFile); !errors.Is(err, fs.ErrNotExist) {
		return []string{weightsFile}, nil
	}
	data, err := readSmall(dir, indexFile, maxIndexSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing, and there is no %s (pickles are not read: save with safe_serialization=True)", weightsFile, indexFile)
	}
	if err != nil {
		return nil, err
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("%s: not the JSON expected: %w", indexFile, err)
	}
	found := map[string]bool{}
	for _, name := range index.WeightMap {
		if strings.ContainsAny(name, `/\`) || !fs.ValidPath(name) || !strings.HasSuffix(name, ".safetensors") {
			return nil, fmt.Errorf("%s: %.100q is not the name of a .safetensors file beside it", indexFile, name)
		}
		found[name] = true
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: names no files", indexFile)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// openShard maps a file into memory, without reading it: it may be larger than what there
// is of memory. A file that is not on a disk is read.
func openShard(dir fs.FS, name string) (*shard, error) {
	st, err := fs.Stat(dir, name) // before it is opened: a FIFO would wait for its writer
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // what is mapped stays
	if st, err = f.Stat(); err != nil {
		return nil, err
	}
	onDisk, ok := f.(*os.File)
	if !ok || st.Size() == 0 {
		data, err := io.ReadAll(f)
		return &shard{name: name, data: data}, err
	}
	data, err := syscall.Mmap(int(onDisk.Fd()), 0, int(st.Size()), syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("can't be mapped: %w", err)
	}
	return &shard{name: name, data: data, mapped: true}, nil
}

func (s *shard) close() {
	if s.mapped {
		_ = syscall.Munmap(s.data) // it was mapped, so it can be unmapped
	}
	s.data, s.tensors = nil, nil
}

// readSmall reads a file of at most limit bytes. Errors name it, or are fs.ErrNotExist.
func readSmall(dir fs.FS, name string, limit int64) ([]byte, error) {
	switch st, err := fs.Stat(dir, name); { // before it is opened, see openShard
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, reason(err))
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s: is not a regular file", name)
	}
	data, size, err := files.Head(dir, name, limit)
	if err == nil && size > limit {
		return nil, fmt.Errorf("%s: %d bytes are over the limit of %d", name, size, limit)
	}
	return data, err
}

// missing names the file if it is not there.
func missing(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing", name)
	}
	return err
}

// reason leaves out the path, which the caller names.
func reason(err error) error {
	var p *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("is missing")
	case errors.As(err, &p):
		return p.Err
	}
	return err
}
