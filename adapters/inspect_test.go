package adapters

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"lorikeet/backend"
	"lorikeet/backend/fake"
)

// What the files tell is told with and without a base, and the version is the one that
// is served.
func TestInspect(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "good", 1)
	info := fake.New(64, 2).Info()
	want := &Inspection{
		Format: "PEFT", MinRank: 2, MaxRank: 2, MinScale: 2, MaxScale: 2, Alpha: 4, Targets: []string{"q_proj"}, Layers: []int{0}, Tensors: 2, Types: []string{"F32"},
	}
	for name, data := range adapterFiles(1) {
		if _, err := os.Stat(filepath.Join(dir, "good", name)); err != nil {
			t.Fatal(err)
		}
		want.Bytes += int64(len(data))
	}
	m := manager(t, open(t, dir).FS, fake.New(64, 2), 10*time.Second)
	want.Version = acquire(t, m, "good").Parts[0].Version
	for _, base := range []*backend.ModelInfo{nil, &info} {
		if base != nil {
			want.Architecture = "llama"
		}
		got, err := Inspect(filepath.Join(dir, "good"), base)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: %+v, want %+v", err, got, want)
		}
	}
}

// What does not fit a base is refused with it only, and each reason is told.
func TestInspectWithBase(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "good", 1)
	fits := fake.New(64, 2).Info()
	narrow := fits
	narrow.Pool.Weights = []backend.Weight{{Name: "blk.0.attn_q.weight", In: 4, Out: 8}}
	none := fits
	none.Pool.Weights = nil
	other := fits
	other.Architecture = "mamba"
	low := fits
	low.Pool.Rank = 1 // the server's own choice
	for name, tt := range map[string]struct {
		adapter string
		base    *backend.ModelInfo
		want    string // "" if it fits
	}{
		"none":     {"good", nil, ""},
		"fits":     {"good", &fits, ""},
		"low rank": {"good", &low, ""},
		"narrow":   {"good", &narrow, "8 columns, but blk.0.attn_q.weight takes 4 inputs"},
		"no such":  {"good", &none, "no weight blk.0.attn_q.weight"},
		"other":    {"good", &other, `"mamba"`},
	} {
		i, err := Inspect(filepath.Join(dir, tt.adapter), tt.base)
		if err != nil {
			t.Fatal(err)
		}
		if text := errors.Join(i.Refusals...); (text == nil) != (tt.want == "") || text != nil && !strings.Contains(text.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, text, tt.want)
		}
	}
}

func TestInspectPaths(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"nowhere": ErrNoPath.Error(), "no/where": "no such file", "file": "neither a PEFT directory nor a .gguf file"} {
		if _, err := Inspect(filepath.Join(dir, name), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i, err := Inspect(dir, nil); err != nil || len(i.Refusals) != 2 {
		t.Errorf("an empty folder: %v, %+v", err, i)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.gguf"), []byte("GGUF"), 0o600); err != nil {
		t.Fatal(err)
	}
	if i, err := Inspect(filepath.Join(dir, "a.gguf"), nil); err != nil || len(i.Refusals) != 1 || !strings.Contains(i.Refusals[0].Error(), "the file ends") {
		t.Errorf("a cut file: %v, %+v", err, i)
	}
}
