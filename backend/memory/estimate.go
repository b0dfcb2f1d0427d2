package memory

import (
	"slices"

	"lorikeet/backend"
)

// Device is a place for weights and tensors. The first of a list is host memory; the
// others are GPUs.
type Device struct {
	Name string
	Free int64 // bytes
}

// Use is what a base takes of a device, in bytes.
type Use struct {
	Device
	Layers  int   // that are computed there
	Mapped  int64 // weights that are pages of the file: the system may let go of them
	Weights int64
	Cache   int64
	Pool    int64
	Compute int64 // intermediate results of a step
	Runtime int64 // what CUDA takes for itself
}

// Total is what is allocated.
func (u *Use) Total() int64 { return u.Weights + u.Cache + u.Pool + u.Compute + u.Runtime }

// Plan is what a base takes of each device, in the order of the devices.
type Plan []Use

// Fits tells whether every device has what the plan takes of it.
func (p Plan) Fits() bool {
	return !slices.ContainsFunc(p, func(u Use) bool { return u.Total() > u.Free })
}

// runtime is what a GPU loses to CUDA's context, the kernels' code and cuBLAS, whatever
// the model: an allowance, which was not measured.
const runtime = 640 << 20

// Estimate tells what a base takes of each device; if that does not fit, it also gives
// an *Error. There is at least one device, the host, and as many shares in the Config as
// GPUs, or none.
func Estimate(m *Model, c Config, devices []Device) (Plan, error) {
	p := plan(m, c, devices)
	if !p.Fits() {
		return p, &Error{Plan: p, Layers: len(m.Layers), Advice: advise(m, c, devices)}
	}
	return p, nil
}

func plan(m *Model, c Config, devices []Device) Plan {
	p := make(Plan, len(devices))
	for i, d := range devices {
		p[i].Device = d
	}
	// In host memory, weights that are computed with as they stand in the file are
	// mapped; quantized ones are laid out anew.
	addWeights := func(at int, bytes int64) {
		if at == 0 && !m.Quantized {
			p[at].Mapped += bytes
		} else {
			p[at].Weights += bytes
		}
	}
	at := place(len(m.Layers), c, devices)
	output := at[len(m.Layers)]
	p[0].Mapped += m.Input
	for i, l := range m.Layers {
		u := &p[at[i]]
		u.Layers++
		addWeights(at[i], l.Bytes)
		u.Cache += cells(c) * int64((l.Key+l.Value)*c.CacheType.Size())
		u.Pool += poolBytes(l.Targets, c)
	}
	addWeights(output, m.Output)
	if m.Tied && output > 0 {
		addWeights(output, m.Input)
	}
	p[output].Pool += poolBytes(m.Targets, c)
	copies := int64(1)
	if at[0] > 0 && slices.Max(at) > slices.Min(at) {
		copies = 4 // over several GPUs, llama.cpp computes as a pipeline (GGML_SCHED_MAX_COPIES)
	}
	for i := range p {
		u := &p[i]
		u.Compute = compute(m, c, u.Layers > 0, i == output, i > 0, copies)
		if i > 0 && u.Compute > 0 {
			u.Runtime = runtime
		}
	}
	p[0].Compute += int64(m.Vocabulary) * int64(c.Sequences) * 4 // the logits of a step, to be read
	return p
}

// place tells on which device each layer lies, and last, the output, as llama.cpp
// assigns them: the last layers to the GPUs, in their order.
func place(layers int, c Config, devices []Device) []int {
	at := make([]int, layers+1)
	gpus := devices[1:]
	n := c.GPULayers
	if n < 0 || n > layers+1 {
		n = layers + 1
	}
	if len(gpus) == 0 || n == 0 {
		return at
	}
	bounds, sum := make([]float64, len(gpus)), 0.0
	for i, g := range gpus {
		share := float64(g.Free)
		if len(c.Split) > 0 {
			share = c.Split[i]
		}
		sum += share
		bounds[i] = sum
	}
	first := max(0, layers-n)
	for i := first; i <= layers && i-first < n; i++ {
		part := float64(i-first) / float64(n) * sum
		gpu := slices.IndexFunc(bounds, func(b float64) bool { return part < b })
		at[i] = 1 + max(0, gpu)
	}
	return at
}

// cells are those of the KV cache, which llama.cpp rounds up.
func cells(c Config) int64 { return int64(c.CacheTokens+255) / 256 * 256 }

func poolBytes(weights []backend.Weight, c Config) int64 {
	if c.Slots < 2 {
		return 0
	}
	pool := backend.Pool{Slots: c.Slots, Rank: c.Rank, Type: c.PoolType, Weights: weights}
	return int64(c.Slots) * int64(pool.ImageSize())
}

// compute is the most that a step's intermediate results take of a device at once. Their
// memory is used again from layer to layer, so the largest of three places counts:
// attention, feed-forward and output. llama.cpp's allocator also uses the place of the
// mask again where it fits, which is left out: so much the estimate may be too large.
func compute(m *Model, c Config, layers, output, gpu bool, copies int64) int64 {
	const f32 = 4
	tokens, n := int64(c.StepTokens), cells(c)
	hidden, forward, vocabulary := tokens*int64(m.Hidden)*f32, tokens*int64(m.FeedForward)*f32, tokens*int64(m.Vocabulary)*f32
	if !layers && !output {
		if gpu {
			return 0
		}
		return hidden * copies // embeddings, on their way to a GPU
	}
	attention, feed, head := int64(0), int64(0), int64(0)
	if layers {
		mask := n * tokens * f32 * copies
		if c.Flash {
			mask += n * tokens * 2 // again in F16
		}
		attention = mask + 4*hidden
		if !c.Flash {
			attention += n * tokens * int64(m.Heads) * f32
		}
		feed = mask + hidden + 3*forward
		if c.Slots > 1 {
			feed += forward + tokens*int64(c.Rank)*f32
		}
		if gpu {
			feed += (hidden + forward) / 2 // again in F16
		}
	}
	if output {
		head = vocabulary + hidden
		if gpu {
			head += vocabulary / 2 // cuBLAS answers in F16, which is widened
		}
	}
	return max(attention, feed, head)
}
