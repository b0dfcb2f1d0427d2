package adapters

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"lorikeet/adapters/lora"
	"lorikeet/backend/fake"
)

// onDisk is a manager of a folder on the disk, with a state file, as a server has it.
type onDisk struct {
	*Manager
	engine *recorder
	dir    string // of the folder
	state  string
}

func startOnDisk(t *testing.T, dir, state string, slots int, entries ...Entry) *onDisk {
	t.Helper()
	s, err := OpenState(state)
	if err != nil {
		t.Fatal(err)
	}
	c := newCatalog(t, Sources{Folder: open(t, dir), State: s, Base: "base", Entries: entries})
	e := &recorder{Engine: fake.New(64, slots)}
	m := NewManager(c, e, Options{LoadTimeout: 20 * time.Second, UnloadTimeout: 20 * time.Second, HostBytes: hostBytes})
	t.Cleanup(m.Close)
	return &onDisk{m, e, dir, state}
}

func (w *onDisk) status(t *testing.T, name string) Status {
	t.Helper()
	s, ok := w.Status(name)
	if !ok {
		t.Fatalf("no status of %q", name)
	}
	return s
}

func TestRegister(t *testing.T) {
	dir, outside, state := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "state.json")
	put(t, dir, "shelf/deep", 1) // no child of the folder that is an adapter
	put(t, outside, "far", 2)
	put(t, dir, "shelf/broken", 3)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "shelf/broken/adapter_config.json"), []byte("{}"), 0o644),
		os.WriteFile(filepath.Join(dir, "shelf/text"), []byte("x"), 0o644), os.Symlink(outside, filepath.Join(dir, "shelf/link"))); err != nil {
		t.Fatal(err)
	}
	w := startOnDisk(t, dir, state, 2)
	var unusable *lora.Error
	for _, tt := range []struct {
		name, path string
		want       func(error) bool
	}{
		{"x", "shelf/nothing", is(ErrNoPath)},
		{"x", filepath.Join(dir, "nothing"), is(ErrNoPath)},
		{"x", filepath.Join(outside, "far"), is(ErrPath)},
		{"x", "../" + filepath.Base(outside) + "/far", is(ErrPath)},
		{"x", "shelf/link/far", is(ErrPath)},
		{"x", "shelf/../../etc", is(ErrPath)},
		{"x", "", is(ErrPath)},
		{"x", "a\x00b", is(ErrPath)},
		{"x", `shelf\deep`, is(ErrPath)},
		{"x", "/etc/passwd", is(ErrPath)},
		{"x", "shelf/text", func(err error) bool { return errors.As(err, &unusable) }},
		{"x", "shelf/broken", func(err error) bool { return errors.As(err, &unusable) }},
		{"../x", "shelf/deep", is(ErrName)},
		{"x,y", "shelf/deep", is(ErrName)},
		{"", "shelf/deep", is(ErrName)},
	} {
		if err := w.Register(t.Context(), Registration{Name: tt.name, Path: tt.path}); !tt.want(err) {
			t.Errorf("%q from %q: %v", tt.name, tt.path, err)
		}
	}
	if len(w.List()) != 0 {
		t.Fatalf("what failed is served: %+v", w.List())
	}
	if err := w.Register(t.Context(), Registration{Name: "deep", Path: "shelf/deep"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Register(t.Context(), Registration{Name: "deep", Path: "shelf/deep"}); !errors.Is(err, ErrRegistered) {
		t.Errorf("twice: %v", err)
	}
	if err := w.Register(t.Context(), Registration{Name: "same/abs", Path: filepath.Join(dir, "shelf", "deep")}); err != nil {
		t.Errorf("by an absolute path: %v", err)
	}
	s := w.status(t, "deep")
	if s.Version == "" || s.Rank != 2 || !slices.Equal(s.Targets, []string{"attn_q"}) || s.Tensors != 2 || s.Tier != TierHost || s.Origin != FromRuntime || s.Bytes == 0 {
		t.Errorf("%+v", s)
	}
	old := acquire(t, w.Manager, "deep")
	if s := w.status(t, "deep"); s.Tier != TierSlot || s.Slot != old.Slot || s.Leases != 1 || s.LastLoadTier != TierHost {
		t.Errorf("in use: %+v", s)
	}

	// Replaced by other files, and not by broken ones.
	put(t, dir, "shelf/new", 9)
	if err := w.Register(t.Context(), Registration{Name: "deep", Path: "shelf/broken", Replace: true}); !errors.As(err, &unusable) {
		t.Errorf("replaced by broken files: %v", err)
	}
	if l := acquire(t, w.Manager, "deep"); l.Key != old.Key {
		t.Errorf("a failed replacement changed %s to %s", old, l)
	}
	if err := w.Register(t.Context(), Registration{Name: "deep", Path: "shelf/new", Replace: true}); err != nil {
		t.Fatal(err)
	}
	if l := acquire(t, w.Manager, "deep"); l.Key == old.Key {
		t.Error("the new version is not served after it was announced")
	}

	// After a restart they are there.
	again := startOnDisk(t, dir, state, 2)
	if names := again.Names(); !slices.Equal(names, []string{"deep", "same/abs"}) {
		await(t, again.catalog, "what was registered", func() bool { return slices.Equal(again.Names(), []string{"deep", "same/abs"}) })
	}
	if l := acquire(t, again.Manager, "deep"); l.Key == old.Key {
		t.Error("the version before the last is served after a restart")
	}
}

func is(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }

// Register is the way to say that files in place have been replaced: after it has
// answered, nobody gets the old ones.
func TestAnnounceReplacement(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", 0)
	w := startOnDisk(t, dir, filepath.Join(t.TempDir(), "state"), 3)
	if err := w.Register(t.Context(), Registration{Name: "a", Path: "a", Replace: true}); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		before := acquire(t, w.Manager, "a")
		put(t, dir, "a", float32(i+1))
		if err := w.Register(t.Context(), Registration{Name: "a", Path: "a", Replace: true}); err != nil {
			t.Fatal(err)
		}
		after := acquire(t, w.Manager, "a")
		if after.Key == before.Key || w.status(t, "a").Version != after.Parts[0].Version {
			t.Fatalf("replacement %d: still %s", i, after)
		}
		before.Release()
		after.Release()
	}
	if s := w.status(t, "a"); s.Origin != FromFolder {
		t.Errorf("%+v", s)
	}
}

func TestUnload(t *testing.T) {
	dir, state := t.TempDir(), filepath.Join(t.TempDir(), "state.json")
	for i, name := range []string{"found", "twin", "other"} {
		put(t, dir, name, float32(i/2)) // found and twin have the same content
	}
	w := startOnDisk(t, dir, state, 3)
	await(t, w.catalog, "the adapters", func() bool { return len(w.Names()) == 3 })
	if _, err := w.Unload(t.Context(), "nobody"); !errors.Is(err, ErrUnknown) {
		t.Errorf("nobody: %v", err)
	}
	lease := acquire(t, w.Manager, "other")
	done := make(chan error)
	go func() {
		left, err := w.Unload(context.Background(), "other")
		if left != 0 {
			err = fmt.Errorf("%d are left", left)
		}
		done <- err
	}()
	await(t, w.catalog, "the end of other", func() bool { return !w.Has("other") })
	if _, err := w.Acquire(t.Context(), ask("other")); !errors.Is(err, ErrUnknown) {
		t.Errorf("a new request for it: %v", err)
	}
	select {
	case err := <-done:
		t.Fatalf("unloaded under a request: %v", err)
	default:
	}
	lease.Release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(w.slots.holdings()); n != 0 || w.images.size() != 0 {
		t.Errorf("%d slots, %d bytes are kept", n, w.images.size())
	}

	// What another name has too stays.
	acquire(t, w.Manager, "found").Release()
	acquire(t, w.Manager, "twin").Release()
	if left, err := w.Unload(t.Context(), "found"); left != 0 || err != nil {
		t.Errorf("%d left, %v", left, err)
	}
	fills := w.engine.fills.Load()
	acquire(t, w.Manager, "twin").Release()
	if w.engine.fills.Load() != fills {
		t.Error("the twin was thrown out")
	}

	// It stays away over a restart, and comes back when it is registered.
	again := startOnDisk(t, dir, state, 3)
	await(t, again.catalog, "the twin", func() bool { return slices.Equal(again.Names(), []string{"twin"}) })
	if err := again.Register(t.Context(), Registration{Name: "found", Path: "found"}); err != nil {
		t.Fatal(err)
	}
	if got := again.Names(); !slices.Equal(got, []string{"found", "twin"}) {
		t.Errorf("%v", got)
	}
	data, err := os.ReadFile(state)
	if err != nil || strings.Contains(string(data), `"found"`) {
		t.Errorf("%s, %v", data, err)
	}
}

func TestUnloadDoesNotWaitForEver(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", 1)
	w := startOnDisk(t, dir, filepath.Join(t.TempDir(), "state"), 2)
	w.options.UnloadTimeout = time.Nanosecond
	await(t, w.catalog, "the adapter", func() bool { return w.Has("a") })
	one, two := acquire(t, w.Manager, "a"), acquire(t, w.Manager, "a")
	if left, err := w.Unload(t.Context(), "a"); left != 2 || err != nil {
		t.Errorf("%d left, %v", left, err)
	}
	one.Release()
	two.Release()
}

func TestPin(t *testing.T) {
	dir, state := t.TempDir(), filepath.Join(t.TempDir(), "state.json")
	for i := range 6 {
		put(t, dir, fmt.Sprintf("a%d", i), float32(i))
	}
	w := startOnDisk(t, dir, state, 3, Entry{Name: "fixed", Path: filepath.Join(dir, "a5"), Pinned: true})
	await(t, w.catalog, "the adapters", func() bool { return len(w.Names()) == 7 })
	if err := w.Pin(t.Context(), "nobody", true); !errors.Is(err, ErrUnknown) {
		t.Errorf("nobody: %v", err)
	}
	if err := w.Pin(t.Context(), "a0", true); err != nil {
		t.Fatal(err)
	}
	for w.status(t, "fixed").Tier != TierSlot { // it is loaded from the start
		runtime.Gosched()
	}
	if err := w.Pin(t.Context(), "a1", true); !errors.Is(err, ErrPinned) {
		t.Errorf("the last slot is pinned: %v", err)
	}
	a0, fixed := acquire(t, w.Manager, "a0"), acquire(t, w.Manager, "fixed")
	a0.Release()
	fixed.Release()
	for range 3 {
		for i := 1; i < 5; i++ {
			l := acquire(t, w.Manager, fmt.Sprintf("a%d", i))
			if l.Slot == a0.Slot || l.Slot == fixed.Slot {
				t.Fatalf("%s took the slot of a pinned one", l)
			}
			l.Release()
		}
	}
	if again := acquire(t, w.Manager, "a0"); again.Slot != a0.Slot {
		t.Error("the pinned one has moved")
	} else {
		again.Release()
	}

	// The pin follows the version.
	put(t, dir, "a0", 77)
	if err := w.Register(t.Context(), Registration{Name: "a0", Path: "a0", Replace: true}); err != nil {
		t.Fatal(err)
	}
	for s := w.status(t, "a0"); s.Tier != TierSlot || !s.Pinned; s = w.status(t, "a0") {
		runtime.Gosched()
	}

	// What is gone keeps no slot; when it is back, it is pinned again.
	if err := os.RemoveAll(filepath.Join(dir, "a0")); err != nil {
		t.Fatal(err)
	}
	for w.Residency().SlotsPinned != 1 {
		runtime.Gosched()
	}
	put(t, dir, "a0", 78)
	for s, _ := w.Status("a0"); s.Tier != TierSlot || w.Residency().SlotsPinned != 2; s, _ = w.Status("a0") {
		runtime.Gosched()
	}

	// It holds over a restart, until it is undone.
	if err := w.Pin(t.Context(), "fixed", false); err != nil {
		t.Fatal(err)
	}
	again := startOnDisk(t, dir, state, 3, Entry{Name: "fixed", Path: filepath.Join(dir, "a5"), Pinned: true})
	for s := again.status(t, "a0"); s.Tier != TierSlot || !s.Pinned; s = again.status(t, "a0") {
		runtime.Gosched()
	}
	if again.status(t, "fixed").Pinned {
		t.Error("it is pinned again")
	}
}

// A registration that fails changes nothing of the name that it was for, and leaves
// nothing of one that is not served.
func TestFailedRegistration(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "x", 1)
	put(t, dir, "shelf/bad", 1)
	if err := os.WriteFile(filepath.Join(dir, "shelf/bad/adapter_config.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	w := startOnDisk(t, dir, filepath.Join(t.TempDir(), "state"), 2)
	await(t, w.catalog, "x", func() bool { return len(w.Names()) == 1 })
	l := acquire(t, w.Manager, "x")
	defer l.Release()
	for _, name := range []string{"x", "y"} {
		var unusable *lora.Error
		if err := w.Register(t.Context(), Registration{Name: name, Path: "shelf/bad", Replace: true}); !errors.As(err, &unusable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v := w.status(t, "x").Version; v != l.Parts[0].Version || len(w.versions) != 1 {
		t.Errorf("version %s instead of %s; %d versions", v, l.Parts[0].Version, len(w.versions))
	}
}

// Of two who register a new name at a time, one succeeds.
func TestRegisteredTwice(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "shelf/x", 1)
	put(t, dir, "shelf/y", 2)
	w := startOnDisk(t, dir, filepath.Join(t.TempDir(), "state"), 2)
	errs := make(chan error, 2)
	for _, path := range []string{"shelf/x", "shelf/y"} {
		go func() { errs <- w.Register(t.Context(), Registration{Name: "n", Path: path}) }()
	}
	a, b := <-errs, <-errs
	if (a == nil) == (b == nil) || !errors.Is(errors.Join(a, b), ErrRegistered) {
		t.Errorf("%v, %v", a, b)
	}
}

// Files that stay incomplete in the place of an adapter are told at once, not after the
// time for a load: nothing else can be read there.
func TestStuckReplacement(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "x", 1)
	w := startOnDisk(t, dir, filepath.Join(t.TempDir(), "state"), 2)
	await(t, w.catalog, "x", func() bool { return len(w.Names()) == 1 })
	if err := os.Truncate(filepath.Join(dir, "x", "adapter_model.safetensors"), 300); err != nil {
		t.Fatal(err)
	}
	await(t, w.catalog, "incomplete", func() bool { s := w.status(t, "x"); return s.Incomplete != "" && s.Incomplete != settling })
	w.options.LoadTimeout = time.Hour
	var incomplete *IncompleteError
	if _, err := w.Acquire(t.Context(), ask("x")); !errors.As(err, &incomplete) || !strings.Contains(incomplete.Reason, "300 of") {
		t.Errorf("%v", err)
	}
}

// A place that is looked at while it is registered counts as it was registered.
func TestRegisteredWhileLookedAt(t *testing.T) {
	c, err := NewCatalog(Sources{Folder: &Folder{FS: folder(1)}})
	if err != nil {
		t.Fatal(err)
	}
	it := c.items[FromFolder]["a0"]
	newer := source{it.place, it.stamp}
	it.ready = false // its files wait to be taken
	it.place.folder = &Folder{FS: during{folder(1), func() {
		if err := c.register(Entry{Name: "a0", Path: "a0"}, newer, true); err != nil {
			t.Error(err)
		}
	}}}
	newer.place = it.place
	if got := c.examine(it); got != unchanged || !it.ready {
		t.Errorf("%v, ready %v", got, it.ready)
	}
}

// during does something when a directory is looked at.
type during struct {
	fs.FS
	do func()
}

func (d during) Sub(dir string) (fs.FS, error) {
	d.do()
	return fs.Sub(d.FS, dir)
}
