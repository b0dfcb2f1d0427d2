package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"lorikeet/backend"
)

// answer is when a request got what.
type answer struct {
	submitted time.Time
	events    []stamp
	tokens    []backend.Token // if the request asks for log-probabilities
	cached    int
}

type stamp struct {
	at        time.Time
	generated int // tokens by then
}

// wait is the time until the first token.
func (a *answer) wait() time.Duration { return a.events[0].at.Sub(a.submitted) }

func (a *answer) first() time.Time { return a.events[0].at }
func (a *answer) last() time.Time  { return a.events[len(a.events)-1].at }

// until is how many tokens there were at a time.
func (a *answer) until(t time.Time) int {
	n := 0
	for _, s := range a.events {
		if !s.at.After(t) {
			n = s.generated
		}
	}
	return n
}

// collect reads a request's events. An answer that is shorter than asked for is an
// error: it would be measured wrongly.
func (a *answer) collect(events <-chan backend.Event, r *backend.Request) error {
	var last backend.Event
	for ev := range events {
		a.events = append(a.events, stamp{time.Now(), ev.Generated})
		for _, t := range ev.Tokens {
			a.tokens = append(a.tokens, t.ID)
		}
		last = ev
	}
	a.cached = last.Cached
	if last.Err == nil && last.Generated != r.MaxTokens {
		return fmt.Errorf("%d tokens generated instead of %d", last.Generated, r.MaxTokens)
	}
	return last.Err
}

// ask runs one request.
func (r *Rig) ask(ctx context.Context, req *backend.Request) (*answer, error) {
	a := &answer{submitted: time.Now()}
	events, err := r.Engine.Submit(ctx, req)
	if err != nil {
		return nil, err
	}
	return a, a.collect(events, req)
}

// wave is requests that were submitted together.
type wave struct {
	start, end time.Time
	answers    []*answer
	tokens     int // generated
}

func (r *Rig) wave(ctx context.Context, requests []*backend.Request) (*wave, error) {
	w := &wave{start: time.Now()}
	errs := make([]error, len(requests))
	var reading sync.WaitGroup
	for i, req := range requests {
		a := &answer{submitted: time.Now()}
		w.answers = append(w.answers, a)
		w.tokens += req.MaxTokens
		events, err := r.Engine.Submit(ctx, req)
		if err != nil {
			errs[i] = err
			continue
		}
		reading.Go(func() { errs[i] = a.collect(events, req) })
	}
	reading.Wait()
	w.end = time.Now()
	return w, errors.Join(errs...)
}

// together is a wave whose requests generate at the same time, and its steps. On a machine
// that is busy otherwise, small requests may miss each other: then it is made again.
func (r *Rig) together(ctx context.Context, requests []*backend.Request) (w *wave, steps float64, err error) {
	const tries = 10
	for range tries {
		if w, err = r.wave(ctx, requests); err != nil {
			return nil, 0, err
		}
		if steps, err = w.steps(); err == nil {
			return w, steps, nil
		}
	}
	return nil, 0, err
}

// rate is tokens per second, prompts included in the time.
func (w *wave) rate() float64 { return float64(w.tokens) / w.end.Sub(w.start).Seconds() }

// steps is the steps per second while all requests generate, and nothing else happens:
// each gets one token in each step.
func (w *wave) steps() (float64, error) {
	from := slices.MaxFunc(w.answers, func(a, b *answer) int { return a.first().Compare(b.first()) }).first()
	to := slices.MinFunc(w.answers, func(a, b *answer) int { return a.last().Compare(b.last()) }).last()
	var inside []stamp
	for _, s := range w.answers[0].events {
		if !s.at.Before(from) && !s.at.After(to) {
			inside = append(inside, s)
		}
	}
	if len(inside) < 2 {
		return 0, errors.New("the requests did not generate at the same time")
	}
	first, last := inside[0], inside[len(inside)-1]
	return float64(last.generated-first.generated) / last.at.Sub(first.at).Seconds(), nil
}
