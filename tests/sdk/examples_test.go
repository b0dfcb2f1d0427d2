package sdk

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"lorikeet/backend/engine"
	"lorikeet/tests/testserver"
)

// The examples work with the demo as they are. What an adapter says shows in each.
func TestExamples(t *testing.T) {
	s := testserver.Demo(t, engine.Params{})
	for name, command := range map[string][]string{
		"curl":      {"bash", "curl.sh"},
		"python":    {python(t), "python_openai.py"},
		"langchain": {python(t), "langchain_chat.py"},
		"node":      {"bash", "-c", "cd ../tests/sdk/node && node --input-type=module < ../../../examples/node_openai.mjs"}, // where its package is
		"go":        {"go", "run", "./go"},
	} {
		t.Run(name, func(t *testing.T) {
			example(t, s, command...)
		})
	}
}

func example(t *testing.T, s *testserver.Server, command ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir, cmd.Env = "../../examples", append(os.Environ(), "LORIKEET_URL="+s.URL)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), strings.TrimSpace(arr)) {
		t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}
