package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const tinyBase = "../tests/oracle/testdata/qwen3/base"

func TestConvertBase(t *testing.T) {
	out := filepath.Join(t.TempDir(), "base.gguf")
	told, err := run(t, "convert", "base", tinyBase, "-o", out, "--type", "bf16")
	if err != nil {
		t.Fatal(err)
	}
	if want := out + ": qwen3, 25 tensors in BF16, "; !strings.HasPrefix(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	if _, err := run(t, "convert", "base", tinyBase, "-o", out); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("error %v", err)
	}
	if _, err := run(t, "convert", "base", t.TempDir(), "-o", out, "--force"); err == nil || !strings.Contains(err.Error(), "config.json is missing") {
		t.Errorf("error %v", err)
	}
	if _, err := run(t, "convert", "base", tinyBase); err == nil || !strings.Contains(err.Error(), "output") {
		t.Errorf("error %v", err)
	}
}

// In Hugging Face's cache a revision has links to files that lie elsewhere in the model's
// folder; no link leads out of that.
func TestConvertFromTheCache(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.gguf")
	for name, c := range map[string]struct {
		files string
		args  []string
		file  string // that is read first
	}{
		"base":    {tinyBase, nil, "config.json"},
		"adapter": {"../demo/adapters/pirate", []string{"--base", "../demo/parrot.gguf"}, "adapter_config.json"},
	} {
		t.Run(name, func(t *testing.T) {
			model := filepath.Join(t.TempDir(), "models--someone--tiny")
			revision := filepath.Join(model, "snapshots", "0123abcd")
			cache(t, c.files, filepath.Join(model, "blobs"), revision)
			args := append([]string{"convert", name, "-o", out, "--force"}, c.args...)
			if _, err := run(t, append(args, revision)...); err != nil {
				t.Error(err)
			}
			elsewhere := filepath.Join(model, "elsewhere")
			if err := os.Rename(revision, elsewhere); err != nil {
				t.Fatal(err)
			}
			if _, err := run(t, append(args, elsewhere)...); err == nil || !strings.Contains(err.Error(), c.file) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// cache copies files to blobs, and links them from a revision.
func cache(t *testing.T, files, blobs, revision string) {
	t.Helper()
	if err := os.CopyFS(blobs, os.DirFS(files)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(revision, 0o700); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(blobs)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Symlink("../../blobs/"+e.Name(), filepath.Join(revision, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConvertAdapter(t *testing.T) {
	out := filepath.Join(t.TempDir(), "pirate.gguf")
	told, err := run(t, "convert", "adapter", "../demo/adapters/pirate", "--base", "../demo/parrot.gguf", "-o", out)
	if err != nil {
		t.Fatal(err)
	}
	if want := out + ": an adapter for llama, 84 tensors, rank 8, "; !strings.HasPrefix(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	told, err = run(t, "adapters", "inspect", out, "--base", "../demo/parrot.gguf")
	if err != nil || !strings.Contains(told, "It fits") {
		t.Errorf("told %q, %v", told, err)
	}
	if _, err := run(t, "convert", "adapter", "../demo/adapters/pirate", "--base", out, "-o", out, "--force"); err == nil || !strings.Contains(err.Error(), "general.type") {
		t.Errorf("error %v", err)
	}
}
