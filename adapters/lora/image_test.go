package lora

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"lorikeet/backend"
)

// wide is a base with many weights, and an adapter for all of them with the matrices'
// data from a source.
func wide(data func(n int) []byte) (*backend.ModelInfo, *Adapter) {
	const weights, in, out, rank = 40, 512, 256, 8
	m := &backend.ModelInfo{Pool: backend.Pool{Rank: rank, Type: backend.F16}}
	a := &Adapter{File: "x.gguf"}
	for i := range weights {
		w := backend.Weight{Name: fmt.Sprint("w", i), In: in, Out: out}
		m.Pool.Weights = append(m.Pool.Weights, w)
		a.Pairs = append(a.Pairs, Pair{
			Weight: w.Name, Scale: 1,
			A: Matrix{Name: w.Name + ".a", Rows: rank, Cols: in, Type: F32, Data: data(rank * in * 4)},
			B: Matrix{Name: w.Name + ".b", Rows: out, Cols: rank, Type: F32, Data: data(rank * out * 4)},
		})
	}
	return m, a
}

// Of several matrices that can't be laid out, the first in the pool's order is told,
// whichever core meets one first.
func TestFirstErrorIsTold(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	m, a := wide(func(n int) []byte { return make([]byte, n) })
	for i := 11; i < len(a.Pairs); i += 3 {
		binary.LittleEndian.PutUint32(a.Pairs[i].B.Data[400:], math.Float32bits(float32(math.Inf(1))))
	}
	slices.Reverse(a.Pairs) // the order of the files does not matter
	for range 100 {
		if _, err := image(m, []Scaled{{a, 1}}); err == nil || err.Error() != `x.gguf: tensor "w11.b": holds a value that is not finite in the pool's `+m.Pool.Type.String() {
			t.Fatal(err)
		}
	}
}

// A file that is cut while its adapter is laid out is an error, not the end of the
// process, on whichever core.
func TestFileIsCutBeforeTheImage(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	path := filepath.Join(t.TempDir(), "file")
	const size = 4 << 20
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mapped, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	rest := mapped
	m, cut := wide(func(n int) []byte { defer func() { rest = rest[n:] }(); return rest[:n] })
	cut.Own(func() { _ = syscall.Munmap(mapped) })
	defer cut.Close()
	_, whole := wide(func(n int) []byte { return make([]byte, n) })
	m.Pool.Rank *= 2
	whole.File, cut.File = "whole.gguf", "cut.gguf"
	both := []Scaled{{whole, 1}, {cut, 1}}
	if _, err := image(m, both); err != nil {
		t.Fatal(err)
	}
	for _, left := range []int64{512 << 10, 100 << 10, 0} {
		if err := os.Truncate(path, left); err != nil {
			t.Fatal(err)
		}
		if _, err := image(m, both); err == nil || err.Error() != "cut.gguf: became shorter while it was read" {
			t.Errorf("%d bytes are left: %v", left, err)
		}
	}
}

func TestClose(t *testing.T) {
	released := ""
	a := adapter(t, F32)
	a.Own(func() { released += "a" })
	a.Own(func() { released += "b" })
	a.Close()
	a.Close()
	if released != "ab" {
		t.Errorf("released %q", released)
	}
	if a.Pairs[0].A.Data != nil || a.Pairs[1].B.Data != nil {
		t.Error("a matrix is still there")
	}
}

// BenchmarkImage lays out an adapter for all matrices of a base of 200 M parameters, in
// a pool of its rank, by the type of the files and of the pool; bytes are the file's.
func BenchmarkImage(b *testing.B) {
	const hidden, kv, feedForward, layers = 1024, 512, 2816, 12
	shapes := []struct {
		in, out, heads int
	}{{hidden, hidden, 16}, {hidden, kv, 8}, {hidden, kv, 0}, {hidden, hidden, 0}, {hidden, feedForward, 0}, {hidden, feedForward, 0}, {feedForward, hidden, 0}}
	random := rand.NewChaCha8([32]byte{})
	for _, name := range []string{"F16", "BF16", "F32"} {
		typ := stored[name]
		matrix := func(rows, cols, heads int) Matrix {
			m := Matrix{Rows: rows, Cols: cols, Type: typ, Data: make([]byte, rows*cols*typ.Size()), Heads: heads}
			_, _ = random.Read(m.Data)
			for i := typ.Size() - 1; i < len(m.Data); i += typ.Size() { // of about 2^-4 to 2^-2
				m.Data[i] = m.Data[i]&0x80 | map[DataType]byte{F16: 0x2D, BF16: 0x3D, F32: 0x3D}[typ]
			}
			return m
		}
		for _, pool := range pools {
			for _, rank := range []int{4, 8, 16, 32, 64} {
				m := &backend.ModelInfo{Pool: backend.Pool{Rank: rank, Type: pool}}
				a := &Adapter{}
				size := 0
				for i := range layers {
					for j, s := range shapes {
						w := backend.Weight{Name: fmt.Sprintf("blk.%d.%d", i, j), In: s.in, Out: s.out}
						m.Pool.Weights = append(m.Pool.Weights, w)
						p := Pair{Weight: w.Name, A: matrix(rank, s.in, 0), B: matrix(s.out, rank, s.heads), Scale: 2}
						a.Pairs = append(a.Pairs, p)
						size += len(p.A.Data) + len(p.B.Data)
					}
				}
				dst := make([]byte, m.Pool.ImageSize())
				b.Run(fmt.Sprintf("%s-in-%v/rank%d", name, pool, rank), func(b *testing.B) {
					b.SetBytes(int64(size))
					for b.Loop() {
						if err := Image(dst, m, []Scaled{{a, 1}}); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
