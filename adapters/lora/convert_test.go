package lora

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/x448/float16"

	"lorikeet/backend"
)

// plainly converts one element after the other, as the definition says.
func plainly(dst, src []byte, from DataType, to backend.DataType, scale float32) bool {
	finite := true
	for i := range len(src) / from.Size() {
		var f float32
		switch in := src[i*from.Size():]; from {
		case F32:
			f = math.Float32frombits(binary.LittleEndian.Uint32(in))
		case F16:
			f = float16.Frombits(binary.LittleEndian.Uint16(in)).Float32()
		case BF16:
			f = math.Float32frombits(uint32(binary.LittleEndian.Uint16(in)) << 16)
		}
		f *= scale
		switch out := dst[i*to.Size():]; to {
		case backend.F32:
			binary.LittleEndian.PutUint32(out, math.Float32bits(f))
			finite = finite && !math.IsNaN(float64(f)) && !math.IsInf(float64(f), 0)
		case backend.F16:
			h := float16.Fromfloat32(f)
			binary.LittleEndian.PutUint16(out, h.Bits())
			finite = finite && h.IsFinite()
		}
	}
	return finite
}

var (
	stored = map[string]DataType{"F32": F32, "F16": F16, "BF16": BF16}
	pools  = []backend.DataType{backend.F32, backend.F16}
)

func TestConverters(t *testing.T) {
	scales := []float32{
		1, -1, 0, 2, 0.5, -2, 4, 256, 512, 1.0 / 256, 1.0 / 512, 0x1p-24, 0x1p-126, 0x1p-149, 0x1p127, 3, -0.1, 1.0 / 3, 65504, 1e-8, 3e38,
		float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.Copysign(0, -1)),
	}
	random := rand.New(rand.NewPCG(1, 2))
	for name, from := range stored {
		elements := everything(from, random)
		for _, to := range pools {
			for _, scale := range scales {
				t.Run(fmt.Sprintf("%s in %v by %v", name, to, scale), func(t *testing.T) {
					convert := newConverter(from, to, scale)
					check := func(src []byte) (finite bool) {
						t.Helper()
						n := len(src) / from.Size() * to.Size()
						want, got := make([]byte, n), make([]byte, n)
						finite = plainly(want, src, from, to, scale)
						if convert(got, src) != finite {
							t.Fatalf("%x: finite is %v", src, !finite)
						}
						if finite && !bytes.Equal(got, want) {
							t.Fatalf("%x: %x, want %x", src, got, want)
						}
						return finite
					}
					var good, bad []byte
					for i := 0; i < len(elements); i += from.Size() { // alone, so that nothing hides behind a neighbour
						if e := elements[i : i+from.Size()]; check(e) {
							good = append(good, e...)
						} else {
							bad = append(bad, e...)
						}
					}
					for i := 0; i < len(good); { // as many at a time as there are ways to go through them
						n := min((1+random.IntN(50))*from.Size(), len(good)-i)
						block := good[i : i+n]
						i += n
						check(block)
						if len(bad) > 0 { // one among them
							block = bytes.Clone(block)
							copy(block[random.IntN(n/from.Size())*from.Size():], bad[random.IntN(len(bad)/from.Size())*from.Size():][:from.Size()])
							check(block)
						}
					}
				})
			}
		}
	}
}

// everything is each element of 16 bits, or of 32 bits some of each sign and exponent, in
// a random order.
func everything(typ DataType, random *rand.Rand) []byte {
	var all []byte
	if typ != F32 {
		for _, i := range random.Perm(1 << 16) {
			all = binary.LittleEndian.AppendUint16(all, uint16(i))
		}
		return all
	}
	var bits []uint32
	for exponent := range uint32(1 << 9) { // and sign
		for range 8 {
			x := exponent<<23 | random.Uint32()>>9
			bits = append(bits, x, x&^0x1FFF, x&^0x1FFF|0x0FFF, x&^0x1FFF|0x1000, x&^0x1FFF|0x1001) // what is rounded one way, the other way, or is between
		}
	}
	random.Shuffle(len(bits), func(i, k int) { bits[i], bits[k] = bits[k], bits[i] })
	for _, b := range bits {
		all = binary.LittleEndian.AppendUint32(all, b)
	}
	return all
}

func BenchmarkConvert(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, from := range stored {
		src := make([]byte, from.Size()<<18)
		for i := range 1 << 18 {
			f := float32(random.NormFloat64() * 0.02)
			switch from {
			case F32:
				binary.LittleEndian.PutUint32(src[4*i:], math.Float32bits(f))
			case F16:
				binary.LittleEndian.PutUint16(src[2*i:], float16.Fromfloat32(f).Bits())
			case BF16:
				binary.LittleEndian.PutUint16(src[2*i:], uint16(math.Float32bits(f)>>16))
			}
		}
		for _, to := range pools {
			dst := make([]byte, to.Size()<<18)
			for _, scale := range []float32{1, 2, 3} {
				convert := newConverter(from, to, scale)
				b.Run(fmt.Sprintf("%s/%v/by%v", name, to, scale), func(b *testing.B) {
					b.SetBytes(int64(len(src)))
					for b.Loop() {
						convert(dst, src)
					}
				})
			}
		}
	}
	for name, from := range stored {
		if from != F32 {
			b.Run("table/"+name, func(b *testing.B) {
				for b.Loop() {
					newHalves(from, 3)
				}
			})
		}
	}
}
