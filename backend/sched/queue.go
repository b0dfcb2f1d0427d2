package sched

import "slices"

// Verdict is what an engine says of a request that is next in its flow.
type Verdict int

// Verdicts.
const (
	Admit Verdict = iota
	Later         // not now, for a reason of its own: its flow waits, others do not
	Full          // there is no room for anybody
)

// quantum is how many tokens a flow may use before it is another one's turn.
const quantum = 256

// Queue holds waiting requests, those of one adapter version (a flow) in order of
// arrival, and shares the engine between flows by deficit round robin: each may use
// as many tokens as the others, whatever it has waiting. What a flow generates is
// taken off too ([Queue.Charge]), since nobody knows before how long an answer gets.
type Queue[T any] struct {
	flows  []*flow[T] // those with something waiting; it is the first one's turn
	turn   bool       // it has its quantum for this turn
	length int
	tokens int
}

type flow[T any] struct {
	name    string
	deficit int // tokens that it may use now; below 0, what it has used too much
	later   bool
	waiting []item[T]
}

type item[T any] struct {
	value T
	cost  int
}

// Len is the number of waiting requests.
func (q *Queue[T]) Len() int { return q.length }

// Tokens is the sum of what they cost.
func (q *Queue[T]) Tokens() int { return q.tokens }

// Push appends a request to its flow; cost is the tokens of its prompt.
func (q *Queue[T]) Push(name string, cost int, v T) {
	f := q.flow(name)
	f.waiting = append(f.waiting, item[T]{v, cost})
	q.length++
	q.tokens += cost
}

// PushFront puts a request that was admitted before in front of its flow again.
func (q *Queue[T]) PushFront(name string, cost int, v T) {
	f := q.flow(name)
	f.waiting = slices.Insert(f.waiting, 0, item[T]{v, cost})
	f.deficit += cost // it has paid
	q.length++
	q.tokens += cost
}

func (q *Queue[T]) flow(name string) *flow[T] {
	for _, f := range q.flows {
		if f.name == name {
			return f
		}
	}
	f := &flow[T]{name: name}
	q.flows = append(q.flows, f)
	return f
}

// Charge takes generated tokens off what a flow may use. A flow with nothing waiting
// takes nothing from others, and owes nothing.
func (q *Queue[T]) Charge(name string, tokens int) {
	for _, f := range q.flows {
		if f.name == name {
			f.deficit -= tokens
		}
	}
}

// Take asks judge about the request that is next, and hands it to admit if it may
// go, until none is left or there is no room.
func (q *Queue[T]) Take(judge func(T) Verdict, admit func(T)) {
	for _, f := range q.flows {
		f.later = false
	}
	for asleep := 0; asleep < len(q.flows); {
		f := q.flows[0]
		if f.later {
			q.next()
			continue
		}
		if !q.turn {
			f.deficit += quantum
			q.turn = true
		}
		first := f.waiting[0]
		if f.deficit < first.cost {
			q.next()
			continue
		}
		switch judge(first.value) {
		case Full:
			return
		case Later:
			f.later = true
			asleep++
		case Admit:
			f.deficit -= first.cost
			f.waiting = slices.Delete(f.waiting, 0, 1)
			q.forget(first)
			if len(f.waiting) == 0 {
				q.flows, q.turn = slices.Delete(q.flows, 0, 1), false
			}
			admit(first.value)
		}
	}
}

// next ends the first flow's turn.
func (q *Queue[T]) next() {
	f := q.flows[0]
	copy(q.flows, q.flows[1:])
	q.flows[len(q.flows)-1] = f
	q.turn = false
}

func (q *Queue[T]) forget(i item[T]) {
	q.length--
	q.tokens -= i.cost
}

// Remove takes out the requests that gone chooses.
func (q *Queue[T]) Remove(gone func(T) bool) {
	for i, f := range slices.Backward(q.flows) {
		f.waiting = slices.DeleteFunc(f.waiting, func(it item[T]) bool {
			if !gone(it.value) {
				return false
			}
			q.forget(it)
			return true
		})
		if len(f.waiting) == 0 {
			q.flows = slices.Delete(q.flows, i, i+1)
			q.turn = q.turn && i > 0
		}
	}
}
