package peft

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"lorikeet/adapters/lora"
)

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A config that is made to harm is refused by name, and takes little memory and no depth
// of the stack.
func TestHostileConfigs(t *testing.T) {
	weights := safetensorsFile(t, pair(q)...)
	lora16 := func(more string) string { return `{"peft_type": "LORA", "r": 2, "lora_alpha": 16, ` + more + `}` }
	many := func(n int, member string) string { return strings.TrimSuffix(strings.Repeat(member+",", n), ",") }
	tests := []struct {
		name   string
		config string
		want   string // "" if it may be served
	}{
		{"a million brackets", strings.Repeat("[", 1<<20), "not the JSON expected"},
		{"100k brackets in a member", lora16(`"x": ` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)), "not the JSON expected"},
		{"100k braces in a pattern", lora16(`"rank_pattern": ` + strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)), "not the JSON expected"},
		{"100k times the same member", lora16(many(50_000, `"bias": "none"`)), ""},
		{"100k members", lora16(many(100_000, `"x":1`)), ""},
		{"100k patterns", lora16(`"rank_pattern": {` + many(100_000, `"x":1`) + "}"), "more than 256 patterns"},
		{"300 times a pattern of 300", lora16(many(300, `"rank_pattern": {"x": 1}`)), "more than 256 patterns"},
		{"a pattern that counts to a million", lora16(`"rank_pattern": {"(x{1000}){1000}": 1}`), "error parsing regexp"},
		{"a pattern of 100k parentheses", lora16(`"rank_pattern": {"` + strings.Repeat("(", 100_000) + strings.Repeat(")", 100_000) + `": 1}`), "error parsing regexp"},
		{"r of 2^63", `{"peft_type": "LORA", "r": 9223372036854775808}`, "not the JSON expected"},
		{"r of 2^63-1", `{"peft_type": "LORA", "r": 9223372036854775807}`, "rank 2, but adapter_config.json says "},
		{"r of a million digits", `{"peft_type": "LORA", "r": ` + strings.Repeat("9", 1<<19) + `}`, "not the JSON expected"},
		{"alpha of 1e308", `{"peft_type": "LORA", "r": 2, "lora_alpha": 1e308}`, ""}, // Check refuses the scale
		{"100k invocation tokens", lora16(`"alora_invocation_tokens": [` + many(100_000, "1") + "]"), "not 1 to 64 tokens"},
		{"over the limit", lora16(`"x": "` + strings.Repeat("x", maxConfigSize) + `"`), "are over the limit of 1048576"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fsys := fstest.MapFS{ConfigFile: {Data: []byte(tt.config)}, WeightsFile: {Data: weights}}
			var err error
			n := allocated(func() {
				var a *lora.Adapter
				if a, err = Read(fsys, llama, ""); err == nil {
					a.Close()
				}
			})
			var e *lora.Error
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("%.300v", err)
			case tt.want != "" && (!errors.As(err, &e) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%.300v, want %s", err, tt.want)
			}
			if limit := uint64(1<<20 + 128*len(tt.config)); n > limit {
				t.Errorf("%d bytes were allocated for a config of %d, want at most %d", n, len(tt.config), limit)
			}
		})
	}
}

// Each part of a file that is cut off is missed, by name.
func TestTruncatedAnywhere(t *testing.T) {
	whole := folder(t, plain, pair(q)...)
	for _, name := range []string{ConfigFile, WeightsFile} {
		for n := range whole[name].Data {
			cut := fstest.MapFS{ConfigFile: whole[ConfigFile], WeightsFile: whole[WeightsFile]}
			cut[name] = &fstest.MapFile{Data: whole[name].Data[:n]}
			var e *lora.Error
			if _, err := Read(cut, llama, ""); !errors.As(err, &e) || e.File != name || e.Reason == "" {
				t.Errorf("%s: %v", fmt.Sprint(n, " bytes of ", name), err)
			}
		}
	}
}
