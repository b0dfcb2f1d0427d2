package adapters

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"lorikeet/adapters/lora"
	"lorikeet/backend"
	"lorikeet/backend/fake"
)

// weights is a safetensors file with one pair for q_proj, all of one value.
func weights(columns int, value float32) []byte {
	const rank, out = 2, 8
	offsets := []int{0, 4 * rank * columns, 4 * rank * (columns + out)}
	header, _ := json.Marshal(map[string]any{
		"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": map[string]any{"dtype": "F32", "shape": []int{rank, columns}, "data_offsets": offsets[:2]},
		"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": map[string]any{"dtype": "F32", "shape": []int{out, rank}, "data_offsets": offsets[1:]},
	})
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	file = append(file, header...)
	for range offsets[2] / 4 {
		file = binary.LittleEndian.AppendUint32(file, uint32(value*1000)|0x3f000000)
	}
	return file
}

const peftConfig = `{"peft_type": "LORA", "r": 2, "lora_alpha": 4}`

// folder holds n adapters a0, a1, …, and one called "broken" of a wrong shape.
func folder(n int) fstest.MapFS {
	m := fstest.MapFS{
		"broken/adapter_config.json":        {Data: []byte(peftConfig)},
		"broken/adapter_model.safetensors":  {Data: weights(9, 1)},
		"no-adapter/readme.txt":             {Data: []byte("x")},
		"bad,name/adapter_config.json":      {Data: []byte(peftConfig)},
		"unfinished/adapter_config.json":    {Data: []byte(peftConfig)},
		"not-gguf.gguf":                     {Data: []byte("GGUF but no more")},
		"pickled/adapter_config.json":       {Data: []byte(peftConfig)},
		"pickled/adapter_model.bin":         {Data: []byte("\x80")},
		"..dots/adapter_config.json":        {Data: []byte(peftConfig)},
		"a file beside the adapters, 1.txt": {Data: []byte("x")},
	}
	for i := range n {
		m[fmt.Sprintf("a%d/adapter_config.json", i)] = &fstest.MapFile{Data: []byte(peftConfig)}
		m[fmt.Sprintf("a%d/adapter_model.safetensors", i)] = &fstest.MapFile{Data: weights(8, float32(i+1))}
	}
	return m
}

// recorder counts fills, and holds each until gate (if any) is closed.
type recorder struct {
	*fake.Engine
	fills   atomic.Int64
	started chan int // slot of each fill, if not nil
	gate    chan struct{}
}

func (r *recorder) FillSlot(ctx context.Context, slot int, image []byte) error {
	r.fills.Add(1)
	if r.started != nil {
		r.started <- slot
	}
	if r.gate != nil {
		select {
		case <-r.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return r.Engine.FillSlot(ctx, slot, image)
}

func manager(t *testing.T, fsys fs.FS, e Engine, timeout time.Duration) *Manager {
	t.Helper()
	c, err := NewCatalog(Sources{Folder: &Folder{FS: fsys}})
	if err != nil {
		t.Fatal(err)
	}
	m := NewManager(c, e, Options{LoadTimeout: timeout, HostBytes: hostBytes})
	t.Cleanup(m.Close)
	return m
}

// rescan looks at the files of a catalog that is not watched.
func rescan(t *testing.T, m *Manager) {
	t.Helper()
	if err := m.catalog.scan(); err != nil {
		t.Fatal(err)
	}
}

// ask is a request for adapters at scale 1.
func ask(names ...string) []Ref {
	var refs []Ref
	for _, n := range names {
		refs = append(refs, Ref{n, 1})
	}
	return refs
}

func acquire(t *testing.T, m *Manager, names ...string) *Lease {
	t.Helper()
	l, err := m.Acquire(t.Context(), ask(names...))
	if err != nil {
		t.Fatalf("%s: %v", names, err)
	}
	return l
}

func TestCatalogNames(t *testing.T) {
	c, err := NewCatalog(Sources{Folder: &Folder{FS: folder(2)}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a0", "a1", "broken", "not-gguf", "pickled"}
	if got := c.Names(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	m := NewManager(c, fake.New(64, 1), Options{LoadTimeout: time.Minute})
	defer m.Close()
	for id, name := range want {
		if got, ok := m.NameOf(id); !ok || got != name {
			t.Errorf("id %d is %q, want %q", id, got, name)
		}
	}
	for _, id := range []int{-1, len(want), math.MaxInt} {
		if got, ok := m.NameOf(id); ok {
			t.Errorf("id %d is %q", id, got)
		}
	}
}

func TestLeastRecentlyUsedSlotIsReused(t *testing.T) {
	e := &recorder{Engine: fake.New(64, 2)}
	m := manager(t, folder(3), e, time.Minute)
	a0, a1 := acquire(t, m, "a0"), acquire(t, m, "a1")
	if a0.Slot == a1.Slot || a0.Slot == 0 || a1.Slot == 0 || a0.Key == a1.Key {
		t.Fatalf("leases %+v, %+v", a0, a1)
	}
	a0.Release()
	a1.Release()
	acquire(t, m, "a0").Release() // a1 is now the least recently used
	a2 := acquire(t, m, "a2")
	if a2.Slot != a1.Slot {
		t.Errorf("a2 took slot %d, a1 had %d", a2.Slot, a1.Slot)
	}
	a2.Release()
	if again := acquire(t, m, "a0"); again.Slot != a0.Slot || e.fills.Load() != 3 {
		t.Errorf("a0 was loaded again: %d fills", e.fills.Load())
	}
}

func TestLeasedSlotIsNeverRefilled(t *testing.T) {
	m := manager(t, folder(2), fake.New(64, 1), 10*time.Millisecond)
	a0 := acquire(t, m, "a0")
	if _, err := m.Acquire(t.Context(), ask("a1")); !errors.Is(err, ErrLoadTimeout) {
		t.Fatalf("the only slot is leased: %v", err)
	}
	a0.Release()
	a0.Release() // idempotent: it must not release another's hold
	for {        // the load went on, and takes the slot now
		l, err := m.Acquire(t.Context(), ask("a1"))
		if err == nil {
			if l.Slot != 1 {
				t.Errorf("slot %d", l.Slot)
			}
			return
		}
		if !errors.Is(err, ErrLoadTimeout) {
			t.Fatal(err)
		}
	}
}

func TestWaitersShareOneLoadWithTheirOwnContexts(t *testing.T) {
	e := &recorder{Engine: fake.New(64, 2), started: make(chan int, 9), gate: make(chan struct{})}
	m := manager(t, folder(1), e, time.Minute)
	impatient, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := m.Acquire(impatient, ask("a0"))
		left <- err
	}()
	<-e.started
	var wg sync.WaitGroup
	var slots [8]int
	for i := range slots {
		wg.Go(func() {
			if l, err := m.Acquire(t.Context(), ask("a0")); err == nil {
				slots[i] = l.Slot
			}
		})
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the one who left got %v", err)
	}
	close(e.gate)
	wg.Wait()
	if slices.Contains(slots[:], 0) || e.fills.Load() != 1 {
		t.Errorf("slots %v after %d fills", slots, e.fills.Load())
	}
}

func TestScaleZeroNeedsNoSlot(t *testing.T) {
	e := &recorder{Engine: fake.New(64, 1)}
	m := manager(t, folder(1), e, time.Minute)
	l, err := m.Acquire(t.Context(), []Ref{{"a0", 0}})
	if err != nil || l.Slot != 0 || l.Key != "" || l.Parts[0].Version == "" || e.fills.Load() != 0 {
		t.Errorf("%+v, %v, %d fills", l, err, e.fills.Load())
	}
	l.Release()
	if _, err := m.Acquire(t.Context(), []Ref{{"broken", 0}}); err == nil {
		t.Error("a broken adapter passes at scale 0")
	}
}

func TestEachScaleIsItsOwn(t *testing.T) {
	m := manager(t, folder(1), fake.New(64, 2), time.Minute)
	one := acquire(t, m, "a0")
	half, err := m.Acquire(t.Context(), []Ref{{"a0", 0.5}})
	if err != nil || half.Slot == one.Slot || half.Key == one.Key || half.Parts[0].Version != one.Parts[0].Version {
		t.Errorf("%+v, %+v, %v", one, half, err)
	}
}

func TestUnusableAdapters(t *testing.T) {
	m := manager(t, folder(1), fake.New(64, 1), time.Minute)
	for name, want := range map[string]string{
		"broken":     `adapter_model.safetensors: tensor "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": 9 columns, but blk.0.attn_q.weight takes 8 inputs`,
		"unfinished": "unfinished: adapter_model.safetensors is missing", // and has been for long
		"pickled":    "adapter_model.safetensors: is missing; adapter_model.bin is a pickle, which is not read: save with safe_serialization=True",
	} {
		for range 2 { // the second time from memory
			_, err := m.Acquire(t.Context(), ask(name))
			var unusable *lora.Error
			if !errors.As(err, &unusable) || err.Error() != want {
				t.Errorf("%s: %v, want %s", name, err, want)
			}
		}
	}
	if _, err := m.Acquire(t.Context(), ask("not-gguf")); err == nil {
		t.Error("a file that is no GGUF passes")
	}
	for _, name := range []string{"nobody", "", "../a0", "a0/../a0", "bad,name", "/etc"} {
		if _, err := m.Acquire(t.Context(), ask(name)); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v", name, err)
		}
	}
	acquire(t, m, "a0") // the good one is served all the same
}

func TestReplacedFilesAreANewVersion(t *testing.T) {
	dir := t.TempDir()
	write := func(value float32, age time.Duration) {
		for name, data := range map[string][]byte{"adapter_config.json": []byte(peftConfig), "adapter_model.safetensors": weights(8, value)} {
			path := filepath.Join(dir, "a", name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
				t.Fatal(err)
			}
			when := time.Unix(1e9, 0).Add(age)
			if err := os.Chtimes(path, when, when); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(1, 0)
	m := manager(t, os.DirFS(dir), fake.New(64, 2), time.Minute)
	old := acquire(t, m, "a")
	write(2, time.Second)
	rescan(t, m)
	replaced := acquire(t, m, "a")
	if replaced.Key == old.Key || replaced.Slot == old.Slot {
		t.Errorf("old %+v, new %+v", old, replaced)
	}
	write(1, 2*time.Second)
	rescan(t, m)
	if back := acquire(t, m, "a"); back.Key != old.Key || back.Slot != old.Slot {
		t.Errorf("rolled back to %+v, it was %+v", back, old)
	}
	if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	rescan(t, m)
	if _, err := m.Acquire(t.Context(), ask("a")); err == nil {
		t.Error("a removed adapter is served")
	}
}

func TestCloseEndsLoads(t *testing.T) {
	e := &recorder{Engine: fake.New(64, 1), started: make(chan int, 1), gate: make(chan struct{})}
	m := manager(t, folder(1), e, time.Minute)
	got := make(chan error)
	go func() {
		_, err := m.Acquire(context.Background(), ask("a0"))
		got <- err
	}()
	<-e.started
	m.Close()
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Errorf("waiter got %v", err)
	}
	if _, err := m.Acquire(t.Context(), ask("a0")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// Many requests for more adapters than slots: each lease holds what it says.
func TestRotation(t *testing.T) {
	e := fake.New(64, 3)
	m := manager(t, folder(12), e, time.Minute)
	answer := func(slot int) string {
		events, err := e.Submit(t.Context(), &backend.Request{Prompt: []backend.Token{1}, Slot: slot, MaxTokens: 20, Logprobs: -1})
		if err != nil {
			t.Error(err)
			return ""
		}
		text := ""
		for ev := range events {
			text += ev.Text
		}
		return text
	}
	var mu sync.Mutex
	texts := map[string]string{}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 60 {
				name := fmt.Sprintf("a%d", (i*7+g*5)%12)
				l, err := m.Acquire(t.Context(), ask(name))
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				text := answer(l.Slot)
				l.Release()
				mu.Lock()
				if first, ok := texts[name]; ok && first != text {
					t.Errorf("%s answers %q and %q", name, first, text)
				}
				texts[name] = text
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	distinct := map[string]bool{}
	for _, text := range texts {
		distinct[text] = true
	}
	if len(distinct) != 12 {
		t.Errorf("12 adapters give %d different answers", len(distinct))
	}
}

// swapping replaces files at the moment when one of them is opened.
type swapping struct {
	content fstest.MapFS // not embedded: its Sub would go past Open
	on      string
	swap    func(fstest.MapFS)
}

func (s *swapping) Open(name string) (fs.File, error) {
	if s.swap != nil && name == s.on {
		swap := s.swap
		s.swap = nil
		swap(s.content)
	}
	return s.content.Open(name)
}

// Files that are replaced while they are read are served old or new, never as a mixture
// of both.
func TestReplacedWhileRead(t *testing.T) {
	const config, tensors = "a/adapter_config.json", "a/adapter_model.safetensors"
	version := func(m fstest.MapFS) string {
		return acquire(t, manager(t, m, fake.New(64, 1), time.Minute), "a").Parts[0].Version
	}
	content := func(alpha int, value float32, when int64) fstest.MapFS {
		c := fmt.Sprintf(`{"peft_type": "LORA", "r": 2, "lora_alpha": %d}`, alpha)
		return fstest.MapFS{
			config:  {Data: []byte(c), ModTime: time.Unix(when, 0)},
			tensors: {Data: weights(8, value), ModTime: time.Unix(when, 0)},
		}
	}
	before, after := content(4, 1, 1), content(8, 2, 2)
	mixed := fstest.MapFS{config: before[config], tensors: after[tensors]}
	want, mixture := version(after), version(mixed)
	if want == mixture {
		t.Fatal("the versions can't be told apart")
	}
	for _, on := range []string{config, tensors} {
		files := &swapping{content: maps.Clone(before), on: on}
		m := manager(t, files, fake.New(64, 1), time.Minute)
		files.swap = func(now fstest.MapFS) { maps.Copy(now, after) }
		if got := acquire(t, m, "a").Parts[0].Version; got != want {
			t.Errorf("replaced when %s was opened: version %s, want %s (a mixture is %s)", on, got, want, mixture)
		}
		if files.swap != nil {
			t.Error("nothing was replaced")
		}
	}
}
