package safetensors

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Headers that speak of much take no more memory than their own size allows.
func TestHostileHeadersTakeLittleMemory(t *testing.T) {
	entries := func(n int, text string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, ","+text, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	const empty = `"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`
	tests := []struct {
		name   string
		header string
		want   string
		bytes  uint64 // that may be allocated
	}{
		{"100k tensors", entries(MaxTensors, empty), "", 64 << 20},
		{"100k tensors and one", entries(MaxTensors+1, empty), "more than 100000 tensors", 64 << 20},
		{"100k texts of metadata", `{"__metadata__":` + entries(MaxTensors, `"%d":"x"`) + "}", "", 8 << 20},
		{"100k times the same text of metadata", `{"__metadata__":{` + strings.Repeat(`"a":"b",`, MaxTensors) + `"a":"b"}}`, "", 8 << 20},
		{"100k times the same tensor", `{` + strings.Repeat(`"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},`, MaxTensors) + `"y":{}}`, `"x" occurs twice`, 1 << 16},
		{"100k times the same member", `{"x":{` + strings.Repeat(`"dtype":"U8",`, MaxTensors) + `"shape":[]}}`, "occurs twice", 1 << 16},
		{"a million dimensions", `{"x":{"dtype":"U8","shape":[` + strings.Repeat("1,", 1<<20) + `1],"data_offsets":[0,1]}}`, "more than 8 dimensions", 1 << 16},
		{"a million offsets", `{"x":{"dtype":"U8","shape":[],"data_offsets":[` + strings.Repeat("0,", 1<<20) + `1]}}`, "more than two", 1 << 16},
		{"a number of a million digits", `{"x":{"dtype":"U8","shape":[` + strings.Repeat("9", 1<<20) + `],"data_offsets":[0,1]}}`, "is too large", 4 << 20},
		{"a million brackets", strings.Repeat("[", 1<<20), "not a JSON object", 1 << 16},
		{"a million braces", strings.Repeat(`{"a":`, 1<<20), `"a" is unknown`, 1 << 16},
		{"a million braces of metadata", `{"__metadata__":` + strings.Repeat(`{"a":`, 1<<20), "a text was expected", 1 << 16},
		{"a name of a megabyte that is not closed", `{"` + strings.Repeat("x", 1<<20), "the JSON ends early", 1 << 16},
		{"a name of a megabyte of escapes", `{"` + strings.Repeat(`\u0041`, 1<<18) + `":1}`, `tensor "AAAA`, 8 << 20},
		{"offsets of 2^63", `{"x":{"dtype":"U8","shape":[4],"data_offsets":[9223372036854775808,9223372036854775812]}}`, "bytes 9223372036854775808 to 9223372036854775812", 1 << 16},
		{"dimensions of 2^63", `{"x":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,0]}}`, "a dimension of 9223372036854775808", 1 << 16},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := file(tt.header, 0)
			var err error
			n := allocated(func() { _, err = Parse(b) })
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%.200v, want %q", err, tt.want)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("a message of %d bytes", len(err.Error()))
			}
			if n > tt.bytes {
				t.Errorf("%d bytes were allocated for a header of %d, want at most %d", n, len(tt.header), tt.bytes)
			}
		})
	}
}

func TestHeaderAndFileSize(t *testing.T) {
	f := file(valid, 22)
	header := int64(len(f) - 22)
	for n := range f {
		want := header
		if n < 8 {
			want = 8
		}
		if got, err := HeaderSize(f[:n]); err != nil || got != want {
			t.Errorf("HeaderSize of %d bytes: %d, %v, want %d", n, got, err, want)
		}
	}
	if got, err := FileSize(f[:header]); err != nil || got != uint64(len(f)) {
		t.Errorf("FileSize: %d, %v, want %d", got, err, len(f))
	}
	if _, err := HeaderSize([]byte{0, 0, 0, 0, 0, 0, 0, 128}); err == nil {
		t.Error("a header of 2^63 bytes has a size")
	}
}
