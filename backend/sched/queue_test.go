package sched

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// take admits up to n requests and returns their names.
func take(q *Queue[string], n int) []string {
	var got []string
	q.Take(func(string) Verdict {
		if len(got) == n {
			return Full
		}
		return Admit
	}, func(v string) { got = append(got, v) })
	return got
}

func TestQueueKeepsOrderWithinAFlow(t *testing.T) {
	var q Queue[string]
	for i := range 5 {
		q.Push("a", 1000*i, fmt.Sprint(i))
	}
	if got := take(&q, 9); !slices.Equal(got, []string{"0", "1", "2", "3", "4"}) || q.Len() != 0 || q.Tokens() != 0 {
		t.Errorf("%v, %d left", got, q.Len())
	}
}

func TestQueueServesFlowsByTurns(t *testing.T) {
	var q Queue[string]
	for range 10 {
		q.Push("hot", quantum, "hot")
	}
	q.Push("a", quantum, "a")
	q.Push("b", quantum, "b")
	if got := take(&q, 4); !slices.Equal(got, []string{"hot", "a", "b", "hot"}) {
		t.Errorf("%v", got)
	}
}

// Tokens count, not requests: a flow of long prompts gets as many as one of short ones.
func TestQueueCountsTokens(t *testing.T) {
	var q Queue[string]
	for range 100 {
		q.Push("long", 4*quantum, "long")
		q.Push("short", quantum/2, "short")
	}
	count := map[string]int{}
	for _, v := range take(&q, 90) {
		count[v]++
	}
	if long, short := count["long"]*8, count["short"]; long < short-8 || long > short+8 {
		t.Errorf("tokens of long : short = %d : %d", long, short)
	}
}

func TestQueueChargesWhatIsGenerated(t *testing.T) {
	var q Queue[string]
	for range 20 {
		q.Push("talks", quantum, "talks")
		q.Push("scores", quantum, "scores")
	}
	count := map[string]int{}
	for range 20 {
		got := take(&q, 1)[0]
		count[got]++
		if got == "talks" {
			q.Charge("talks", 3*quantum)
		}
	}
	if count["scores"] < 3*count["talks"] {
		t.Errorf("%v", count)
	}
	q.Charge("unknown", 1)
}

func TestQueueLaterBlocksItsFlowOnly(t *testing.T) {
	var q Queue[string]
	for _, v := range []string{"wait", "behind"} {
		q.Push("a", 1, v)
	}
	q.Push("b", 1, "b")
	var got []string
	q.Take(func(v string) Verdict {
		if v == "wait" {
			return Later
		}
		return Admit
	}, func(v string) { got = append(got, v) })
	if !slices.Equal(got, []string{"b"}) || q.Len() != 2 {
		t.Errorf("%v, %d left", got, q.Len())
	}
	if got := take(&q, 9); !slices.Equal(got, []string{"wait", "behind"}) {
		t.Errorf("then %v", got)
	}
}

func TestQueuePushFront(t *testing.T) {
	var q Queue[string]
	q.Push("a", 1, "second")
	q.PushFront("a", 1<<20, "first")
	if got := take(&q, 9); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("%v", got)
	}
}

// Whatever happens, nothing is lost or served twice, and the sums are right.
func FuzzQueue(f *testing.F) {
	f.Add(uint64(1), uint8(200))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint8) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var q Queue[int]
		cost := map[int]int{} // of those that wait
		flow := map[int]int{}
		next := 0
		for range steps {
			switch rng.IntN(5) {
			case 0, 1:
				fl := rng.IntN(4)
				cost[next], flow[next] = rng.IntN(2000), fl
				q.Push(fmt.Sprint(fl), cost[next], next)
				next++
			case 2:
				q.Charge(fmt.Sprint(rng.IntN(4)), rng.IntN(3000))
			case 3:
				q.Remove(func(v int) bool {
					if rng.IntN(8) > 0 {
						return false
					}
					delete(cost, v)
					return true
				})
			case 4:
				room := rng.IntN(4)
				q.Take(func(v int) Verdict {
					if _, ok := cost[v]; !ok {
						t.Fatalf("%d does not wait", v)
					}
					for other := range cost {
						if flow[other] == flow[v] && other < v {
							t.Fatalf("%d before %d", v, other)
						}
					}
					if room == 0 {
						return Full
					}
					room--
					return Verdict(rng.IntN(2))
				}, func(v int) { delete(cost, v) })
			}
			sum := 0
			for _, c := range cost {
				sum += c
			}
			if q.Len() != len(cost) || q.Tokens() != sum {
				t.Fatalf("%d of %d tokens, want %d of %d", q.Len(), q.Tokens(), len(cost), sum)
			}
		}
		all := 0
		q.Take(func(int) Verdict { return Admit }, func(int) { all++ })
		if all != len(cost) || q.Len() != 0 {
			t.Fatalf("%d of %d come out in the end", all, len(cost))
		}
	})
}
