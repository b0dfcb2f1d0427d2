package memory

import (
	"fmt"
	"strings"

	"lorikeet/backend"
)

// Error says that a base does not fit: what it takes, and what would make it fit.
type Error struct {
	Plan   Plan
	Layers int      // that the base has
	Advice []string // changes of the configuration, each of which is enough
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("not enough memory: ")
	first := true
	for _, u := range e.Plan {
		if u.Total() <= u.Free {
			continue
		}
		if !first {
			b.WriteString("; ")
		}
		first = false
		fmt.Fprintf(&b, "%s has %s free and the base takes %s (weights %s, KV cache %s, adapter pool %s, computation %s",
			u.Name, Bytes(u.Free), Bytes(u.Total()), Bytes(u.Weights), Bytes(u.Cache), Bytes(u.Pool), Bytes(u.Compute))
		if u.Runtime > 0 {
			fmt.Fprintf(&b, ", CUDA %s", Bytes(u.Runtime))
		}
		fmt.Fprintf(&b, "; %d of %d layers)", u.Layers, e.Layers)
	}
	if len(e.Advice) == 0 {
		b.WriteString(". No single setting makes it fit: take a smaller or more strongly quantized base, or more than one of fewer gpu_layers, fewer slots and a smaller cache_tokens")
	} else {
		b.WriteString(". It would fit with " + strings.Join(e.Advice, ", or with "))
	}
	return b.String()
}

// Bytes writes a number of bytes for people.
func Bytes(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.0f GiB", float64(n)/(1<<30))
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
}

// advise names the changes that make a base fit, one at a time, each as small as it can be.
func advise(m *Model, c Config, devices []Device) []string {
	var advice []string
	fits := func(change func(*Config)) bool {
		changed := c
		change(&changed)
		return plan(m, changed, devices).Fits()
	}
	suggest := func(name string, n int) {
		if n >= 0 {
			advice = append(advice, fmt.Sprintf("%s: %d", name, n))
		}
	}
	if c.CacheType == backend.F32 && fits(func(c *Config) { c.CacheType = backend.F16 }) {
		advice = append(advice, "kv_cache_type: f16")
	}
	// Slot 0 is not counted.
	suggest("slots", below(c.Slots-1, 1, func(n int) bool { return fits(func(c *Config) { c.Slots = n + 1 }) }))
	suggest("cache_tokens", below(c.CacheTokens, max(256, c.Context), func(n int) bool { return fits(func(c *Config) { c.CacheTokens = n }) }))
	if len(devices) > 1 && c.GPULayers != 0 {
		n := len(m.Layers) + 1
		if c.GPULayers > 0 {
			n = min(n, c.GPULayers)
		}
		// Too few layers on the GPUs may be too many for the host: each number is tried.
		for n--; n >= 0 && !fits(func(c *Config) { c.GPULayers = n }); n-- {
		}
		suggest("gpu_layers", n)
	}
	return advice
}

// below finds the largest n in [least, now) for which ok holds; it holds for all below
// one for which it holds. -1: there is none.
func below(now, least int, ok func(int) bool) int {
	if now <= least || !ok(least) {
		return -1
	}
	low, high := least, now // ok(low), not ok(high)
	for high-low > 1 {
		if mid := (low + high) / 2; ok(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}
