package lora

import (
	"maps"
	"slices"
	"strings"
)

// Rank is the largest rank of the pairs.
func (a *Adapter) Rank() int {
	rank := 0
	for i := range a.Pairs {
		rank = max(rank, a.Pairs[i].Rank())
	}
	return rank
}

// Targets are the weights that the adapter changes, without their layers, sorted:
// "attn_q" for all "blk.N.attn_q.weight".
func (a *Adapter) Targets() []string {
	found := map[string]bool{}
	for i := range a.Pairs {
		name := strings.TrimSuffix(a.Pairs[i].Weight, ".weight")
		found[name[strings.LastIndexByte(name, '.')+1:]] = true
	}
	return slices.Sorted(maps.Keys(found))
}
