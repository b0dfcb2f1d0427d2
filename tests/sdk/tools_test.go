package sdk

import (
	"bufio"
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"lorikeet/backend/engine"
	"lorikeet/tests/testserver"
)

// tool is a program that `make test-tools` installs; it is too heavy for `make test`.
func tool(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("LORIKEET_TEST_TOOLS")
	if dir == "" {
		t.Skip("'make test-tools' runs this")
	}
	return filepath.Join(dir, name)
}

func TestLiteLLM(t *testing.T) {
	python := tool(t, "python")
	example(t, testserver.Demo(t, engine.Params{}), python, "litellm_router.py")
}

// What lm-evaluation-harness finds is what transformers computes of the same weights:
// each answer's log-likelihood, and the accuracy. lmeval/reference.py has computed it.
func TestLMEval(t *testing.T) {
	lmEval := tool(t, "lm_eval")
	b, err := os.ReadFile("lmeval/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var reference map[string]struct {
		Accuracy       float64
		LogLikelihoods [][]float64
	}
	if err := json.Unmarshal(b, &reference); err != nil {
		t.Fatal(err)
	}
	s := testserver.Demo(t, engine.Params{})
	for model, want := range reference {
		t.Run(model, func(t *testing.T) {
			out := t.TempDir()
			cmd := exec.CommandContext(t.Context(), "bash", "../../../examples/lm_eval.sh", "--tasks", "parrot_facts", "--include_path", ".", "--output_path", out, "--log_samples")
			cmd.Dir = "lmeval"
			cmd.Env = append(os.Environ(), "LORIKEET_URL="+s.URL, "MODEL="+model, "LM_EVAL="+lmEval, "HF_HOME="+t.TempDir(), "HF_HUB_OFFLINE=1")
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if got := accuracy(t, out); math.Abs(got-want.Accuracy) > 1e-9 {
				t.Errorf("accuracy %g, transformers says %g", got, want.Accuracy)
			}
			worst, n := 0.0, 0
			for doc, row := range likelihoods(t, out) {
				for i, got := range row {
					right := want.LogLikelihoods[doc][i]
					off := math.Abs(got - right)
					if off > max(0.02, 0.001*-right) { // of several tokens, by other kernels
						t.Errorf("question %d, answer %d: log-likelihood %g, transformers says %g", doc, i, got, right)
					}
					worst = max(worst, off)
					n++
				}
			}
			if t.Logf("accuracy %g; %d log-likelihoods, at most %.4f off", want.Accuracy, n, worst); n != 4*len(want.LogLikelihoods) {
				t.Errorf("%d log-likelihoods of %d", n, 4*len(want.LogLikelihoods))
			}
		})
	}
}

// one finds the only file that lm_eval has written under a name.
func one(t *testing.T, dir, pattern string) []byte {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*", pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func accuracy(t *testing.T, dir string) float64 {
	t.Helper()
	var r struct {
		Results map[string]map[string]any
	}
	if err := json.Unmarshal(one(t, dir, "results_*.json"), &r); err != nil {
		t.Fatal(err)
	}
	a, ok := r.Results["parrot_facts"]["acc,none"].(float64)
	if !ok {
		t.Fatalf("no accuracy in %v", r.Results)
	}
	return a
}

// likelihoods are those of each question's answers.
func likelihoods(t *testing.T, dir string) map[int][]float64 {
	t.Helper()
	out := map[int][]float64{}
	lines := bufio.NewScanner(bytes.NewReader(one(t, dir, "samples_*.jsonl")))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var sample struct {
			DocID int          `json:"doc_id"`
			Resps [][][]string `json:"resps"`
		}
		if err := json.Unmarshal(lines.Bytes(), &sample); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		for _, r := range sample.Resps {
			ll, err := strconv.ParseFloat(r[0][0], 64)
			if err != nil {
				t.Fatal(err)
			}
			out[sample.DocID] = append(out[sample.DocID], ll)
		}
	}
	return out
}
