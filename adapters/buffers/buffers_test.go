package buffers

import (
	"strings"
	"testing"
)

// host knows the memory that is pinned.
type host map[*byte]int

func (h host) PinMemory(b []byte) { h[&b[0]] = len(b) }

func (h host) UnpinMemory(b []byte) {
	if h[&b[0]] != len(b) {
		panic("unpinned, but not pinned")
	}
	delete(h, &b[0])
}

func get(t testing.TB, p *Pool) []byte {
	t.Helper()
	b, err := p.Get()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBuffersAreUsedAgain(t *testing.T) {
	p := New(3<<20+5, 1, host{})
	defer p.Close()
	first, second := get(t, p), get(t, p)
	if len(first) != 3<<20+5 || &first[0] == &second[0] {
		t.Fatalf("%d bytes", len(first))
	}
	first[0], first[len(first)-1] = 1, 2
	p.Put(first)
	p.Put(second) // over the spare ones
	if again := get(t, p); &again[0] != &first[0] || again[0] != 1 {
		t.Error("a new one, although one is free")
	} else {
		p.Put(again)
	}
}

func TestClose(t *testing.T) {
	h := host{}
	p := New(1<<20, 8, h)
	late := get(t, p)
	p.Put(get(t, p))
	p.Close()
	p.Close()
	late[0] = 1 // still of use
	p.Put(late)
	if len(p.free) != 0 {
		t.Errorf("%d are kept after Close", len(p.free))
	}
	if len(h) != 0 {
		t.Errorf("%d buffers are still pinned", len(h))
	}
}

func TestNoMemory(t *testing.T) {
	if _, err := New(1<<62, 0, host{}).Get(); err == nil || !strings.HasPrefix(err.Error(), "no memory for an image of 4611686018427387904 bytes: ") {
		t.Error(err)
	}
}

var source = make([]byte, 29<<20)

func fill(b *testing.B, get func() []byte, put func([]byte)) {
	b.SetBytes(int64(len(source)))
	for b.Loop() {
		buf := get()
		copy(buf, source)
		put(buf)
	}
}

// To get a buffer and fill it, from here and from the heap.
func BenchmarkFill(b *testing.B) {
	for i := range source {
		source[i] = 1
	}
	b.Run("heap", func(b *testing.B) { fill(b, func() []byte { return make([]byte, len(source)) }, func([]byte) {}) })
	for name, spare := range map[string]int{"new": 0, "again": 1} {
		p := New(len(source), spare, host{})
		defer p.Close()
		b.Run(name, func(b *testing.B) { fill(b, func() []byte { return get(b, p) }, p.Put) })
	}
}
