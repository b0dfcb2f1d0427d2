// Package sdk runs the official OpenAI clients against the server, and what else
// people point at it: examples/ and schemathesis. `make test` installs them, and names
// Python's interpreter in LORIKEET_TEST_PYTHON.
package sdk

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lorikeet/backend/engine"
	"lorikeet/server"
	"lorikeet/tests/testserver"
)

// Keys of the server that wants one.
const (
	goodKey = "sk-good"
	slowKey = "sk-slow" // for one request per minute
)

// servers are what a client's check talks to.
type servers struct {
	open  string // serves everyone
	keyed string // wants a key
	busy  string // refuses the first request, see busy_test.go
}

func start(t *testing.T) servers {
	t.Helper()
	open := testserver.Demo(t, engine.Params{})
	keyed := testserver.Demo(t, engine.Params{}, func(o *server.Options) {
		o.Keys = []server.Key{
			{Name: "good", Hash: sha256.Sum256([]byte(goodKey))},
			{Name: "slow", Hash: sha256.Sum256([]byte(slowKey)), Limits: server.Limits{RequestsPerMinute: 1}},
		}
	})
	return servers{open: open.URL, keyed: keyed.URL, busy: newBusy(t, open.URL)}
}

// check runs a client's script on the servers. It ends with "ok".
func check(t *testing.T, dir string, command ...string) {
	t.Helper()
	s := start(t)
	run(t, dir, append(command, s.open+"/v1", s.keyed+"/v1", s.busy+"/v1"), nil)
}

// run runs a command that ends with "ok".
func run(t *testing.T, dir string, command, env []string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// python is an interpreter that has what requirements.txt names.
func python(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("LORIKEET_TEST_PYTHON"); p != "" {
		return p
	}
	return installed(t, "../../build/venv/bin/python")
}

// installed is the absolute path of something that `make test` installs.
func installed(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(abs)
	}
	if err != nil {
		t.Fatalf("%s is not installed: run 'make test' once", path)
	}
	return abs
}

func TestPython(t *testing.T) { check(t, "python", python(t), "check.py") }

func TestNode(t *testing.T) {
	installed(t, "node/node_modules/openai")
	check(t, "node", "node", "check.mjs")
}
