package api

import (
	"fmt"
	"math"
)

// Limits of the lora field.
const (
	MaxLoRAs = 8
	MaxScale = 16 // either way
)

// LoRA asks for an adapter beside the model field, at a scale.
type LoRA struct {
	Name  string // "" if ID tells which
	ID    int    // as GET /lora-adapters counts; -1 if Name tells which
	Scale float32
}

func (f *fields) lora() []LoRA {
	v, ok := f.raw["lora"]
	if !ok {
		return nil
	}
	const want = "an array of {name, scale} or {id, scale}"
	var out []LoRA
	for i, e := range f.elements("lora", v, want, MaxLoRAs) {
		sub, ok := parseMembers(e, fmt.Sprintf("lora[%d]", i))
		if !ok {
			f.fail(wrongType("lora", want, e))
			return nil
		}
		l := LoRA{
			Name: sub.text("name"), ID: sub.integer("id", -1, 0, math.MaxInt32),
			Scale: float32(sub.number("scale", 1, -MaxScale, MaxScale)),
		}
		switch {
		case l.Name == "" && l.ID < 0:
			sub.missing("name")
		case l.Name != "" && l.ID >= 0:
			sub.fail(Invalid("lora", "invalid_value", "Invalid 'lora[%d]': it has both a name and an id.", i))
		}
		f.fail(sub.err)
		out = append(out, l)
	}
	return out
}
