package synth

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"io"
	"math"
	"sync"

	"github.com/x448/float16"
)

// normals returns the quantiles of a normal distribution in F16: a random index gives
// a random weight, several times as fast as computing it.
func normals(std float64) *[1 << 16]uint16 {
	if t, ok := tables.Load(std); ok {
		return t.(*[1 << 16]uint16)
	}
	t := new([1 << 16]uint16)
	for i := range t {
		p := (float64(i) + 0.5) / float64(len(t))
		t[i] = float16.Fromfloat32(float32(std * math.Sqrt2 * math.Erfinv(2*p-1))).Bits()
	}
	tables.Store(std, t)
	return t
}

var tables sync.Map // by deviation

// weights writes n random F16, the first of them zeros.
type weights struct {
	n, zeros int
	table    *[1 << 16]uint16
	seed     uint64
}

// WriteTo implements io.WriterTo. It can be called again and writes the same.
func (w *weights) WriteTo(out io.Writer) (int64, error) {
	const chunk = 1 << 19 // weights
	random := splitMix(w.seed)
	buf := make([]byte, 2*min(w.n, chunk))
	written := int64(0)
	for at := 0; at < w.n; at += chunk {
		part := buf[:2*min(chunk, w.n-at)]
		w.fill(part, &random)
		if zeros := w.zeros - at; zeros > 0 {
			clear(part[:min(2*zeros, len(part))])
		}
		n, err := out.Write(part)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (w *weights) fill(dst []byte, random *splitMix) {
	var bits uint64
	for i := 0; i < len(dst); i += 2 {
		if i%8 == 0 {
			bits = random.next()
		}
		binary.LittleEndian.PutUint16(dst[i:], w.table[uint16(bits)])
		bits >>= 16
	}
}

// ones is a norm's weight in F32.
func ones(n int) io.WriterTo {
	b := make([]byte, 0, 4*n)
	for range n {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(1))
	}
	return bytes.NewReader(b)
}

// splitMix is Steele, Lea and Flood's generator.
type splitMix uint64

func (s *splitMix) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func seedOf(seed uint64, name string) uint64 {
	h := fnv.New64a()
	_ = binary.Write(h, binary.LittleEndian, seed)
	h.Write([]byte(name))
	return h.Sum64()
}
