package bench

import (
	"context"
	"fmt"
	"time"

	"lorikeet/backend"
	"lorikeet/backend/engine"
)

var stall = Scenario{
	Name:  "stall",
	Shows: "gaps between the tokens of 8 streams while prompts of 2000 tokens arrive one after the other, against none",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		const longest = 4096
		rig, err := e.Open(ctx, engine.Params{Context: longest, CacheTokens: 4 * longest}, e.Folder)
		if err != nil {
			return nil, err
		}
		defer rig.Close()
		leases, err := rig.leaseAll(ctx)
		if err != nil {
			return nil, err
		}
		random := e.random("stall")
		var requests []*backend.Request
		for i := range 8 {
			requests = append(requests, use(e.request(random, 16, longest-16), leases[i]))
		}
		streams, err := rig.stream(ctx, requests, false)
		if err != nil {
			return nil, err
		}
		defer streams.stop()
		quiet, busy := &series{name: "quiet p99", unit: "ms"}, &series{name: "busy p99", unit: "ms"}
		quietHalf, busyHalf := &series{name: "quiet median", unit: "ms"}, &series{name: "busy median", unit: "ms"}
		waits := &series{name: "first token of a prompt", unit: "ms"}
		promptTokens := e.pick(2000, 500)
		err = inTurns(e.pick(4, 2), func(int) error {
			from := time.Now()
			if err := streams.await(ctx, e.pick(80, 24)); err != nil {
				return err
			}
			gaps := streams.gaps(from, time.Now())
			quiet.add(percentile(gaps, 0.99))
			quietHalf.add(median(gaps))
			return nil
		}, func(int) error {
			from := time.Now()
			for range e.pick(2, 1) {
				a, err := rig.ask(ctx, use(e.request(random, promptTokens, 1), leases[sequences-1]))
				if err != nil {
					return err
				}
				waits.add(milliseconds(a.wait()))
			}
			gaps := streams.gaps(from, time.Now())
			busy.add(percentile(gaps, 0.99))
			busyHalf.add(median(gaps))
			return nil
		})
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("p99 gap with prompts of %d tokens ÷ quiet", promptTokens)
		return []Figure{ratio(name, busy, quiet, busyHalf.part(), quietHalf.part(), waits.part()).atMost(2.5)}, nil
	},
}
