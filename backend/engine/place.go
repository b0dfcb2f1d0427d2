package engine

import (
	"bufio"
	"errors"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"

	"lorikeet/backend"
	"lorikeet/backend/devices"
	"lorikeet/backend/llama"
	"lorikeet/backend/memory"
)

// Place decides where the base is computed, from the devices that there are, and whether
// it fits there, if Sizes tell its size. Nothing is loaded. Errors are *devices.Error,
// *memory.Error, or *llama.Error of a device that fails.
func (p Params) Place() (llama.ModelParams, error) {
	where, chosen, err := p.choose(llama.FindDevices())
	if err != nil || p.Sizes == nil {
		return where, err
	}
	there := []memory.Device{{Name: "CPU", Free: hostFree()}}
	for _, d := range chosen {
		free, _, err := llama.Memory(d)
		if err != nil {
			return where, err
		}
		there = append(there, memory.Device{Name: d.Name, Free: free})
	}
	plan, err := memory.Estimate(p.Sizes, p.memory(len(chosen) > 0, where), there)
	for _, u := range plan {
		slog.Debug("memory", "base", p.Path, "device", u.Name, "free", memory.Bytes(u.Free), "layers", u.Layers, "weights", memory.Bytes(u.Weights), "mapped", memory.Bytes(u.Mapped),
			"cache", memory.Bytes(u.Cache), "pool", memory.Bytes(u.Pool), "compute", memory.Bytes(u.Compute))
	}
	return where, err
}

func (p Params) choose(found devices.Found) (llama.ModelParams, []devices.Device, error) {
	layers, chosen, err := devices.Choose(devices.Wish{Layers: p.GPULayers, Names: p.Devices, Split: p.Split}, found)
	where := llama.ModelParams{GPULayers: layers, Split: p.Split}
	for _, d := range chosen {
		where.Devices = append(where.Devices, d.Name)
	}
	return where, chosen, err
}

// memory is what Estimate is to count with, defaults included.
func (p Params) memory(gpu bool, where llama.ModelParams) memory.Config {
	p.setDefaults(p.Sizes.Context)
	p.setTypes(p.Sizes.F32)
	return memory.Config{
		GPULayers: where.GPULayers, Split: where.Split,
		Context: p.Context, CacheTokens: p.CacheTokens, CacheType: *p.CacheType, StepTokens: p.StepTokens, Sequences: p.Sequences,
		Flash: p.Flash == nil || *p.Flash,
		Slots: max(0, p.Slots) + 1, Rank: memory.PadRank(p.Rank, *p.PoolType, gpu), PoolType: *p.PoolType,
	}
}

// setTypes chooses the types that are not set; f32 says that all of the base's matrices are.
func (p *Params) setTypes(f32 bool) {
	typ := backend.F16
	if f32 {
		typ = backend.F32
	}
	if p.CacheType == nil {
		p.CacheType = &typ
	}
	if p.PoolType == nil {
		p.PoolType = &typ
	}
}

// flash is how attention is to be computed, on the CPU by our own kernel, which reads no
// cell of another sequence.
func (p *Params) flash(gpu bool) llama.FlashAttention {
	switch {
	case p.Flash != nil && !*p.Flash:
		return llama.FlashOff
	case gpu:
		return llama.FlashAuto
	}
	return llama.FlashOn
}

// errNoFlash says that flash attention was asked for, and can't be had.
var errNoFlash = errors.New("flash attention can't be computed for this base on these devices: set flash_attention to auto")

// hostFree is the memory that this process can still get: of the machine, and of its
// container, if it has a limit. What is not known is no limit.
func hostFree() int64 {
	free := int64(math.MaxInt64)
	if f, err := os.Open("/proc/meminfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) > 1 && fields[0] == "MemAvailable:" {
				if kb, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
					free = kb << 10
				}
			}
		}
	}
	limit, okLimit := number("/sys/fs/cgroup/memory.max")
	used, okUsed := number("/sys/fs/cgroup/memory.current")
	if okLimit && okUsed {
		free = min(free, max(0, limit-used))
	}
	return free
}

// number reads a file that holds one; "max" is none.
func number(file string) (int64, bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}

// PinMemory implements backend.Engine.
func (e *Engine) PinMemory(b []byte) {
	if e.onGPU && !llama.Pin(b) {
		slog.Debug("images can't be pinned: their uploads are slower", "bytes", len(b))
	}
}

// UnpinMemory implements backend.Engine.
func (e *Engine) UnpinMemory(b []byte) {
	if e.onGPU {
		llama.Unpin(b)
	}
}
