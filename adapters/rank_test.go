package adapters

import (
	"bytes"
	"encoding/binary"
	"testing"
	"testing/fstest"
)

// ggufHeader is a file of a header with one tensor and nothing after it.
func ggufHeader(tensor string, rank uint64, padding int) []byte {
	le := binary.LittleEndian
	str := func(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }
	b := le.AppendUint64(le.AppendUint64(le.AppendUint32([]byte("GGUF"), 3), 1), 1)
	b = str(le.AppendUint32(str(b, "a.text"), 8), string(bytes.Repeat([]byte("x"), padding)))
	b = le.AppendUint64(le.AppendUint64(le.AppendUint32(str(b, tensor), 2), 4), rank)
	return le.AppendUint64(le.AppendUint32(b, 0), 0)
}

func TestLargestRank(t *testing.T) {
	peft := func(options string) []byte { return []byte(`{"peft_type": "LORA", ` + options + `}`) }
	const a = "blk.0.attn_q.weight.lora_a"
	tests := []struct {
		name   string
		config []byte // of an adapter beside one of rank 4
		gguf   []byte
		want   int
	}{
		{"nothing else", nil, nil, 4},
		{"a larger one", peft(`"r": 24`), nil, 24},
		{"a smaller one", peft(`"r": 2`), nil, 4},
		{"by a pattern", peft(`"r": 2, "rank_pattern": {"q_proj": 7, "k_proj": 3}`), nil, 7},
		{"the largest that counts", peft(`"r": 512`), nil, 512},
		{"beyond what counts", peft(`"r": 513`), nil, 4},
		{"far beyond", peft(`"r": 2, "rank_pattern": {"q_proj": 1e300}`), nil, 4},
		{"not served", peft(`"r": 64, "use_dora": true`), nil, 4},
		{"broken", []byte("{"), nil, 4},
		{"too large a config", append(bytes.Repeat([]byte(" "), 1<<20), peft(`"r": 64`)...), nil, 4},
		{"GGUF", nil, ggufHeader(a, 48, 0), 48},
		{"GGUF with a long header", nil, ggufHeader(a, 48, 1<<20), 48},
		{"GGUF with too long a header", nil, ggufHeader(a, 48, 5<<20), 4},
		{"GGUF beyond what counts", nil, ggufHeader(a, 1<<63, 0), 4},
		{"GGUF's B", nil, ggufHeader("blk.0.attn_q.weight.lora_b", 48, 0), 4},
		{"another GGUF", nil, ggufHeader("blk.0.attn_q.weight", 48, 0), 4},
		{"broken GGUF", nil, []byte("GGUF but no more"), 4},
		{"empty GGUF", nil, []byte{}, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fsys := fstest.MapFS{"small/adapter_config.json": {Data: peft(`"r": 4`)}}
			if tt.config != nil {
				fsys["other/adapter_config.json"] = &fstest.MapFile{Data: tt.config}
			}
			if tt.gguf != nil {
				fsys["other.gguf"] = &fstest.MapFile{Data: tt.gguf}
			}
			c, err := NewCatalog(Sources{Folder: &Folder{FS: fsys}})
			if err != nil {
				t.Fatal(err)
			}
			if got := c.LargestRank(); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
	for name, fsys := range map[string]fstest.MapFS{"empty": {}, "nothing usable": {"x.gguf": {}}} {
		c, err := NewCatalog(Sources{Folder: &Folder{FS: fsys}})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.LargestRank(); got != 0 {
			t.Errorf("%s: %d", name, got)
		}
	}
}

func TestPoolRank(t *testing.T) {
	for largest, want := range map[int]int{0: 16, 1: 8, 8: 8, 9: 16, 16: 16, 17: 32, 64: 64, 65: 128, 257: 512, MaxRank: 512} {
		if got := PoolRank(largest); got != want {
			t.Errorf("%d for %d, want %d", got, largest, want)
		}
	}
}
