package synth

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/x448/float16"
)

// Type is how the matrices of a base's layers are stored.
type Type int

// Types of matrices.
const (
	F16 Type = iota
	Q8_0
	Q4_0
)

// Quantized matrices come in blocks of so many weights: an F16 scale, then the weights.
const blockWeights = 32

// quantization describes the blocks of a type.
var quantization = map[Type]struct {
	ggml  uint32
	bytes int     // of a block, its scale included
	std   float64 // of the integers, which are evenly distributed
}{
	Q8_0: {8, 2 + 32, 256 / math.Sqrt(12)},
	Q4_0: {2, 2 + 16, 16 / math.Sqrt(12)},
}

// blocks writes n random quantized weights.
type blocks struct {
	n    int
	typ  Type
	std  float64
	seed uint64
}

// WriteTo implements io.WriterTo. It can be called again and writes the same.
func (b *blocks) WriteTo(out io.Writer) (int64, error) {
	q := quantization[b.typ]
	scale := float16.Fromfloat32(float32(b.std / q.std)).Bits()
	random := splitMix(b.seed)
	const chunk = 1 << 14 // blocks
	written := int64(0)
	for left := b.n / blockWeights; left > 0; left -= chunk {
		buf := make([]byte, 0, min(left, chunk)*q.bytes)
		for range min(left, chunk) {
			buf = binary.LittleEndian.AppendUint16(buf, scale)
			for range (q.bytes - 2) / 8 {
				buf = binary.LittleEndian.AppendUint64(buf, random.next())
			}
		}
		n, err := out.Write(buf)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
