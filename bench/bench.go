// Package bench measures what Lorikeet promises about its speed, on a base and adapters
// of random weights (bench/synth), so that it needs nothing but the program.
//
// [Run] runs scenarios and gives a [Report], which [Report.Write] prints and which can
// be kept as JSON. A figure is a ratio of two things measured in the same run, in turns,
// so that the machine and what else it does cancel out; the raw values stand beside it.
//
// A [Scenario] is a value in a file of its own, listed in [Scenarios]. It opens engines
// through [Env] and measures from outside: by the events that requests get. Nothing here
// tests that answers are right, and nothing in the server knows of it.
package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Scenario measures one thing.
type Scenario struct {
	Name  string
	Shows string // in a line
	Named bool   // it is run only if it is asked for by name
	Run   func(context.Context, *Env) ([]Figure, error)
}

// Scenarios are all there are, in the order in which they run.
var Scenarios = []Scenario{mixed, decode, bare, streaming, sampling, zipf, prefix, stall, fairness, loads, switching, storm, slots, cycles}

// Figure is a measured value, held against a target.
type Figure struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit,omitempty"` // none for a ratio
	Low     float64 `json:"low"`            // the least of the rounds
	High    float64 `json:"high"`
	Target  float64 `json:"target,omitempty"` // 0: there is none
	AtLeast bool    `json:"at_least"`         // the target is a lower bound, else an upper one
	Parts   []Part  `json:"parts,omitempty"`
}

// Part is a raw figure behind another one.
type Part struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
}

// Met tells whether the value reaches the target, if there is one.
func (f *Figure) Met() bool {
	if f.AtLeast {
		return f.Value >= f.Target
	}
	return f.Value <= f.Target || f.Target == 0
}

// Options configure a run.
type Options struct {
	Dir       string   // for the base and the adapters; made if need be, and used again
	Scenarios []string // empty means all but those that must be named
	Quick     bool     // fewer rounds and shorter ones: for a look, not for a figure
	Threads   int      // 0 means all CPUs
	Size      string   // of the base: "200m" or "7b"; empty means 200m
	Type      string   // of its matrices: "f16", "q8_0" or "q4_0"; empty means f16
	Bandwidth float64  // of the memory that the base lies in, GB/s; 0 means that it is not known
	Version   string
	Progress  func(string) // is told what happens, in lines
}

// Result is what a scenario has given.
type Result struct {
	Scenario string   `json:"scenario"`
	Shows    string   `json:"shows"`
	Seconds  float64  `json:"seconds"`
	Figures  []Figure `json:"figures,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// Report is everything that a run has given.
type Report struct {
	Machine Machine   `json:"machine"`
	Date    time.Time `json:"date"`
	Quick   bool      `json:"quick"`
	Results []Result  `json:"results"`
}

// Run runs scenarios. One that fails does not stop the others: the error stands in its
// result, and the report is given beside the error.
func Run(ctx context.Context, o Options) (*Report, error) {
	chosen, err := choose(o.Scenarios)
	if err != nil {
		return nil, err
	}
	env, err := newEnv(o)
	if err != nil {
		return nil, err
	}
	report := &Report{Machine: env.machine(o.Version), Date: time.Now().UTC().Truncate(time.Second), Quick: o.Quick}
	var failed error
	for _, s := range chosen {
		env.say("%s: %s", s.Name, s.Shows)
		start := time.Now()
		figures, err := s.Run(ctx, env)
		r := Result{Scenario: s.Name, Shows: s.Shows, Seconds: time.Since(start).Seconds(), Figures: figures}
		if err != nil {
			r.Error = err.Error()
			failed = errors.Join(failed, fmt.Errorf("scenario %s: %w", s.Name, err))
		}
		report.Results = append(report.Results, r)
		if ctx.Err() != nil {
			break
		}
	}
	return report, failed
}

func choose(names []string) ([]Scenario, error) {
	if len(names) == 0 {
		return slices.DeleteFunc(slices.Clone(Scenarios), func(s Scenario) bool { return s.Named }), nil
	}
	var chosen []Scenario
	for _, name := range names {
		i := slices.IndexFunc(Scenarios, func(s Scenario) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no scenario %q (there are %s)", name, Names())
		}
		chosen = append(chosen, Scenarios[i])
	}
	return chosen, nil
}

// Names lists the scenarios.
func Names() []string {
	var names []string
	for _, s := range Scenarios {
		names = append(names, s.Name)
	}
	return names
}
