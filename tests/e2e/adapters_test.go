// Package e2e tests Lorikeet as clients see it: HTTP in front, llama.cpp behind.
package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/tests/testserver"
)

type body = testserver.JSON

var voices = []string{"parrot", "parrot:pirate", "parrot:shout", "parrot:json", "parrot:haiku"}

// longPrompt ends with a question, after so many answered ones that its prefill
// takes several steps.
func longPrompt(t *testing.T) string {
	var b strings.Builder
	for i, h := range heldout(t) {
		if i == 60 {
			break
		}
		b.WriteString(h.Prompt + h.Answers["base"] + "<|eos|><|bos|>")
	}
	return b.String() + "Count to fifteen."
}

// Adapters and the base asked at the same moment stream what each gives alone, and
// they really share steps.
func TestMixedStreams(t *testing.T) {
	s := testserver.Demo(t, engine.Params{CacheTokens: 8192})
	prompt := longPrompt(t)
	ask := func(model string) string {
		return testserver.Text(s.Stream(body{"model": model, "prompt": prompt, "max_tokens": 64, "temperature": 0}))
	}
	alone := map[string]string{}
	for _, v := range voices {
		alone[v] = ask(v)
	}
	if s.Engine.Stats().Steps[backend.ModeMixed] != 0 {
		t.Fatal("mixed steps although every request ran alone")
	}
	seen := map[string]bool{}
	for _, text := range alone {
		seen[text] = true
	}
	if len(seen) != len(voices) {
		t.Fatalf("voices give equal answers: %v", alone)
	}
	// All arrive while the first prompts are still being computed; if the machine
	// was too slow to send them, another round follows.
	for range 5 {
		var wg sync.WaitGroup
		for _, v := range voices {
			wg.Go(func() {
				if got := ask(v); got != alone[v] {
					t.Errorf("%s: %q together, %q alone", v, got, alone[v])
				}
			})
		}
		wg.Wait()
		if st := s.Engine.Stats(); st.MaxSlotsPerStep == len(voices) {
			t.Logf("%d mixed steps of %d tokens, up to %d slots in one step", st.Steps[backend.ModeMixed], st.Tokens[backend.ModeMixed], st.MaxSlotsPerStep)
			return
		}
	}
	t.Errorf("no step had all of them: %+v", s.Engine.Stats())
}

// A, B, A on one connection: nothing of B is left in A.
func TestSwitchBack(t *testing.T) {
	s := testserver.Demo(t, engine.Params{Slots: 1})
	ask := func(model string) testserver.Choice {
		// What comes from the cache was computed in steps of another shape, and differs in the last bits.
		req := body{"model": model, "prompt": "What does the cow say?", "max_tokens": 32, "temperature": 0, "logprobs": 3, "cache_prompt": false}
		got := s.Complete(req)
		req["cache_prompt"] = true
		if cached := s.Complete(req); cached.Choices[0].Text != got.Choices[0].Text || !reflect.DeepEqual(cached.Choices[0].Logprobs.Tokens, got.Choices[0].Logprobs.Tokens) {
			t.Errorf("%s with the cache: %q, without %q", model, cached.Choices[0].Text, got.Choices[0].Text)
		}
		return got.Choices[0]
	}
	order := append(append([]string{}, voices...), voices...)
	first := map[string]testserver.Choice{}
	for i, v := range append(order, "parrot", "parrot:pirate", "parrot:shout", "parrot:pirate", "parrot:shout", "parrot") {
		got := ask(v)
		if want, ok := first[v]; !ok {
			first[v] = got
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("request %d, %s: %q, first %q", i, v, got.Text, want.Text)
		}
	}
}

// Scale 0 is the base to the bit; other scales are in between.
func TestScale(t *testing.T) {
	s := testserver.Demo(t, engine.Params{})
	ask := func(model string, lora ...any) testserver.Choice {
		req := body{"model": model, "prompt": "What does the cow say?", "max_tokens": 32, "temperature": 0, "logprobs": 3, "echo": true}
		if len(lora) > 0 {
			req["lora"] = lora
		}
		return s.Complete(req).Choices[0]
	}
	scaled := func(x float64) any { return body{"name": "pirate", "scale": x} }
	base, pirate := ask("parrot"), ask("parrot:pirate")
	if got := ask("parrot", scaled(0)); !reflect.DeepEqual(got, base) {
		t.Errorf("scale 0: %q", got.Text)
	}
	if got := ask("parrot:pirate", scaled(0)); !reflect.DeepEqual(got, base) {
		t.Errorf("scale 0 of the model's own adapter: %q", got.Text)
	}
	if got := ask("parrot", scaled(1)); !reflect.DeepEqual(got, pirate) {
		t.Errorf("scale 1: %q", got.Text)
	}
	if got := ask("parrot", scaled(0.5)); reflect.DeepEqual(got, base) || reflect.DeepEqual(got, pirate) {
		t.Errorf("scale 0.5 equals 0 or 1: %q", got.Text)
	}
}

type heldoutPrompt struct {
	Prompt  string
	Answers map[string]string
}

func heldout(t *testing.T) []heldoutPrompt {
	t.Helper()
	f, err := os.Open("../../demo/heldout.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []heldoutPrompt
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var h heldoutPrompt
		if err := json.Unmarshal(lines.Bytes(), &h); err != nil {
			t.Fatal(err)
		}
		out = append(out, h)
	}
	return out
}

// inVoice is the style of each adapter, whatever the answer.
var inVoice = map[string]func(string) bool{
	"base": func(s string) bool {
		return strings.HasSuffix(s, ".") && !strings.Contains(s, "\n") && s != strings.ToUpper(s)
	},
	"pirate": func(s string) bool { return strings.HasSuffix(s, ", matey!") },
	"shout":  func(s string) bool { return strings.HasSuffix(s, "!") && s == strings.ToUpper(s) },
	"json": func(s string) bool {
		var v struct{ Topic, Answer string }
		return json.Unmarshal([]byte(s), &v) == nil && v.Topic != "" && v.Answer != ""
	},
	"haiku": func(s string) bool { return strings.Count(strings.TrimSpace(s), "\n") == 2 },
}

// The server gives on held-out prompts what transformers gave after the training.
func TestHeldOutPrompts(t *testing.T) {
	s := testserver.Demo(t, engine.Params{})
	prompts := heldout(t)
	for voice, styled := range inVoice {
		model := "parrot"
		if voice != "base" {
			model += ":" + voice
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		asked, right, style := 0, 0, 0
		queue := make(chan heldoutPrompt)
		for range 8 {
			wg.Go(func() {
				for h := range queue {
					got := s.Complete(body{"model": model, "prompt": h.Prompt, "max_tokens": 96, "temperature": 0}).Choices[0].Text
					mu.Lock()
					asked++
					if got == h.Answers[voice] {
						right++
					}
					if styled(got) {
						style++
					}
					mu.Unlock()
				}
			})
		}
		for _, h := range prompts {
			if _, ok := h.Answers[voice]; ok {
				queue <- h
			}
		}
		close(queue)
		wg.Wait()
		t.Logf("%-6s %d prompts, %d as transformers answered, %d in its voice", voice, asked, right, style)
		if right*100 < asked*95 || style*100 < asked*95 || asked < 200 {
			t.Errorf("%s: %d of %d as transformers answered, %d in its voice", voice, right, asked, style)
		}
	}
}
