// Package layout holds the project's import table (docs/ARCHITECTURE.md) against
// what `go list` says.
package layout

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "lorikeet/"

// What each package of ours may import of ours. A package that is not listed is an
// error, so that the table stays whole.
var allowed = map[string][]string{
	"backend":              {},
	"backend/sched":        {"backend"},
	"backend/prefix":       {"backend"},
	"backend/text":         {"backend"},
	"backend/fake":         {"backend", "backend/text"},
	"backend/enginetest":   {"backend"},
	"backend/devices":      {},
	"backend/memory":       {"backend"},
	"backend/llama":        {"backend", "backend/devices"},
	"backend/engine":       {"backend", "backend/devices", "backend/llama", "backend/memory", "backend/prefix", "backend/sched", "backend/text"},
	"adapters/buffers":     {},
	"adapters/guard":       {},
	"adapters/lora":        {"backend", "adapters/guard"},
	"adapters/files":       {"adapters/guard", "adapters/lora"},
	"adapters/safetensors": {},
	"adapters/peft":        {"backend", "adapters/files", "adapters/guard", "adapters/lora", "adapters/safetensors"},
	"adapters/gguf":        {"backend", "backend/memory", "adapters/files", "adapters/guard", "adapters/lora"},
	"adapters":             {"backend", "adapters/buffers", "adapters/files", "adapters/lora", "adapters/peft", "adapters/gguf"},
	"api":                  {"api/grammar"},
	"api/grammar":          {},
	"api/sse":              {},
	"chat":                 {"api/grammar"},
	"server":               {"api", "api/sse", "adapters", "adapters/lora", "backend", "chat"},
	"config":               {},
	"demo":                 {},
	"bench/synth":          {},
	"bench":                {"adapters", "backend", "backend/engine", "backend/llama", "bench/synth", "server"},
	"convert":              {"adapters/files", "adapters/gguf", "adapters/guard", "adapters/lora", "adapters/peft", "adapters/safetensors", "backend"},
	"cli":                  {"adapters", "adapters/gguf", "api", "backend", "backend/engine", "bench", "config", "convert", "demo", "server"},
	"":                     {"cli"},
	"examples/go":          {},
	"tests/testserver":     {"adapters", "backend", "backend/engine", "demo", "server"},
}

// Imports from elsewhere that only some packages may have.
var confined = map[string][]string{
	"C":                           {"backend/llama"},
	"unsafe":                      {"backend/llama"},
	"github.com/ollama/ollama":    {"backend/llama", "convert"},
	"github.com/spf13/viper":      {"config"},
	"github.com/spf13/cobra":      {"cli"},
	"github.com/lmittmann/tint":   {"cli"},
	"github.com/go-chi/chi":       {"server"},
	"github.com/nikolalohinski":   {"chat"},
	"github.com/rs/cors":          {"server"},
	"golang.org/x/time/rate":      {"server"},
	"net/http":                    {"api", "api/sse", "server", "bench", "cli", "tests/testserver"},
	"net/http/httptest":           {"tests/testserver"},
	"github.com/openai/openai-go": {"examples/go"},
}

// backend/sched is a pure function of its inputs.
var forbidden = map[string][]string{"backend/sched": {"time", "sync", "context"}, "backend": {"net/http"}}

type goPackage struct {
	ImportPath string
	Imports    []string
	CgoFiles   []string
	GoFiles    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,CgoFiles,GoFiles", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var pkgs []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles)+len(p.CgoFiles) > 0 {
			pkgs = append(pkgs, p)
		}
	}
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, strings.TrimSuffix(module, "/")), "/")
		may, listed := allowed[name]
		if !listed {
			t.Errorf("package %q is not in the import table", name)
		}
		for _, i := range p.Imports {
			if ours, ok := strings.CutPrefix(i, module); ok && !slices.Contains(may, ours) {
				t.Errorf("%s imports %s", name, ours)
			}
			for prefix, who := range confined {
				if (i == prefix || strings.HasPrefix(i, prefix+"/") && prefix != "net/http") && !slices.Contains(who, name) {
					t.Errorf("%s imports %s", name, i)
				}
			}
			if slices.Contains(forbidden[name], i) {
				t.Errorf("%s imports %s", name, i)
			}
		}
		if len(p.CgoFiles) > 0 && name != "backend/llama" {
			t.Errorf(`%s imports "C": %v`, name, p.CgoFiles)
		}
	}
}

// A package says what it is for, in one place.
func TestPackageComments(t *testing.T) {
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "build" || n == "node_modules" || n == ".git" {
				return fs.SkipDir
			}
			files, err := filepath.Glob(filepath.Join(path, "*.go"))
			if err != nil || len(files) == 0 {
				return err
			}
			if n := countComments(t, files); n != 1 {
				t.Errorf("%s: %d package comments", path, n)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func countComments(t *testing.T, files []string) int {
	t.Helper()
	n := 0
	for _, f := range files {
		file, err := os.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		previous := ""
		for lines := bufio.NewScanner(file); lines.Scan(); previous = lines.Text() {
			if strings.HasPrefix(lines.Text(), "package ") {
				if strings.HasPrefix(previous, "//") {
					n++
				}
				break
			}
		}
	}
	return n
}
