package engine_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/backend/enginetest"
)

// samplings choose in the ways that differ for a grammar: the most likely token, among
// the first, among all.
var samplings = []backend.Sampling{
	{}, {Temperature: 1, Seed: 4}, {Temperature: 1.5, TopK: 3, TopP: 0.9, Seed: 5}, {RepetitionPenalty: 1.3},
	{LogitBias: []backend.TokenBias{{Token: 1, Bias: -100}}}, {Temperature: 2, Seed: 6, MinTokens: 9},
}

// The answer is free until it has a trigger, and follows the grammar from where that
// begins; a token that goes on behind the trigger in another way is not chosen.
func TestGrammarAfter(t *testing.T) {
	e := open(t, engine.Params{Path: demoModel})
	for _, tt := range []struct {
		after   []string
		grammar string
		want    string // of the answer
		begins  string // of the greedy answer, " The sky is blue."
	}{
		{[]string{" is"}, `root ::= " is " [0-9]{3} "."`, `^.* is \d{3}\.$`, " The sky is "},
		{[]string{"e sky"}, `root ::= "e sky" [0-9]{3}`, `^.*e sky\d{3}$`, " The sky"},           // of several tokens
		{[]string{"s"}, `root ::= "s" "!"{2}`, `^[^s]*s!!$`, " The "},                            // within a token
		{[]string{"zzz", "sky", "The sky"}, `root ::= "The sk" "y" "é"{2}`, `éé$`, " The skyéé"}, // the first of those that end together
		{[]string{""}, `root ::= "a" [0-9]{2}`, `^a\d\d$`, "a"},
		{[]string{"e"}, `root ::= "x"`, `^[^e]*$`, ""}, // never
	} {
		for i, s := range samplings {
			s.Grammar, s.GrammarAfter, s.TopP = tt.grammar, tt.after, max(s.TopP, 1)
			r := enginetest.Prompt(t, e, "What colour is the sky?", 40)
			r.Sampling = s
			a := enginetest.Generate(t, e, r)
			if a.Last.Err != nil {
				t.Errorf("%q, %+v: %v", tt.after, s, a.Last.Err)
			}
			triggered := false
			for _, trigger := range tt.after {
				triggered = triggered || strings.Contains(a.Text, trigger)
			}
			if i == 0 && !strings.HasPrefix(a.Text, tt.begins) || triggered && a.Last.Finish == backend.FinishStop && !regexp.MustCompile(tt.want).MatchString(a.Text) {
				t.Errorf("%q, %s, %+v: %q, %+v", tt.after, tt.grammar, s, a.Text, a.Last)
			}
		}
	}
}

// What has no trigger is the answer without a grammar.
func TestGrammarAfterNothing(t *testing.T) {
	e := open(t, engine.Params{Path: demoModel})
	for _, s := range samplings {
		s.TopP = max(s.TopP, 1)
		r := enginetest.Prompt(t, e, "What colour is the sky?", 40)
		r.Sampling = s
		want := enginetest.Generate(t, e, r)
		r.Sampling.Grammar, r.Sampling.GrammarAfter = `root ::= "<tool>"`, []string{"<tool>"}
		if got := enginetest.Generate(t, e, r); got.Text != want.Text || got.Last.Finish != want.Last.Finish {
			t.Errorf("%+v: %q, without a grammar %q", s, got.Text, want.Text)
		}
	}
}

// A special token is a trigger by its name, whether or not it is in the text.
func TestGrammarAfterSpecialToken(t *testing.T) {
	e := open(t, engine.Params{Path: demoModel})
	bos := e.Info().BOS
	name := string(e.Piece(bos, true))
	for _, special := range []bool{false, true} {
		r := enginetest.Prompt(t, e, "What colour is the sky?", 9)
		r.SpecialText = special
		r.Sampling.LogitBias = []backend.TokenBias{{Token: bos, Bias: 100}}
		r.Sampling.Grammar, r.Sampling.GrammarAfter = `root ::= "`+name+`" "ok"`, []string{name}
		want := "ok"
		if special {
			want = name + want
		}
		if a := enginetest.Generate(t, e, r); a.Text != want || a.Last.Finish != backend.FinishStop {
			t.Errorf("special %v: %q, %+v", special, a.Text, a.Last)
		}
	}
}

// An answer without a token left is complete only if a grammar holds already.
func TestNothingToChooseBeforeTheTrigger(t *testing.T) {
	e := open(t, engine.Params{Path: demoModel})
	z, err := e.Tokenize("z", false)
	if err != nil || len(z) != 1 {
		t.Fatal(z, err)
	}
	r := enginetest.Prompt(t, e, "x", 8)
	r.Sampling = backend.Sampling{TopP: 1, Allowed: z, BadWords: [][]backend.Token{{z[0], z[0]}}, Grammar: `root ::= "z"`, GrammarAfter: []string{"y"}}
	if a := enginetest.Generate(t, e, r); !errors.Is(a.Last.Err, backend.ErrNoToken) || a.Text != "z" {
		t.Errorf("%q, %+v", a.Text, a.Last)
	}
	r.Sampling.GrammarAfter = []string{"z"}
	if a := enginetest.Generate(t, e, r); a.Last.Finish != backend.FinishStop || a.Text != "z" {
		t.Errorf("with the trigger: %q, %+v", a.Text, a.Last)
	}
}
