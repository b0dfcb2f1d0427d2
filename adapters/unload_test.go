package adapters

import (
	"io/fs"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"lorikeet/backend/fake"
)

// slow is a folder whose weights, but for those of one adapter, are opened when gate is
// closed.
type slow struct {
	fstest.MapFS
	gate    chan struct{}
	opening chan string // the adapters that wait
	quick   string
}

func (s *slow) Sub(dir string) (fs.FS, error) {
	sub, err := fs.Sub(s.MapFS, dir)
	return &slowDir{sub, s, dir}, err
}

type slowDir struct {
	fs.FS
	of  *slow
	dir string
}

func (d *slowDir) Open(name string) (fs.File, error) {
	if name == "adapter_model.safetensors" && d.dir != d.of.quick && d.of.gate != nil {
		select {
		case <-d.of.gate:
		default:
			d.of.opening <- d.dir
			<-d.of.gate
		}
	}
	return d.FS.Open(name)
}

// begin asks for an adapter beside the test.
func begin(t *testing.T, m *Manager, name string, got chan<- result) {
	go func() {
		l, err := m.Acquire(t.Context(), ask(name))
		got <- result{name, l, err}
	}()
}

// nothing waits until a name has left nothing behind.
func nothing(t *testing.T, m *Manager, w *withdrawal, name string) {
	t.Helper()
	<-w.done
	m.mu.Lock()
	_, version := m.versions[name]
	_, record := m.records[name]
	m.mu.Unlock()
	if n := len(m.slots.holdings()); n != 0 || m.images.size() != 0 || version || record {
		t.Errorf("%d slots, %d bytes of images, version %v, record %v are kept", n, m.images.size(), version, record)
	}
}

// Requests that are reading the files when a name is unloaded are served, and leave
// nothing behind.
func TestUnloadedWhileRead(t *testing.T) {
	s := &slow{MapFS: folder(2), opening: make(chan string, 8)}
	m := manager(t, s, fake.New(64, 2), time.Minute)
	s.gate = make(chan struct{})
	got := make(chan result, 1)
	begin(t, m, "a1", got)
	<-s.opening
	if err := m.catalog.remove("a1"); err != nil {
		t.Fatal(err)
	}
	w := m.withdraw("a1")
	if n := w.users(); n != 1 {
		t.Errorf("%d requests wait for it", n)
	}
	close(s.gate)
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	r.lease.Release()
	nothing(t, m, w, "a1")
}

// A request goes on with a version that was replaced; unload waits for it, too.
func TestUnloadedWithAnOlderVersion(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "x", 1)
	on := startOnDisk(t, dir, filepath.Join(t.TempDir(), "state"), 2)
	await(t, on.catalog, "x", func() bool { return len(on.Names()) == 1 })
	l := acquire(t, on.Manager, "x")
	put(t, dir, "x", 2)
	if err := on.Register(t.Context(), Registration{Name: "x", Path: "x", Replace: true}); err != nil {
		t.Fatal(err)
	}
	acquire(t, on.Manager, "x").Release()
	if err := on.catalog.remove("x"); err != nil {
		t.Fatal(err)
	}
	w := on.withdraw("x")
	if n := w.users(); n != 1 {
		t.Errorf("%d requests use it", n)
	}
	l.Release()
	nothing(t, on.Manager, w, "x")
}

// Loads from a disk that does not answer hold up none from host memory.
func TestSlowDisk(t *testing.T) {
	s := &slow{MapFS: folder(3 + parallelLoads), opening: make(chan string, 8), quick: "a0"}
	m := manager(t, s, fake.New(64, 2), time.Minute)
	for _, name := range []string{"a0", "a1", "a2"} { // a0 goes out of its slot, its image stays
		acquire(t, m, name).Release()
	}
	if st, _ := m.Status("a0"); st.Tier != TierHost {
		t.Fatalf("a0 is in %s", st.Tier)
	}
	s.gate = make(chan struct{})
	got := make(chan result, parallelLoads)
	for i := range parallelLoads {
		begin(t, m, "a"+string(rune('3'+i)), got)
	}
	for range parallelLoads {
		<-s.opening
	}
	acquire(t, m, "a0").Release()
	close(s.gate)
	for range parallelLoads {
		r := <-got
		if r.err != nil {
			t.Fatal(r.err)
		}
		r.lease.Release()
	}
}
