package adapters

import (
	"io/fs"

	"lorikeet/adapters/gguf"
	"lorikeet/adapters/peft"
)

// MaxRank is the largest rank that a pool takes by itself.
const MaxRank = 512

// LargestRank is the largest rank among the adapters that exist, as their headers
// tell it, or 0. Adapters beyond MaxRank, and those that can't be read, don't count:
// they are refused, by name, when they are asked for.
func (c *Catalog) LargestRank() int {
	largest := 0
	for _, name := range c.Names() {
		s, ok := c.source(name)
		if !ok {
			continue
		}
		if rank := c.rank(s); rank <= MaxRank {
			largest = max(largest, int(rank))
		}
	}
	return largest
}

// rank is the rank of an adapter, 0 if it can't be read.
func (c *Catalog) rank(s source) float64 {
	if s.gguf {
		rank, err := gguf.Rank(c.fsys, s.path)
		if err != nil {
			return 0
		}
		return float64(rank)
	}
	sub, err := fs.Sub(c.fsys, s.path)
	if err != nil {
		return 0
	}
	rank, err := peft.Rank(sub)
	if err != nil {
		return 0
	}
	return rank
}

// PoolRank is the rank of a pool for adapters up to a rank: the next of 8, 16, 32, …,
// and 16 if there are none.
func PoolRank(largest int) int {
	if largest == 0 {
		return 16
	}
	rank := 8
	for rank < largest {
		rank *= 2
	}
	return rank
}
