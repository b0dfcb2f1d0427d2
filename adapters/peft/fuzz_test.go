package peft

import (
	"errors"
	"testing"
	"testing/fstest"

	"lorikeet/adapters/lora"
	"lorikeet/backend"
)

// Whatever the files hold, Read gives an adapter whose matrices lie within the files, or
// an error that names a file.
func FuzzRead(f *testing.F) {
	f.Add([]byte(plain), safetensorsFile(f, pair(q)...))
	f.Add([]byte(`{"peft_type": "LORA", "r": 2, "lora_alpha": 16, "rank_pattern": {"q_proj": 3}, "use_rslora": true}`), safetensorsFile(f, pair(layer+"mlp.up_proj")...))
	f.Add([]byte(`{"peft_type": "LORA", "alora_invocation_tokens": [1, 2]}`), []byte("\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Add([]byte(`{"rank_pattern": {"(": 1}}`), []byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"))
	base := &backend.ModelInfo{Architecture: "llama", Heads: 4, KVHeads: 2, Pool: backend.Pool{
		Slots: 2, Rank: 8, Weights: []backend.Weight{{Name: "blk.0.attn_q.weight", In: 3, Out: 8}, {Name: "blk.0.ffn_up.weight", In: 3, Out: 8}},
	}}
	f.Fuzz(func(t *testing.T, config, weights []byte) {
		a, err := Read(fstest.MapFS{ConfigFile: {Data: config}, WeightsFile: {Data: weights}}, base, "")
		if err != nil {
			var unusable *lora.Error
			if !errors.As(err, &unusable) || unusable.File == "" {
				t.Fatalf("%v names no file", err)
			}
			return
		}
		defer a.Close()
		for _, p := range a.Pairs {
			for _, m := range []lora.Matrix{p.A, p.B} {
				if len(m.Data) != m.Rows*m.Cols*m.Type.Size() || len(m.Data) > len(weights) {
					t.Fatalf("%s: %d bytes for %d x %d", m.Name, len(m.Data), m.Rows, m.Cols)
				}
			}
		}
		if a.Check(base) == nil {
			_ = lora.Image(make([]byte, base.Pool.ImageSize()), base, []lora.Scaled{{Adapter: a, Scale: 1}}) // it may refuse values
		}
	})
}
