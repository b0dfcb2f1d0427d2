package sdk

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"lorikeet/backend/engine"
	"lorikeet/server"
	"lorikeet/tests/testserver"
)

// schemathesis reads openapi.json and sends requests that follow it, and that don't.
// Every answer must be documented, and none a 500. What it sends is the same each time.
func TestSchemathesis(t *testing.T) {
	s := testserver.Demo(t, engine.Params{Context: 64}, func(o *server.Options) {
		o.Keys, o.AdminKey = []server.Key{{Name: "good", Hash: sha256.Sum256([]byte(goodKey))}}, goodKey
	})
	dir, err := filepath.Abs("python")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(),
		filepath.Join(filepath.Dir(python(t)), "schemathesis"), "--config-file", filepath.Join(dir, "schemathesis.toml"),
		"run", s.URL+"/openapi.json",
	)
	cmd.Dir = t.TempDir() // where it leaves its files
	cmd.Env = append(os.Environ(), "SCHEMATHESIS_HOOKS=schemathesis_hooks", "PYTHONPATH="+dir, "NO_COLOR=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
