package bench

import (
	"context"
	"errors"
	"runtime"
	"time"

	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/backend/llama"
)

var bare = Scenario{
	Name:  "bare",
	Shows: "16 sequences of the base through the engine, against a bare loop over llama.cpp",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		rig, err := e.Open(ctx, engine.Params{}, nil)
		if err != nil {
			return nil, err
		}
		defer rig.Close()
		loop, err := startLoop(e.params(engine.Params{}))
		if err != nil {
			return nil, err
		}
		defer loop.stop()

		answer := e.pick(96, 48)
		random := e.random("bare")
		ours, theirs := &series{name: "engine", unit: "steps/s"}, &series{name: "bare loop", unit: "steps/s"}
		requests := make([][]*backend.Request, e.pick(9, 3)) // a list for each round
		for i := range requests {
			for range sequences {
				requests[i] = append(requests[i], e.request(random, 16, answer))
			}
		}
		err = inTurns(len(requests), func(round int) error {
			_, n, err := rig.together(ctx, requests[round])
			ours.add(n)
			return err
		}, func(round int) error {
			n, err := loop.measure(requests[round])
			theirs.add(n)
			return errors.Join(err, ctx.Err())
		})
		if err != nil {
			return nil, err
		}
		return []Figure{ratio("engine ÷ bare loop", ours, theirs).atLeast(0.97)}, nil
	},
}

// loop is what a program would write that does nothing but generate: a context without
// a pool, one step after the other, the most likely token of each row. It has a thread
// and a copy of the model of its own; the weights are the same pages of the file.
type loop struct {
	params engine.Params
	work   chan []*backend.Request
	done   chan loopResult
}

type loopResult struct {
	stepsPerSecond float64
	err            error
}

func startLoop(p engine.Params) (*loop, error) {
	l := &loop{params: p, work: make(chan []*backend.Request), done: make(chan loopResult)}
	go l.run()
	return l, (<-l.done).err
}

func (l *loop) stop() {
	close(l.work)
	<-l.done
}

func (l *loop) measure(requests []*backend.Request) (float64, error) {
	l.work <- requests
	r := <-l.done
	return r.stepsPerSecond, r.err
}

// run is the loop's goroutine. It answers once when it has started, after each
// measurement, and when it has freed everything.
func (l *loop) run() {
	runtime.LockOSThread()
	defer close(l.done)
	where, err := l.params.Place()
	if err != nil {
		l.done <- loopResult{err: err}
		return
	}
	m, err := llama.LoadModel(l.params.Path, where)
	if err != nil {
		l.done <- loopResult{err: err}
		return
	}
	defer m.Close()
	flash := llama.FlashOn
	if len(where.Devices) > 0 {
		flash = llama.FlashAuto
	}
	c, err := m.NewContext(llama.ContextParams{
		CacheTokens: l.params.CacheTokens, StepTokens: 512, Sequences: l.params.Sequences, Threads: l.params.Threads,
		KeyType: backend.F16, ValueType: backend.F16, Flash: flash, // as the engine chooses them
	})
	if err != nil {
		l.done <- loopResult{err: err}
		return
	}
	defer c.Close()
	l.done <- loopResult{}
	for requests := range l.work {
		n, err := generate(c, requests)
		l.done <- loopResult{n, err}
	}
}

// generate computes answers and returns the steps per second, without the first step,
// which computes the prompts.
func generate(c *llama.Context, requests []*backend.Request) (float64, error) {
	c.ForgetAll(false)
	c.Clear()
	outputs := make([]int, len(requests))
	for seq, r := range requests {
		for pos, t := range r.Prompt {
			outputs[seq] = c.Add(t, pos, seq, 0, pos == len(r.Prompt)-1)
		}
	}
	if err := c.Decode(backend.ModeNone); err != nil {
		return 0, err
	}
	steps := requests[0].MaxTokens - 1
	start := time.Now()
	for step := range steps {
		var next [sequences]backend.Token
		for seq := range requests {
			next[seq], _ = c.Row(outputs[seq]).Argmax()
		}
		c.Clear()
		for seq, r := range requests {
			outputs[seq] = c.Add(next[seq], len(r.Prompt)+step, seq, 0, true)
		}
		if err := c.Decode(backend.ModeNone); err != nil {
			return 0, err
		}
	}
	return float64(steps) / time.Since(start).Seconds(), nil
}
