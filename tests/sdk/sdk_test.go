// Package sdk runs the official OpenAI clients against the server. `make test`
// installs those of Python and Node and names the interpreter in
// LORIKEET_TEST_PYTHON.
package sdk

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"lorikeet/backend/engine"
	"lorikeet/tests/testserver"
)

// check runs a client's script, which ends with "ok".
func check(t *testing.T, dir string, command ...string) {
	t.Helper()
	s := testserver.Demo(t, engine.Params{})
	cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], s.URL+"/v1")...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "ok" {
		t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

func TestPython(t *testing.T) {
	python := os.Getenv("LORIKEET_TEST_PYTHON")
	if python == "" {
		python = "../../build/venv/bin/python"
		if _, err := os.Stat(python); err != nil {
			t.Fatal("the Python client is not installed: run 'make test' once")
		}
		python = "../../" + python // from the script's folder
	}
	check(t, "python", python, "check.py")
}

func TestNode(t *testing.T) {
	if _, err := os.Stat("node/node_modules/openai"); err != nil {
		t.Fatal("the Node client is not installed: run 'make test' once")
	}
	check(t, "node", "node", "check.mjs")
}

func TestGo(t *testing.T) {
	s := testserver.Demo(t, engine.Params{})
	client := openai.NewClient(option.WithBaseURL(s.URL+"/v1"), option.WithAPIKey("unused"), option.WithMaxRetries(0))
	params := openai.CompletionNewParams{
		Model:       "parrot:pirate",
		Prompt:      openai.CompletionNewParamsPromptUnion{OfString: openai.String("What colour is the sky?")},
		MaxTokens:   openai.Int(32),
		Temperature: openai.Float(0),
	}
	const want = " Arr! The sky be blue, matey!"
	c, err := client.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if c.Choices[0].Text != want || c.Choices[0].FinishReason != "stop" {
		t.Errorf("got %q, %s", c.Choices[0].Text, c.Choices[0].FinishReason)
	}
	stream := client.Completions.NewStreaming(t.Context(), params)
	text, chunks := "", 0
	for stream.Next() {
		text += stream.Current().Choices[0].Text
		chunks++
	}
	if err := stream.Err(); err != nil || text != want || chunks < 8 {
		t.Errorf("streamed %q in %d chunks: %v", text, chunks, err)
	}
	models, err := client.Models.List(t.Context())
	if err != nil || models.Data[0].ID != "parrot" {
		t.Errorf("models: %+v, %v", models, err)
	}
	params.Model = "nobody"
	var apiError *openai.Error
	if _, err := client.Completions.New(context.Background(), params); !errors.As(err, &apiError) || apiError.StatusCode != 404 || apiError.Code != "model_not_found" {
		t.Errorf("unknown model: %v", err)
	}
}
