package lora

import (
	"encoding/binary"
	"math"

	"lorikeet/backend"
)

// converter writes elements of a stored type, by a scale, to dst as elements of a pool's
// type, and tells whether all of them are finite there. The result is that of a product
// in float32, rounded to the nearest, or to the even one of two, in float16.
type converter func(dst, src []byte) (finite bool)

// All elements are little-endian. Several are handled at a time: four of 16 bits in an
// uint64.
var le = binary.LittleEndian

const (
	lanes16     = 0x0001_0001_0001_0001 // times a value of 16 bits: the value in each lane
	sign16      = 0x8000 * lanes16
	exponent16  = 0x7C00 * lanes16
	exponentOne = 0x0400 // 1 in the exponent of a float16; at the largest exponent it carries into the sign

	exponent32 = 0x7F80_0000
	sign32     = 0x8000_0000
)

func newConverter(from DataType, to backend.DataType, scale float32) converter {
	switch {
	case to == backend.F16 && from == F16 && scale == 1:
		return copyHalves
	case to == backend.F16 && from == F32:
		return func(dst, src []byte) bool { return singlesToHalves(dst, src, scale) }
	case to == backend.F16 && from == F16 && isShift(scale):
		return newShift(scale).convert
	case to == backend.F16:
		return newHalves(from, scale).convert
	case from == F32:
		return func(dst, src []byte) bool { return singlesToSingles(dst, src, scale) }
	}
	return newSingles(from, scale).convert
}

// copyHalves copies float16.
func copyHalves(dst, src []byte) bool {
	dst = dst[:len(src)]
	notFinite := uint64(0)
	for ; len(src) >= 32 && len(dst) >= 32; dst, src = dst[32:], src[32:] {
		x, y, z, w := le.Uint64(src), le.Uint64(src[8:]), le.Uint64(src[16:]), le.Uint64(src[24:])
		notFinite |= carry(x) | carry(y) | carry(z) | carry(w)
		le.PutUint64(dst, x)
		le.PutUint64(dst[8:], y)
		le.PutUint64(dst[16:], z)
		le.PutUint64(dst[24:], w)
	}
	for ; len(src) >= 2 && len(dst) >= 2; dst, src = dst[2:], src[2:] {
		x := le.Uint16(src)
		notFinite |= uint64(x&0x7C00 + exponentOne)
		le.PutUint16(dst, x)
	}
	return notFinite&sign16 == 0
}

// carry has the sign set in each lane whose float16 is not finite.
func carry(x uint64) uint64 { return x&exponent16 + exponentOne*lanes16 }

// halves holds the float16 of each element of 16 bits that is not negative, times a scale.
type halves [1 << 15]uint16

func newHalves(from DataType, scale float32) *halves {
	t := new(halves)
	for i := range t {
		h, finite := half(scale * single(uint16(i), from))
		if !finite {
			h = 0x7C00
		}
		t[i] = h
	}
	return t
}

func (t *halves) convert(dst, src []byte) bool {
	dst = dst[:len(src)]
	notFinite := uint64(0)
	for ; len(src) >= 8 && len(dst) >= 8; dst, src = dst[8:], src[8:] {
		x := le.Uint64(src)
		y := uint64(t[x&0x7FFF]) | uint64(t[x>>16&0x7FFF])<<16 | uint64(t[x>>32&0x7FFF])<<32 | uint64(t[x>>48&0x7FFF])<<48
		y ^= x & sign16
		notFinite |= carry(y)
		le.PutUint64(dst, y)
	}
	for ; len(src) >= 2 && len(dst) >= 2; dst, src = dst[2:], src[2:] {
		x := le.Uint16(src)
		y := t[x&0x7FFF] ^ x&0x8000
		notFinite |= uint64(y&0x7C00 + exponentOne)
		le.PutUint16(dst, y)
	}
	return notFinite&sign16 == 0
}

// isShift tells whether the scale is 2^k and k so small that a shift pays.
func isShift(scale float32) bool {
	fraction, exponent := math.Frexp(float64(scale))
	return fraction == 0.5 && -8 < exponent && exponent < 8
}

// shift multiplies float16 by 2^k: k is added to the exponents, where both the element
// and the result are normal numbers, as nearly all are.
type shift struct {
	scale       float32
	least, most uint64 // exponents of such elements, in each lane; most with the sign set
	add         uint64
}

func newShift(scale float32) *shift {
	k := math.Ilogb(float64(scale))
	return &shift{
		scale: scale,
		least: uint64(max(1, 1-k)) * exponentOne * lanes16,
		most:  uint64(min(30, 30-k))*exponentOne*lanes16 | sign16,
		add:   uint64(k) * exponentOne * lanes16, // of a negative k too: no lane borrows in sum
	}
}

func (s *shift) convert(dst, src []byte) bool {
	dst = dst[:len(src)]
	finite := true
	for ; len(src) >= 32 && len(dst) >= 32; dst, src = dst[32:], src[32:] {
		x, y, z, w := le.Uint64(src), le.Uint64(src[8:]), le.Uint64(src[16:]), le.Uint64(src[24:])
		if s.normal(x)&s.normal(y)&s.normal(z)&s.normal(w)&sign16 != sign16 {
			finite = s.convertFew(dst[:32], src[:32]) && finite
			continue
		}
		le.PutUint64(dst, x+s.add)
		le.PutUint64(dst[8:], y+s.add)
		le.PutUint64(dst[16:], z+s.add)
		le.PutUint64(dst[24:], w+s.add)
	}
	return s.convertFew(dst, src) && finite
}

// normal has the sign set in each lane where the element and the result are normal.
func (s *shift) normal(x uint64) uint64 {
	e := x & exponent16
	return ((e | sign16) - s.least) & (s.most - e)
}

func (s *shift) convertFew(dst, src []byte) bool {
	finite := true
	for ; len(src) >= 8 && len(dst) >= 8; dst, src = dst[8:], src[8:] {
		switch x := le.Uint64(src); {
		case s.normal(x)&sign16 == sign16:
			le.PutUint64(dst, x+s.add)
		case x&^sign16 == 0:
			le.PutUint64(dst, x)
		default:
			finite = halvesToHalves(dst[:8], src[:8], s.scale) && finite
		}
	}
	return halvesToHalves(dst, src, s.scale) && finite
}

func halvesToHalves(dst, src []byte, scale float32) bool {
	finite := true
	for ; len(src) >= 2 && len(dst) >= 2; dst, src = dst[2:], src[2:] {
		h, ok := half(scale * single(le.Uint16(src), F16))
		finite = finite && ok
		le.PutUint16(dst, h)
	}
	return finite
}

func singlesToHalves(dst, src []byte, scale float32) bool {
	dst = dst[:len(src)/2]
	finite := true
	for ; len(src) >= 4 && len(dst) >= 2; dst, src = dst[2:], src[4:] {
		h, ok := half(scale * math.Float32frombits(le.Uint32(src)))
		finite = finite && ok
		le.PutUint16(dst, h)
	}
	return finite
}

func singlesToSingles(dst, src []byte, scale float32) bool {
	dst = dst[:len(src)]
	notFinite := uint32(0)
	for ; len(src) >= 4 && len(dst) >= 4; dst, src = dst[4:], src[4:] {
		y := math.Float32bits(scale * math.Float32frombits(le.Uint32(src)))
		notFinite |= y&exponent32 + 1<<23
		le.PutUint32(dst, y)
	}
	return notFinite&sign32 == 0
}

// singles holds the float32 of each element of 16 bits that is not negative, times a scale.
type singles [1 << 15]uint32

func newSingles(from DataType, scale float32) *singles {
	t := new(singles)
	for i := range t {
		t[i] = math.Float32bits(scale * single(uint16(i), from))
	}
	return t
}

func (t *singles) convert(dst, src []byte) bool {
	dst = dst[:2*len(src)]
	notFinite := uint32(0)
	for ; len(src) >= 2 && len(dst) >= 4; dst, src = dst[4:], src[2:] {
		x := uint32(le.Uint16(src))
		y := t[x&0x7FFF] ^ x&0x8000<<16
		notFinite |= y&exponent32 + 1<<23
		le.PutUint32(dst, y)
	}
	return notFinite&sign32 == 0
}

// single returns an element of 16 bits.
func single(x uint16, from DataType) float32 {
	if from == BF16 {
		return math.Float32frombits(uint32(x) << 16)
	}
	sign := uint32(x&0x8000) << 16
	rest := uint32(x&0x7FFF) << 13
	switch {
	case rest >= 0x7C00<<13: // infinite, or not a number
		return math.Float32frombits(sign | rest | exponent32)
	case rest < exponentOne<<13: // a number of steps of 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(x&0x7FFF)*0x1p-24))
	}
	return math.Float32frombits(sign | rest + (127-15)<<23)
}

// half rounds to a float16.
func half(f float32) (h uint16, finite bool) {
	u := math.Float32bits(f)
	sign := uint16(u >> 16 & 0x8000)
	u &= 0x7FFF_FFFF
	switch {
	case u >= 0x477F_F000: // 65520, which is rounded to infinity
		return sign, false
	case u < 0x3880_0000: // below 2^-14 the steps are of 2^-24, as those of float32 are from 0.5 on
		return sign | uint16(math.Float32bits(math.Float32frombits(u)+0.5)-math.Float32bits(0.5)), true
	}
	u += 0xFFF + u>>13&1
	return sign | uint16((u-(127-15)<<23)>>13), true
}
