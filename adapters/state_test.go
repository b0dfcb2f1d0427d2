package adapters

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lorikeet/backend/fake"
)

func TestState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	for _, bad := range []string{"", "{", `{"version": 2}`, "[]"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenState(path); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s, err := OpenState(path)
	if err != nil {
		t.Fatal(err)
	}
	want := saved{Registered: []Entry{{Name: "a", Path: "b"}}, Unloaded: []string{"c"}, Pins: map[string]bool{"a": true}}
	last, before := want, saved{change: 1}
	last.change = 2
	if err := errors.Join(s.put("one", last), s.put("two", saved{change: 1}), s.put("one", before)); err != nil {
		t.Fatal(err)
	}
	again, err := OpenState(path)
	if err != nil || fmt.Sprint(again.get("one")) != fmt.Sprint(want) {
		t.Errorf("%+v, %v", again.get("one"), err)
	}
	// A file that can't be written is told, and the old one is still whole.
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	last.change = 3
	if err := s.put("one", last); !errors.Is(err, ErrState) {
		t.Errorf("%v", err)
	}
}

// What is registered stays so over a start without the folder that it lies in.
func TestAbsentFolder(t *testing.T) {
	dir, root, state := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "state")
	put(t, root, "far", 1)
	put(t, dir, "near", 1)
	start := func(roots ...*Folder) *Manager {
		s, err := OpenState(state)
		if err != nil {
			t.Fatal(err)
		}
		c := newCatalog(t, Sources{Folder: open(t, dir), Roots: roots, State: s, Base: "base"})
		m := NewManager(c, fake.New(64, 2), Options{LoadTimeout: time.Minute, UnloadTimeout: time.Minute, HostBytes: hostBytes})
		t.Cleanup(m.Close)
		return m
	}
	if err := start(open(t, root)).Register(t.Context(), Registration{Name: "far", Path: "far"}); err != nil {
		t.Fatal(err)
	}
	without := start()
	if without.Has("far") {
		t.Error("it is served from nowhere")
	}
	await(t, without.catalog, "the other adapter", func() bool { return len(without.Names()) == 1 })
	if err := without.Pin(t.Context(), "near", true); err != nil { // writes the state
		t.Fatal(err)
	}
	if !start(open(t, root)).Has("far") {
		t.Error("the registration is lost")
	}
}

// A disk that takes long over the state file holds up no request.
func TestSlowStateFile(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", 1)
	put(t, dir, "b", 2)
	w := startOnDisk(t, dir, filepath.Join(t.TempDir(), "state"), 2)
	await(t, w.catalog, "both", func() bool { return len(w.Names()) == 2 })
	state := w.catalog.sources.State
	state.mu.Lock() // as a write does
	unloaded := make(chan error, 1)
	go func() {
		_, err := w.Unload(t.Context(), "b")
		unloaded <- err
	}()
	await(t, w.catalog, "unloading", func() bool { return !w.Has("b") })
	acquire(t, w.Manager, "a").Release()
	state.mu.Unlock()
	if err := <-unloaded; err != nil {
		t.Error(err)
	}
}
