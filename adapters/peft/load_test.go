package peft_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"lorikeet/adapters/buffers"
	"lorikeet/adapters/files"
	"lorikeet/adapters/lora"
	"lorikeet/adapters/peft"
	"lorikeet/backend"
	"lorikeet/backend/fake"
	"lorikeet/bench/synth"
)

// base is what an engine tells of synth's base, with a pool of a rank.
func base(c synth.Config, rank int) *backend.ModelInfo {
	kv := c.Hidden / c.Heads * c.KVHeads
	m := &backend.ModelInfo{Architecture: "llama", Heads: c.Heads, KVHeads: c.KVHeads, Pool: backend.Pool{Rank: rank, Type: backend.F16}}
	for i := range c.Layers {
		for _, w := range []backend.Weight{
			{Name: "attn_q", In: c.Hidden, Out: c.Hidden}, {Name: "attn_k", In: c.Hidden, Out: kv}, {Name: "attn_v", In: c.Hidden, Out: kv},
			{Name: "attn_output", In: c.Hidden, Out: c.Hidden}, {Name: "ffn_gate", In: c.Hidden, Out: c.FeedForward},
			{Name: "ffn_up", In: c.Hidden, Out: c.FeedForward}, {Name: "ffn_down", In: c.FeedForward, Out: c.Hidden},
		} {
			w.Name = fmt.Sprintf("blk.%d.%s.weight", i, w.Name)
			m.Pool.Weights = append(m.Pool.Weights, w)
		}
	}
	return m
}

// BenchmarkLoad is a load from files in the page cache into a slot, beside a mere copy
// of as many bytes in memory, and the parts that it consists of.
func BenchmarkLoad(b *testing.B) {
	for _, rank := range []int{4, 8, 16, 32, 64} {
		folder, err := synth.Adapters(b.TempDir(), synth.Default, 1, rank)
		if err != nil {
			b.Fatal(err)
		}
		dir := filepath.Join(folder, "a00")
		root, err := os.OpenRoot(dir)
		if err != nil {
			b.Fatal(err)
		}
		defer root.Close()
		fsys := files.Root(root)
		whole, err := os.ReadFile(filepath.Join(dir, peft.WeightsFile))
		if err != nil {
			b.Fatal(err)
		}
		m := base(synth.Default, rank)
		slot := touched(m.Pool.ImageSize())
		images := buffers.New(m.Pool.ImageSize(), 1, fake.New(64, 1))
		defer images.Close()
		run := func(name string, step func() error) {
			b.Run(fmt.Sprintf("%s/rank%d", name, rank), func(b *testing.B) {
				b.SetBytes(int64(len(whole)))
				for b.Loop() {
					if err := step(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		to := touched(len(whole))
		run("copy", func() error { copy(to, whole); return nil })
		run("open", func() error {
			f, err := files.Open(fsys, peft.WeightsFile, 1<<30)
			if err == nil {
				f.Close()
			}
			return err
		})
		run("read", func() error {
			a, err := peft.Read(fsys, m, "")
			if err == nil {
				a.Close()
			}
			return err
		})
		load := func(digest string) error {
			a, err := peft.Read(fsys, m, digest)
			if err != nil {
				return err
			}
			defer a.Close()
			if err := a.Check(m); err != nil {
				return err
			}
			image, err := images.Get()
			if err != nil {
				return err
			}
			defer images.Put(image)
			err = lora.Image(image, m, []lora.Scaled{{Adapter: a, Scale: 1}})
			copy(slot, image)
			return err
		}
		run("load", func() error { return load("") })
		run("again", func() error { return load("of a version that was read before") })
	}
}

// touched is memory whose pages are there.
func touched(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 1
	}
	return b
}
