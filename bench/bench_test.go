package bench

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/bench/synth"
)

// tiny is an Env whose base is computed in no time.
func tiny(t *testing.T) *Env {
	t.Helper()
	e := &Env{
		Quick: true, Threads: 1,
		Config:   synth.Config{Hidden: 64, Layers: 2, Heads: 4, KVHeads: 2, FeedForward: 96, Vocabulary: 1200, Context: 8192, Seed: 1},
		progress: func(line string) { t.Log(line) },
	}
	if err := e.generate(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return e
}

// Every scenario comes to figures. What they are says nothing here.
func TestScenarios(t *testing.T) {
	e := tiny(t)
	for _, s := range Scenarios {
		t.Run(s.Name, func(t *testing.T) {
			figures, err := s.Run(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range figures {
				t.Logf("%+v", f)
				if isRatio := f.Unit == ""; isRatio && !(f.Value > 0) || math.IsNaN(f.Value) || math.IsInf(f.Value, 0) || f.Target == 0 {
					t.Errorf("%+v", f)
				}
			}
			if len(figures) == 0 {
				t.Error("no figures")
			}
		})
	}
}

func TestGeneratedBase(t *testing.T) {
	e := tiny(t)
	rig, err := e.Open(t.Context(), engine.Params{}, e.Folder)
	if err != nil {
		t.Fatal(err)
	}
	defer rig.Close()
	text, err := rig.Engine.Tokenize("a tale of two cities", true)
	if err != nil {
		t.Fatal(err)
	}
	for i, token := range text[1:] {
		if token < synth.FirstText {
			t.Errorf("token %d of a text of letters is %d, no letters", i, token)
		}
	}
	leases, err := rig.leaseAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]bool{}
	for i := range 4 {
		r := e.request(e.random("answers"), 16, 32)
		r.Logprobs = 0
		if i > 0 {
			use(r, leases[i])
		}
		a, err := rig.ask(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, token := range a.tokens {
			text.Write(rig.Engine.Piece(token, false))
		}
		answers[text.String()] = true
		if len(a.events) != 32 {
			t.Errorf("%d events for 32 tokens", len(a.events))
		}
	}
	if len(answers) != 4 {
		t.Errorf("base and adapters answer alike: %v", answers)
	}
}

func TestPercentile(t *testing.T) {
	values := []float64{5, 1, 3, 2, 4}
	for p, want := range map[float64]float64{0: 1, 0.5: 3, 0.75: 4, 0.875: 4.5, 1: 5} {
		if got := percentile(values, p); got != want {
			t.Errorf("percentile %v is %v, want %v", p, got, want)
		}
	}
	if got := median([]float64{4, 1, 2, 3}); got != 2.5 {
		t.Errorf("median is %v", got)
	}
	if got := percentile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("of nothing: %v", got)
	}
}

func TestRatio(t *testing.T) {
	a, b := &series{name: "a", values: []float64{1, 9, 4}}, &series{name: "b", values: []float64{2, 3, 4}}
	f := ratio("a ÷ b", a, b).atLeast(0.9)
	if f.Value != 1 || f.Low != 0.5 || f.High != 3 || !f.Met() {
		t.Errorf("%+v", f)
	}
	if f = f.atMost(0.9); f.Met() {
		t.Error("over the target, yet met")
	}
}

func TestWorst(t *testing.T) {
	of := func(name string, value float64) Figure {
		return Figure{Name: name, Value: value, Low: value - 1, High: value + 1, Parts: []Part{{Name: name}}}
	}
	f := worst("worst", []Figure{of("a", 3), of("b", 5), of("c", 4)})
	if f.Name != "worst" || f.Value != 5 || f.Low != 4 || f.High != 6 || len(f.Parts) != 3 || f.Parts[0].Name != "a" || f.Parts[2].Name != "c" {
		t.Errorf("%+v", f)
	}
}

func TestLeastSquares(t *testing.T) {
	x := []float64{1, 2, 3, 4}
	if slope, deviation := leastSquares(x, []float64{5, 7, 9, 11}); math.Abs(slope-2) > 1e-12 || deviation > 1e-12 {
		t.Errorf("a line of slope 2: %v ± %v", slope, deviation)
	}
	// Distances of -1, 1, 1, -1 from a line of slope -3: their squares come to 4, with two
	// degrees of freedom, and those of x to 5.
	slope, deviation := leastSquares(x, []float64{-1, -2, -5, -10})
	if math.Abs(slope+3) > 1e-12 || math.Abs(deviation-math.Sqrt(4./2/5)) > 1e-12 {
		t.Errorf("slope %v ± %v", slope, deviation)
	}
}

func TestPageCache(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"a": 3, "folder/b": 5} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := openPageCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if c.bytes != 8 || len(c.files) != 2 {
		t.Errorf("%d bytes in %d files", c.bytes, len(c.files))
	}
	if err := c.drop(); err != nil && !errors.Is(err, errStillCached) {
		t.Error(err)
	}
}

// What fails in a stream is told to who waits for it, and when it is stopped.
func TestStreamThatEnds(t *testing.T) {
	e := tiny(t)
	rig, err := e.Open(t.Context(), engine.Params{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer rig.Close()
	short := []*backend.Request{e.request(e.random("short"), 16, 400)}
	s, err := rig.stream(t.Context(), short, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.await(t.Context(), 1000); err == nil {
		t.Error("400 tokens were awaited as if they were 1000")
	}
	s.stop()
	if s.err() == nil {
		t.Error("the end of the stream is forgotten")
	}
	if s, err = rig.stream(t.Context(), short, true); err != nil {
		t.Fatal(err)
	}
	err = s.await(t.Context(), 1000)
	s.stop()
	if err := errors.Join(err, s.err()); err != nil {
		t.Errorf("a stream that begins again: %v", err)
	}
}

func TestInTurns(t *testing.T) {
	order := ""
	say := func(s string) func(int) error {
		return func(int) error { order += s; return nil }
	}
	if err := inTurns(3, say("a"), say("b")); err != nil || order != "abbaab" {
		t.Errorf("%q, %v", order, err)
	}
}

func TestZipf(t *testing.T) {
	z := newZipf(1000, 1)
	random := new(Env).random("test")
	counts := make([]float64, 1000)
	const n = 200_000
	for range n {
		counts[z.draw(random)]++
	}
	harmonic := 0.0
	for k := 1; k <= 1000; k++ {
		harmonic += 1 / float64(k)
	}
	for _, k := range []int{1, 2, 10} {
		want := n / harmonic / float64(k)
		if got := counts[k-1]; math.Abs(got-want) > 5*math.Sqrt(want) {
			t.Errorf("rank %d drawn %v times, expected about %.0f", k, got, want)
		}
	}
}

func TestAnswerUntil(t *testing.T) {
	start := time.Now()
	a := answer{submitted: start, events: []stamp{{start.Add(1), 1}, {start.Add(3), 3}}}
	for at, want := range map[time.Duration]int{0: 0, 1: 1, 2: 1, 3: 3, 4: 3} {
		if got := a.until(start.Add(at)); got != want {
			t.Errorf("at %d: %d tokens, want %d", at, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	r := Report{
		Machine: Machine{CPU: "Abacus", Cores: 2, Threads: 2, Version: "v1", BaseBytes: 415e6},
		Results: []Result{
			{Scenario: "one", Figures: []Figure{
				{Name: "a ÷ b", Value: 0.912, Low: 0.9, High: 0.95, Target: 0.85, AtLeast: true, Parts: []Part{{"a", 91.2, "tok/s"}, {"b", 100, "tok/s"}}},
				{Name: "wait", Value: 1234.5, Low: 1234.5, High: 1234.5, Unit: "ms", Target: 1000},
			}},
			{Scenario: "other", Figures: []Figure{{Name: "without target", Value: 3, Low: 3, High: 3}}, Error: "it broke"},
		},
	}
	var b strings.Builder
	r.Write(&b)
	want := `Lorikeet v1 on 2 × Abacus, 2 threads, base of 415 MB

scenario  figure            value  spread         target     met
one       a ÷ b             0.912  0.900 … 0.950  ≥ 0.85     yes
            a 91.2 tok/s, b 100 tok/s
          wait            1234 ms                 ≤ 1000 ms  NO
other     without target     3.00
          failed
            it broke
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
