// Package guard runs code that reads mapped files, which anyone may cut meanwhile: their
// pages are then gone, and to touch them is a fault that would end the process.
//
// [Run] makes an error of it, [Each] does so for work on all cores. What they run must
// not leave anything locked behind when it ends halfway.
package guard

import (
	"errors"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// ErrGone says that bytes of a mapped file were not there any more.
var ErrGone = errors.New("became shorter while it was read")

// Run runs read on the caller's goroutine, and returns its error or ErrGone.
func Run(read func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if _, fault := p.(interface{ Addr() uintptr }); !fault {
			panic(p)
		}
		err = ErrGone
	}()
	return read()
}

// Each runs read for 0 to n-1 on all cores. If some fail, it returns the lowest of them
// and its error or ErrGone; after the first failure no more are begun.
func Each(n int, read func(i int) error) (failed int, err error) {
	var (
		next atomic.Int64
		stop atomic.Bool
		mu   sync.Mutex
		wg   sync.WaitGroup
	)
	failed = n
	work := func() {
		for !stop.Load() {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			if e := Run(func() error { return read(i) }); e != nil {
				stop.Store(true)
				mu.Lock()
				if i < failed { // what comes before it was begun, and ends too
					failed, err = i, e
				}
				mu.Unlock()
			}
		}
	}
	for range min(runtime.GOMAXPROCS(0), n) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	return failed, err
}
