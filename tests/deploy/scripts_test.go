package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What is missing is named before anything is built.
func TestScriptsRefuse(t *testing.T) {
	const cmake, nvcc = "echo cmake version 3.25.1", "echo 'Cuda compilation tools, release 12.8, V12.8.93'"
	tools := map[string]string{"cmake": cmake, "c++": "true", "nvcc": nvcc}
	without := func(name string) map[string]string {
		some := map[string]string{}
		for n, s := range tools {
			if n != name {
				some[n] = s
			}
		}
		return some
	}
	with := func(name, script string) map[string]string {
		some := without(name)
		some[name] = script
		return some
	}
	for _, tt := range []struct {
		name   string
		script []string
		tools  map[string]string // shell scripts by name, beside the usual ones
		env    []string
		says   string
	}{
		{"no cmake", []string{"build-cuda"}, without("cmake"), nil, "cmake is missing: 3.21 or later"},
		{"old cmake", []string{"build-cuda"}, with("cmake", "echo cmake version 3.18.4"), nil, "cmake 3.18.4 is too old"},
		{"no compiler", []string{"build-cuda"}, without("c++"), nil, "C++ compiler is missing"},
		{"no nvcc", []string{"build-cuda"}, tools, []string{"CUDACXX=/no/such/nvcc"}, "nvcc is missing: /no/such/nvcc"},
		{"old nvcc", []string{"build-cuda"}, with("nvcc", "echo 'Cuda compilation tools, release 10.2, V10.2.89'"), nil, "nvcc 10.2 is too old"},
		{"no Go and no sources", []string{"build-cuda"}, tools, nil, "Go is missing"},
		{"other sources", []string{"build-cuda", "."}, tools, []string{"CUDA_ARCHS=90"}, "has no ml/backend/ggml"},
		{"no part", []string{"gpu-check", "all"}, tools, nil, `"all" is no part`},
		{"no driver", []string{"gpu-check"}, tools, nil, "nvidia-smi is missing"},
		{"a driver that fails", []string{"gpu-check"}, with("nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9"), nil, "nvidia-smi fails: NVIDIA-SMI has failed"},
		{"no GPU", []string{"gpu-check"}, with("nvidia-smi", "true"), nil, "lists no GPU"},
		{"pack without Go", []string{"gpu-check", "pack"}, tools, nil, "needs Go"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := run(t, tt.script, tt.tools, tt.env)
			if err == nil || !strings.Contains(out, tt.says) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	// With sources, only the architectures are in question.
	sources := t.TempDir()
	if err := os.MkdirAll(filepath.Join(sources, "ml/backend/ggml/ggml/src/ggml-cuda"), 0o755); err != nil {
		t.Fatal(err)
	}
	for archs, says := range map[string]string{"": "this machine shows no GPU", "9.0": "is not a list", "90a": "is not a list", "80;": "is not a list"} {
		if out, err := run(t, []string{"build-cuda", sources}, tools, []string{"CUDA_ARCHS=" + archs}); err == nil || !strings.Contains(out, says) {
			t.Errorf("CUDA_ARCHS=%q: %v: %s", archs, err, out)
		}
	}
}

// run runs a script where only some tools are to be found.
func run(t *testing.T, script []string, tools map[string]string, env []string) (string, error) {
	t.Helper()
	bin := t.TempDir()
	for _, name := range strings.Fields("bash sh cat dirname realpath sed sort head tail tr paste awk nproc mkdir true grep date cut") {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range tools {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+content+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "../../scripts/"+script[0], script[1:]...)
	cmd.Env = append([]string{"PATH=" + bin, "OUT=" + t.TempDir()}, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
