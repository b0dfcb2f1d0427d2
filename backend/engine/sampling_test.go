package engine_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/backend/enginetest"
)

// ids are the tokens of an answer.
func ids(a enginetest.Answer) []backend.Token {
	var out []backend.Token
	for _, i := range a.Tokens {
		out = append(out, i.ID)
	}
	return out
}

// sample answers a prompt of the tiny model with the given sampling.
func sample(t *testing.T, e backend.Engine, s backend.Sampling, maxTokens int) enginetest.Answer {
	t.Helper()
	if s.TopP == 0 {
		s.TopP = 1
	}
	return enginetest.Generate(t, e, &backend.Request{Prompt: prompt(5, 20), MaxTokens: maxTokens, Logprobs: 0, Sampling: s})
}

// What leaves one token to choose gives the greedy answer.
func TestCutsThatLeaveOne(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel})
	want := ids(sample(t, e, backend.Sampling{}, 20))
	for name, s := range map[string]backend.Sampling{
		"top_k 1":                    {Temperature: 1, TopK: 1},
		"top_k 1, temperature 2":     {Temperature: 2, TopK: 1, Seed: 7},
		"top_p of nearly nothing":    {Temperature: 1, TopP: 1e-9},
		"min_p 1":                    {Temperature: 1, MinP: 1},
		"top_k 1 before a large one": {Temperature: 1, TopK: 1, MinP: 0.1, TypicalP: 0.5},
		"penalties of nothing":       {RepetitionPenalty: 1},
		"a bias that all have":       {LogitBias: []backend.TokenBias{{Token: 0, Bias: -100}}},
		"greedy, without an end":     {IgnoreEOS: true},
		"top_k, without an end":      {Temperature: 1, TopK: 1, IgnoreEOS: true},
		"top_k above the vocabulary": {Temperature: 1, TopK: 1 << 30, TopP: 1e-9},
	} {
		if got := ids(sample(t, e, s, 20)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, greedy %v", name, got, want)
		}
	}
}

// top_k on the logits draws what llama.cpp's sampler draws from the whole vocabulary:
// a bias of 0 makes it look there.
func TestTopKOnTheLogits(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel})
	for seed := range uint32(10) {
		s := backend.Sampling{Temperature: 3, TopK: 5, TopP: 0.95, Seed: seed}
		fast := ids(sample(t, e, s, 30))
		s.LogitBias = []backend.TokenBias{{Token: 9}}
		if whole := ids(sample(t, e, s, 30)); !slices.Equal(fast, whole) {
			t.Errorf("seed %d: %v, of the whole vocabulary %v", seed, fast, whole)
		}
	}
}

func TestBiasAndAllowed(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel})
	got := ids(sample(t, e, backend.Sampling{LogitBias: []backend.TokenBias{{Token: 50, Bias: 100}}}, 5))
	if !slices.Equal(got, []backend.Token{50, 50, 50, 50, 50}) {
		t.Errorf("bias 100: %v", got)
	}
	best := ids(sample(t, e, backend.Sampling{}, 1))[0]
	if got := ids(sample(t, e, backend.Sampling{LogitBias: []backend.TokenBias{{Token: best, Bias: -100}}}, 20)); slices.Contains(got, best) {
		t.Errorf("bias -100 of %d: %v", best, got)
	}
	allowed := []backend.Token{60, 61, 62, 60}
	for _, s := range []backend.Sampling{
		{Allowed: allowed}, {Allowed: allowed, Temperature: 1, TopK: 2}, {Allowed: allowed, Temperature: 2, TopP: 0.9},
		{Allowed: allowed, Temperature: 1, LogitBias: []backend.TokenBias{{Token: 70, Bias: 100}, {Token: 62, Bias: -100}}},
	} {
		for _, id := range ids(sample(t, e, s, 20)) {
			if !slices.Contains(allowed, id) || len(s.LogitBias) > 0 && id == 62 {
				t.Errorf("%+v: %d is chosen", s, id)
			}
		}
	}
}

func TestPenalties(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel})
	repeats := func(s backend.Sampling) int {
		s.IgnoreEOS = true
		got := ids(sample(t, e, s, 60))
		slices.Sort(got)
		return 60 - len(slices.Compact(got))
	}
	none := repeats(backend.Sampling{})
	for name, s := range map[string]backend.Sampling{
		"presence": {PresencePenalty: 100}, "frequency": {FrequencyPenalty: 100}, "repetition": {RepetitionPenalty: 100},
	} {
		if got := repeats(s); got != 0 || none == 0 {
			t.Errorf("%s: %d tokens are repeated, %d without", name, got, none)
		}
	}
	// Repetition counts the prompt, the other two do not.
	used := prompt(5, 20)
	allowed := append(slices.Clone(used), 250)
	pick := func(s backend.Sampling) backend.Token {
		s.Allowed = allowed
		return ids(sample(t, e, s, 1))[0]
	}
	if got := pick(backend.Sampling{PresencePenalty: 100}); !slices.Contains(used, got) {
		t.Errorf("presence: %d is chosen, which the prompt has not", got)
	}
}

func TestEnds(t *testing.T) {
	e := open(t, engine.Params{Path: demoModel})
	question := enginetest.Prompt(t, e, "What colour is the sky?", 40)
	question.Logprobs = 0
	plain := enginetest.Generate(t, e, question)
	n := plain.Last.Generated
	if plain.Last.Finish != backend.FinishStop || n >= 40 {
		t.Fatalf("the answer does not end: %+v", plain.Last)
	}
	with := func(change func(*backend.Request)) enginetest.Answer {
		r := *question
		change(&r)
		return enginetest.Generate(t, e, &r)
	}
	if a := with(func(r *backend.Request) { r.Sampling.IgnoreEOS = true }); a.Last.Generated != 40 || a.Last.Finish != backend.FinishLength {
		t.Errorf("ignore_eos: %+v", a.Last)
	}
	if a := with(func(r *backend.Request) { r.Sampling.MinTokens = n + 3 }); a.Last.Generated < n+3 || !strings.HasPrefix(a.Text, plain.Text) {
		t.Errorf("min_tokens: %+v", a.Last)
	}
	third := ids(plain)[2]
	if a := with(func(r *backend.Request) { r.StopTokens = []backend.Token{third} }); a.Last.Generated != 3 || a.Last.Finish != backend.FinishStop || !strings.HasPrefix(plain.Text, a.Text) {
		t.Errorf("stop token: %+v", a)
	}
	if a := with(func(r *backend.Request) {
		r.StopTokens, r.Sampling.MinTokens = []backend.Token{third}, 5
	}); a.Last.Generated < 5 || slices.Contains(ids(a)[:5], third) {
		t.Errorf("a stop token before min_tokens: %+v", a)
	}
	word := plain.Text[2:5]
	a := with(func(r *backend.Request) { r.Stop = []string{word} })
	b := with(func(r *backend.Request) { r.Stop, r.IncludeStop = []string{word}, true })
	if a.Text+word != b.Text {
		t.Errorf("stop %q: %q, included %q", word, a.Text, b.Text)
	}
	c := with(func(r *backend.Request) { r.StopTokens = []backend.Token{third} })
	d := with(func(r *backend.Request) { r.StopTokens, r.IncludeStop = []backend.Token{third}, true })
	if c.Text+string(e.Piece(third, false)) != d.Text {
		t.Errorf("stop token: %q, included %q", c.Text, d.Text)
	}
}

func TestGrammar(t *testing.T) {
	e := open(t, engine.Params{Path: demoModel})
	for grammar, want := range map[string]string{
		`root ::= "yes" | "no"`:                        `^(yes|no)$`,
		`root ::= [0-9]{3} "-" [a-f]+ "."`:             `^\d{3}-[a-f]+\.?$`,
		`root ::= "{" "\"a\": " [1-9] [0-9]? "}"`:      `^\{"a": [1-9][0-9]?\}$`,
		"root ::= item (\", \" item)*\nitem ::= \"é\"": `^é(, é)*(,? ?)$`,
	} {
		for _, s := range []backend.Sampling{{}, {Temperature: 1, Seed: 4}, {Temperature: 1.5, TopK: 3, TopP: 0.9, Seed: 5}, {RepetitionPenalty: 1.3}} {
			s.Grammar, s.TopP = grammar, max(s.TopP, 1)
			r := enginetest.Prompt(t, e, "What colour is the sky?", 12)
			r.Sampling = s
			a := enginetest.Generate(t, e, r)
			text := strings.TrimRight(a.Text, "\uFFFD")
			if a.Last.Err != nil || a.Last.Finish == backend.FinishStop && text == "" || !regexp.MustCompile(want).MatchString(text) {
				t.Errorf("%s, %+v: %q, %+v", grammar, s, a.Text, a.Last)
			}
		}
	}
	for _, grammar := range []string{"root ::= (", "other ::= \"x\"", "root ::= root \"x\"", "root ::= missing"} {
		r := enginetest.Prompt(t, e, "x", 4)
		r.Sampling.Grammar = grammar
		var refused *backend.GrammarError
		if _, err := e.Submit(t.Context(), r); !errors.As(err, &refused) {
			t.Errorf("%q: %v", grammar, err)
		}
	}
}

// A grammar whose stacks double with every character ends its own request; others go
// on, and the engine too.
func TestAmbiguousGrammar(t *testing.T) {
	e := open(t, engine.Params{Path: tinyModel})
	other := long(t, e)
	want := enginetest.Generate(t, e, other).Text
	events, err := e.Submit(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	r := &backend.Request{Prompt: prompt(1, 5), MaxTokens: 200, Logprobs: -1}
	r.Sampling.Grammar = "root ::= [a-z ] root \"y\" | [a-z ] root \"z\" | [a-z ]"
	if a := enginetest.Generate(t, e, r); !errors.Is(a.Last.Err, backend.ErrGrammar) {
		t.Errorf("ends with %+v", a.Last)
	}
	if got := enginetest.Collect(t, events); got.Text != want {
		t.Errorf("the other one: %q, alone %q", got.Text, want)
	}
}

// What excludes every token ends the request with an error.
func TestNothingToChoose(t *testing.T) {
	e := open(t, engine.Params{Path: demoModel})
	r := enginetest.Prompt(t, e, "x", 4)
	z, err := e.Tokenize("z", false)
	if err != nil {
		t.Fatal(err)
	}
	r.Sampling = backend.Sampling{Grammar: `root ::= "a"`, Allowed: z, TopP: 1}
	if a := enginetest.Generate(t, e, r); !errors.Is(a.Last.Err, backend.ErrNoToken) {
		t.Errorf("%+v", a)
	}
	// A grammar at its end is an end, also where no end may be chosen.
	for _, s := range []backend.Sampling{{IgnoreEOS: true}, {MinTokens: 4}} {
		s.Grammar = `root ::= "a"`
		r.Sampling = s
		if a := enginetest.Generate(t, e, r); a.Last.Err != nil || a.Text != "a" || a.Last.Finish != backend.FinishStop {
			t.Errorf("%+v: %+v", s, a)
		}
	}
}
