package adapters

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"lorikeet/adapters/lora"
	"lorikeet/backend"
	"lorikeet/backend/fake"
)

// activated makes an adapter of the folder an activated LoRA.
func activated(m fstest.MapFS, name string) fstest.MapFS {
	m[name+"/adapter_config.json"] = &fstest.MapFile{Data: []byte(`{"peft_type": "LORA", "r": 2, "alora_invocation_tokens": [7, 8]}`)}
	return m
}

func TestSeveralInOneSlot(t *testing.T) {
	e := &recorder{Engine: fake.New(64, 4)}
	m := manager(t, folder(3), e, time.Minute)
	refs := []Ref{{"a1", 0.5}, {"a0", 1}, {"a2", 0}}
	l, err := m.Acquire(t.Context(), refs)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range l.Parts {
		if p.Name != refs[i].Name || p.Scale != refs[i].Scale || len(p.Version) != 64 {
			t.Errorf("part %d is %+v", i, p)
		}
	}
	keys := []string{l.Parts[0].Version + "@0.5", l.Parts[1].Version + "@1"}
	slices.Sort(keys)
	if want := strings.Join(keys, "+"); l.Slot == 0 || l.Key != want || l.Invocation != nil {
		t.Errorf("slot %d, key %s, want %s", l.Slot, l.Key, want)
	}
	for _, same := range [][]Ref{{{"a0", 1}, {"a1", 0.5}}, {{"a2", 0}, {"a0", 1}, {"a1", 0.5}}} {
		if again, err := m.Acquire(t.Context(), same); err != nil || again.Slot != l.Slot || again.Key != l.Key || again.Parts[0].Name != same[0].Name {
			t.Errorf("%v: %+v, %v", same, again, err)
		}
	}
	if n := e.fills.Load(); n != 1 {
		t.Errorf("%d fills for one composition", n)
	}
	for _, other := range [][]Ref{{{"a0", 0.5}, {"a1", 1}}, {{"a0", 1}}, {{"a0", 1}, {"a2", 0.5}}} {
		if l2, err := m.Acquire(t.Context(), other); err != nil || l2.Slot == l.Slot || l2.Key == l.Key {
			t.Errorf("%v: %+v, %v", other, l2, err)
		}
	}
}

// Equal keys mean equal images, also where the same files have other names.
func TestImageFollowsFromTheKey(t *testing.T) {
	fsys := folder(3)
	for _, file := range []string{"/adapter_config.json", "/adapter_model.safetensors"} {
		fsys["y-as-a0"+file], fsys["x-as-a1"+file] = fsys["a0"+file], fsys["a1"+file]
	}
	e := &watched{Engine: fake.New(64, 1), t: t, leases: make([]atomic.Int64, 2), content: make([]atomic.Uint64, 2)}
	m := manager(t, fsys, e, time.Minute)
	contents := map[string]uint64{}
	for _, names := range [][]string{{"a0", "a1"}, {"a2"}, {"x-as-a1", "y-as-a0"}} {
		l := acquire(t, m, names...)
		if hash, again := contents[l.Key]; again && hash != e.content[1].Load() {
			t.Errorf("%s: another image", l)
		}
		contents[l.Key] = e.content[1].Load()
		l.Release()
	}
	if len(contents) != 2 {
		t.Errorf("%d keys", len(contents))
	}
}

func TestNothingToPutIntoASlot(t *testing.T) {
	e := &recorder{Engine: fake.New(64, 1)}
	m := manager(t, folder(2), e, time.Minute)
	for _, refs := range [][]Ref{nil, {{"a0", 0}}, {{"a0", 0}, {"a1", 0}}} {
		for range 2 {
			l, err := m.Acquire(t.Context(), refs)
			if err != nil || l.Slot != 0 || l.Key != "" || len(l.Parts) != len(refs) || e.fills.Load() != 0 {
				t.Errorf("%v: %+v, %v", refs, l, err)
			}
			l.Release()
		}
	}
}

func TestMisfitsTogether(t *testing.T) {
	m := manager(t, activated(folder(10), "a9"), fake.New(64, 1), time.Minute)
	var nine []Ref // of rank 2: one more than the pool's rank 16 takes
	for i := range 9 {
		nine = append(nine, Ref{fmt.Sprintf("a%d", i), 1})
	}
	const broken = `broken: adapter_model.safetensors: tensor "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": 9 columns, but blk.0.attn_q.weight takes 8 inputs`
	tests := []struct {
		name        string
		refs        []Ref
		combination bool // else the adapter is to blame
		want        string
	}{
		{"twice", ask("a0", "a1", "a0"), true, `adapter "a0" is asked for twice`},
		{"twice, once at 0", []Ref{{"a0", 1}, {"a0", 0}}, true, `adapter "a0" is asked for twice`},
		{"activated", ask("a0", "a9"), true, `adapter "a9" is an activated LoRA, which can't be combined with other adapters`},
		{"rank", nine, false, "a8: adapter_model.safetensors: tensor \"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight\": " +
			"rank 18 together with the request's other adapters is over the pool's 16 (raise max_rank of the base)"},
		{"one is broken", ask("a0", "broken"), false, broken},
		{"one is broken, at 0", []Ref{{"a0", 1}, {"broken", 0}}, false, broken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // the second time from memory
				_, err := m.Acquire(t.Context(), tt.refs)
				var combination *CombinationError
				var unusable *lora.Error
				if err == nil || err.Error() != tt.want || errors.As(err, &combination) != tt.combination || errors.As(err, &unusable) == tt.combination {
					t.Errorf("%v, want %s", err, tt.want)
				}
			}
		})
	}
	if _, err := m.Acquire(t.Context(), ask("a0", "nobody")); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
	if l := acquire(t, m, "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"); l.Slot == 0 {
		t.Error("ranks that fill the pool's are not served")
	}
}

func TestActivated(t *testing.T) {
	m := manager(t, activated(folder(2), "a1"), fake.New(64, 2), time.Minute)
	want := []backend.Token{7, 8}
	for range 2 { // loaded, and resident
		if l := acquire(t, m, "a1"); l.Slot == 0 || !slices.Equal(l.Invocation, want) {
			t.Errorf("%+v", l)
		}
	}
	for _, refs := range [][]Ref{{{"a1", 0.5}, {"a0", 0}}, {{"a0", 0}, {"a1", 0.5}}} {
		if l, err := m.Acquire(t.Context(), refs); err != nil || l.Slot == 0 || !slices.Equal(l.Invocation, want) {
			t.Errorf("beside one at scale 0: %+v, %v", l, err)
		} else {
			l.Release()
		}
	}
	if l, err := m.Acquire(t.Context(), []Ref{{"a1", 0}}); err != nil || l.Slot != 0 || l.Invocation != nil {
		t.Errorf("at scale 0: %+v, %v", l, err)
	}
}

func TestReplacedPart(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, value float32, age time.Duration) {
		for file, data := range map[string][]byte{"adapter_config.json": []byte(peftConfig), "adapter_model.safetensors": weights(8, value)} {
			path := filepath.Join(dir, name, file)
			when := time.Unix(1e9, 0).Add(age)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644), os.Chtimes(path, when, when)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("a", 1, 0)
	write("b", 2, 0)
	m := manager(t, os.DirFS(dir), fake.New(64, 2), time.Minute)
	old := acquire(t, m, "a", "b")
	write("b", 3, time.Second)
	rescan(t, m)
	replaced := acquire(t, m, "a", "b")
	if replaced.Slot == old.Slot || replaced.Key == old.Key || replaced.Parts[0] != old.Parts[0] || replaced.Parts[1].Version == old.Parts[1].Version {
		t.Errorf("old %+v, new %+v", old, replaced)
	}
}
