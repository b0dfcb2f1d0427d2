package synth

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The files of a PEFT adapter.
const (
	configFile  = "adapter_config.json"
	weightsFile = "adapter_model.safetensors"
)

// adapterDeviation, with an alpha of twice the rank, makes an adapter move the result
// of each projection by about a sixth of its size.
const adapterDeviation = 0.02

// Adapters writes n adapters for all matrices of the base's layers, in F16, to a folder
// in dir, unless they are there, and returns the folder's path. Their names are "a00",
// "a01" and so on.
func Adapters(dir string, c Config, n, rank int) (string, error) {
	folder := filepath.Join(dir, fmt.Sprintf("adapters-%s-r%d", c.key(), rank))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	return folder, inParallel(n, func(i int) error {
		return c.writeAdapter(filepath.Join(folder, fmt.Sprintf("a%02d", i)), rank, uint64(i))
	})
}

func (c Config) writeAdapter(path string, rank int, number uint64) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Beside the folder, where a killed run's leavings are nobody's adapter.
	partial, err := os.MkdirTemp(filepath.Dir(filepath.Dir(path)), "adapter-*.partial")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(partial) }() // it is renamed by then, unless something failed
	config, err := json.MarshalIndent(map[string]any{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "bench", "bias": "none",
		"r": rank, "lora_alpha": 2 * rank, "target_modules": c.modules(),
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(partial, configFile), config, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(partial, weightsFile), c.safetensors(rank, number), 0o644); err != nil {
		return err
	}
	return os.Rename(partial, path)
}

func (c Config) modules() []string {
	var names []string
	for _, m := range c.layer() {
		names = append(names, filepath.Ext(m.peft)[1:])
	}
	return names
}

// safetensors is the file of an adapter's weights.
func (c Config) safetensors(rank int, number uint64) []byte {
	type entry struct {
		Type    string `json:"dtype"`
		Shape   [2]int `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	header := map[string]entry{}
	var data bytes.Buffer
	add := func(name string, rows, cols int) {
		begin := data.Len()
		w := weights{n: rows * cols, table: normals(adapterDeviation), seed: seedOf(c.Seed+number, name)}
		_, _ = w.WriteTo(&data) // a buffer takes everything
		header[name] = entry{"F16", [2]int{rows, cols}, [2]int{begin, data.Len()}}
	}
	for i := range c.Layers {
		for _, m := range c.layer() {
			name := fmt.Sprintf("base_model.model.model.layers.%d.%s.lora_", i, m.peft)
			add(name+"A.weight", rank, m.in)
			add(name+"B.weight", m.out, rank)
		}
	}
	text, err := json.Marshal(header)
	if err != nil {
		panic(err) // of strings and numbers
	}
	file := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(text)+data.Len()), uint64(len(text)))
	return append(append(file, text...), data.Bytes()...)
}
