package server

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"lorikeet/adapters"
	"lorikeet/api"
)

// Limits bound what is asked for with a key, or of an adapter; 0 is no bound.
type Limits struct {
	RequestsPerMinute int
	TokensPerMinute   int // of prompts and answers
	Concurrent        int // requests at the same time
}

// meter counts what was asked for with one key, or of one adapter. A bucket holds what
// may be used at once, a minute's worth, and fills evenly.
//
// Tokens are taken when they are used: those of a prompt when the engine has accepted
// it, those of an answer as they come. So nobody has to guess how long an answer gets,
// and a bucket may come to hold less than nothing; then requests are refused until it
// holds something again.
type meter struct {
	of         string // as a refusal names it
	requests   *rate.Limiter
	tokens     *rate.Limiter // nil, like requests: not limited
	concurrent int           // 0: not limited
	running    int
}

// newMeter gives nil if there is nothing to count.
func newMeter(of string, l Limits) *meter {
	if l == (Limits{}) {
		return nil
	}
	bucket := func(perMinute int) *rate.Limiter {
		if perMinute == 0 {
			return nil
		}
		return rate.NewLimiter(rate.Limit(float64(perMinute)/60), perMinute)
	}
	return &meter{of: of, requests: bucket(l.RequestsPerMinute), tokens: bucket(l.TokensPerMinute), concurrent: l.Concurrent}
}

// limiter holds the meters of a server.
type limiter struct {
	now       func() time.Time
	ofAdapter func(base, adapter string) Limits // nil: adapters are not limited

	mu       sync.Mutex // of what follows, and of the meters of keys
	adapters map[string]*meter
}

// meters lists what counts a request. A name of an adapter comes here only if there is
// such an adapter, so clients can't make meters without end.
func (l *limiter) meters(key *account, base *adapters.Base, refs []adapters.Ref) []*meter {
	var out []*meter
	if key != nil && key.meter != nil {
		out = append(out, key.meter)
	}
	if l.ofAdapter == nil {
		return out
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ref := range refs {
		name := modelName(base, ref.Name)
		m, known := l.adapters[name]
		if !known {
			m = newMeter(fmt.Sprintf("adapter %q", name), l.ofAdapter(base.Name, ref.Name))
			l.adapters[name] = m
		}
		if m != nil {
			out = append(out, m)
		}
	}
	return out
}

// admit counts a request in all meters, or refuses it and counts it in none. Of
// several reasons to refuse it, the one that lasts longest is told.
func (l *limiter) admit(meters []*meter) *api.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	var refusal *api.Error
	for _, m := range meters {
		if e := m.refuse(now); e != nil && (refusal == nil || e.RetryAfter > refusal.RetryAfter) {
			refusal = e
		}
	}
	if refusal != nil {
		return refusal
	}
	for _, m := range meters {
		m.running++
		take(m.requests, now, 1)
	}
	return nil
}

func (m *meter) refuse(now time.Time) *api.Error {
	requests, tokens := untilOne(m.requests, now), untilOne(m.tokens, now)
	switch {
	case requests > 0 && requests >= tokens:
		return api.Overloaded(requests, "Rate limit reached for %s: %d requests per minute. Please retry in %s.", m.of, m.requests.Burst(), requests)
	case tokens > 0:
		return api.Overloaded(tokens, "Rate limit reached for %s: %d tokens per minute. Please retry in %s.", m.of, m.tokens.Burst(), tokens)
	case m.concurrent > 0 && m.running >= m.concurrent:
		return api.Overloaded(time.Second, "Rate limit reached for %s: %d requests at the same time. Please retry when one of them has ended.", m.of, m.concurrent)
	}
	return nil
}

// done ends a request.
func (l *limiter) done(meters []*meter) {
	if len(meters) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range meters {
		m.running--
	}
}

// spent counts tokens that the request has used.
func (t *target) spent(tokens int) {
	if len(t.meters) == 0 {
		return
	}
	t.limits.mu.Lock()
	defer t.limits.mu.Unlock()
	for _, m := range t.meters {
		take(m.tokens, t.limits.now(), tokens)
	}
}

// show tells the client, as OpenAI does, how much is left. Of several meters, each
// header is of the one with the least left.
func (l *limiter) show(h http.Header, meters []*meter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	show := func(what string, of func(m *meter) *rate.Limiter) {
		var least *rate.Limiter
		for _, m := range meters {
			if b := of(m); b != nil && (least == nil || b.TokensAt(now) < least.TokensAt(now)) {
				least = b
			}
		}
		if least == nil {
			return
		}
		h.Set("X-Ratelimit-Limit-"+what, strconv.Itoa(least.Burst()))
		h.Set("X-Ratelimit-Remaining-"+what, strconv.Itoa(max(0, int(least.TokensAt(now)))))
		h.Set("X-Ratelimit-Reset-"+what, until(least, now, float64(least.Burst())).String())
	}
	show("Requests", func(m *meter) *rate.Limiter { return m.requests })
	show("Tokens", func(m *meter) *rate.Limiter { return m.tokens })
}

// untilOne is how long a bucket needs until it holds something that can be taken.
func untilOne(b *rate.Limiter, now time.Time) time.Duration {
	if b == nil {
		return 0
	}
	return until(b, now, 1)
}

// until is how long a bucket needs to fill up to n, in whole milliseconds.
func until(b *rate.Limiter, now time.Time, n float64) time.Duration {
	missing := n - b.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	d := time.Duration(missing / float64(b.Limit()) * float64(time.Second))
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

// take takes n from a bucket, whatever it holds.
func take(b *rate.Limiter, now time.Time, n int) {
	if b == nil {
		return
	}
	for n > 0 { // a reservation is of a full bucket at most
		part := min(n, b.Burst())
		b.ReserveN(now, part)
		n -= part
	}
}
