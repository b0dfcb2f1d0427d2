package cli

import (
	"bytes"
	"encoding/binary"
)

// tinyGGUF is an adapter of rank 2 for the query projection of the fake engine.
func tinyGGUF() []byte {
	var b bytes.Buffer
	le := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // a buffer takes everything
	text := func(s string) { le(uint64(len(s))); b.WriteString(s) }
	b.WriteString("GGUF")
	le(uint32(3))
	le(uint64(2)) // tensors
	meta := [][2]string{{"general.type", "adapter"}, {"general.architecture", "llama"}, {"adapter.type", "lora"}}
	le(uint64(len(meta)))
	for _, m := range meta {
		text(m[0])
		le(uint32(8)) // a string
		text(m[1])
	}
	for i, name := range []string{"blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b"} {
		text(name)
		le(uint32(2))
		le([][2]uint64{{8, 2}, {2, 8}}[i])
		le(uint32(0)) // F32
		le(uint64(64 * i))
	}
	b.Write(make([]byte, -b.Len()&31))
	b.Write(bytes.Repeat([]byte{0, 0, 0x80, 0x3f}, 32)) // ones
	return b.Bytes()
}
