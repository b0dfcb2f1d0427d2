package engine

import (
	"slices"

	"lorikeet/backend"
	"lorikeet/backend/sched"
)

// roomToGrow is how many tokens of room each running sequence should find after
// another one was admitted; with less, those admitted last are soon thrown out again.
const roomToGrow = 16

// worthWaiting is how many tokens of a prompt another sequence must be about to
// compute for it to be waited for.
const worthWaiting = 8

// admit takes waiting requests into the cache, fairly between adapters, as long as
// there is room for their prompts.
func (o *owner) admit() {
	if o.queue.Len() == 0 {
		return
	}
	o.queue.Take(o.judge, o.start)
}

func (o *owner) judge(s *sequence) sched.Verdict {
	if len(o.running) == o.params.Sequences {
		return sched.Full
	}
	prompt, limit := s.prompt(), o.reusable(s)
	match := o.cache.Match(prompt, limit)
	if o.computedSoon(s, match.Tokens, limit) {
		return sched.Later
	}
	need := len(s.tokens) - match.Tokens
	if len(o.running) > 0 {
		need += roomToGrow * (len(o.running) + 1)
	}
	if need > o.room()-match.Kept {
		return sched.Full
	}
	return sched.Admit
}

// reusable is how many of a sequence's tokens may come from the cache.
func (o *owner) reusable(s *sequence) int {
	if !o.share {
		return 0
	}
	return s.reusable()
}

// room is how many tokens the cache can take, if need be in the place of kept prefixes.
func (o *owner) room() int { return o.params.CacheTokens - o.cache.Used() + o.cache.Kept() }

// computedSoon tells whether a running sequence is about to compute more of a prompt
// than the cache holds: one that computes it twice would be none the sooner.
func (o *owner) computedSoon(s *sequence, have, limit int) bool {
	for _, r := range o.running {
		if r.slow || !r.inPrompt() || r.req.Version != s.req.Version || r.req.SlotFrom != s.req.SlotFrom || r.unnamed() {
			continue
		}
		limit := min(limit, len(r.tokens))
		n := 0
		for n < limit && r.tokens[n] == s.tokens[n] {
			n++
		}
		if n >= have+worthWaiting && r.past < n {
			return true
		}
	}
	return false
}

// start gives a sequence an id and what the cache holds of its prompt.
func (o *owner) start(s *sequence) {
	o.dequeue(len(s.req.Prompt))
	id, ok := o.cache.Free()
	for ; !ok; id, ok = o.cache.Free() {
		o.evict() // there are more ids than may run at once: one of them is only kept
	}
	s.id = id
	match := o.cache.Match(s.prompt(), o.reusable(s))
	o.cache.Start(id, s.prompt(), match.Tokens)
	if match.Tokens > 0 {
		o.ctx.Share(match.Holder, id, match.Tokens)
	}
	s.past = match.Tokens
	if s.generated == 0 {
		s.cached = match.Tokens
		o.stats.queries.Add(uint64(len(s.tokens)))
		o.stats.hits.Add(uint64(match.Tokens))
	}
	o.running = append(o.running, s)
	o.stats.running.Add(1)
	o.gauge()
}

// evict throws the kept sequence out of the cache that was longest of no use; it
// returns false if there is none.
func (o *owner) evict() bool {
	id, ok := o.cache.Evict()
	if ok {
		o.ctx.Forget(id)
	}
	return ok
}

// makeRoom makes the cache take so many more tokens, which room has promised.
func (o *owner) makeRoom(tokens int) {
	for o.params.CacheTokens-o.cache.Used() < tokens && o.evict() {
	}
}

// preempt takes the sequence that was admitted last out of the cache, to be computed
// again when there is room. Those before it can then go on.
func (o *owner) preempt() {
	i := len(o.running) - 1
	for ; o.running[i].slow; i-- { // its token may come any moment
	}
	s := o.running[i]
	o.running = slices.Delete(o.running, i, i+1)
	o.cache.Drop(s.id)
	o.ctx.Forget(s.id)
	s.past, s.scored, s.sum = 0, nil, nil
	o.count(1, len(s.req.Prompt))
	o.queue.PushFront(s.flow, len(s.tokens), s)
	o.stats.preemptions.Add(1)
	o.stats.running.Add(-1)
	o.gauge()
}

// retire frees what a running sequence holds and sends its last event; with keep
// set, its tokens stay in the cache for requests that begin with them. The caller
// takes it out of running.
func (o *owner) retire(s *sequence, last backend.Event, keep bool) {
	if keep && o.share && !s.unnamed() && !s.req.NoCache {
		for _, id := range o.cache.Keep(s.id) {
			o.ctx.Forget(id)
		}
	} else {
		o.cache.Drop(s.id)
		o.ctx.Forget(s.id)
	}
	o.stats.running.Add(-1)
	o.gauge()
	s.end(last)
}

func (o *owner) gauge() {
	o.stats.used.Store(int64(o.cache.Used()))
	o.stats.kept.Store(int64(o.cache.Kept()))
}
