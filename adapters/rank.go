package adapters

// MaxRank is the largest rank that a pool takes by itself.
const MaxRank = 512

// LargestRank is the largest rank among the adapters that exist, as their headers
// tell it, or 0. Adapters beyond MaxRank, and those that can't be read, don't count:
// they are refused, by name, when they are asked for.
func (c *Catalog) LargestRank() int {
	largest := 0
	for _, p := range c.places() {
		if rank := p.rank(); rank <= MaxRank {
			largest = max(largest, int(rank))
		}
	}
	return largest
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
