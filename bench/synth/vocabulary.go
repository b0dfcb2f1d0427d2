package synth

import "fmt"

// FirstText is the first token that stands for letters. Before it are the unknown
// token, the ends of a text, and a token for each byte.
const FirstText = 3 + 256

// Types of tokens in GGUF.
const (
	normalToken  = 1
	unknownToken = 2
	controlToken = 3
	byteToken    = 6
)

type vocabulary struct {
	pieces []string
	scores []float32
	types  []int32
}

// vocabulary is one of SentencePiece's kind. Every piece of letters is two shorter ones
// put together, so that a text can reach it by merges.
func (c Config) vocabulary() *vocabulary {
	v := &vocabulary{}
	add := func(piece string, score float32, typ int32) {
		if len(v.pieces) < c.Vocabulary {
			v.pieces, v.scores, v.types = append(v.pieces, piece), append(v.scores, score), append(v.types, typ)
		}
	}
	add("<unk>", 0, unknownToken)
	add("<s>", 0, controlToken)
	add("</s>", 0, controlToken)
	for b := range 256 {
		add(fmt.Sprintf("<0x%02X>", b), 0, byteToken)
	}
	const space = "▁"
	letters := make([]string, 26)
	for i := range letters {
		letters[i] = string(rune('a' + i))
	}
	pairs, triples := products(letters, letters), products(letters, products(letters, letters))
	for _, pieces := range [][]string{
		{space}, letters, products([]string{space}, letters), pairs, products([]string{space}, pairs), triples, products([]string{space}, triples),
	} {
		for _, p := range pieces {
			add(p, float32(FirstText-len(v.pieces)), normalToken)
		}
	}
	return v
}

func products(heads, tails []string) []string {
	var all []string
	for _, h := range heads {
		for _, t := range tails {
			all = append(all, h+t)
		}
	}
	return all
}
