package files

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
)

func TestDigest(t *testing.T) {
	counting := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i * 7)
		}
		return b
	}
	contents := [][]byte{nil, counting(1), counting(chunkSize), counting(chunkSize + 1), counting(3*chunkSize - 1)}
	digest := func(contents ...[]byte) string {
		var all []*File
		for _, c := range contents {
			all = append(all, &File{Name: "x", Data: c})
		}
		d, err := Digest(all...)()
		must(t, err)
		return d
	}
	seen := map[string]string{}
	for i, first := range contents {
		for j, second := range contents {
			var text bytes.Buffer
			for _, c := range [][]byte{first, second} {
				fmt.Fprintf(&text, "%d\n", len(c))
				for len(c) > 0 {
					part := c[:min(64*1024, len(c))]
					sum := sha256.Sum256(part)
					text.Write(sum[:])
					c = c[len(part):]
				}
			}
			want := sha256.Sum256(text.Bytes())
			got := digest(first, second)
			if got != hex.EncodeToString(want[:]) {
				t.Errorf("%d bytes and %d: %s", len(first), len(second), got)
			}
			what := fmt.Sprint(i, j)
			if other, twice := seen[got]; twice {
				t.Errorf("%s and %s have the same digest", other, what)
			}
			seen[got] = what
		}
	}
	for _, at := range []int{0, chunkSize - 1, chunkSize, 2*chunkSize + 5} {
		c := counting(3 * chunkSize)
		before := digest(c)
		c[at]++
		if digest(c) == before {
			t.Errorf("byte %d does not matter", at)
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	f := &File{Data: make([]byte, 13<<20)}
	b.SetBytes(int64(len(f.Data)))
	for b.Loop() {
		if _, err := Digest(f)(); err != nil {
			b.Fatal(err)
		}
	}
}
