package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
)

// gone maps a file of a page that is then cut to nothing.
func gone(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := syscall.Mmap(int(f.Fd()), 0, 4096, syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(data) })
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRun(t *testing.T) {
	data := gone(t)
	wrong := errors.New("wrong")
	for want, read := range map[error]func() error{
		nil:     func() error { return nil },
		wrong:   func() error { return wrong },
		ErrGone: func() error { return fmt.Errorf("read %d", data[0]) },
	} {
		if err := Run(read); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// Other panics are faults of the program, and must not be hidden.
func TestPanics(t *testing.T) {
	for _, wrong := range []func(){
		func() { panic("wrong") },
		func() { var p *int; *p = 1 },
		func() { var none []byte; none[len(none)] = 1 },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_ = Run(func() error { wrong(); return nil })
		}()
	}
}

func TestEach(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	data := gone(t)
	for _, n := range []int{0, 1, 2, 1000} {
		var sum atomic.Int64
		if _, err := Each(n, func(i int) error { sum.Add(int64(i)); return nil }); err != nil || sum.Load() != int64(n*(n-1)/2) {
			t.Errorf("%d: sum %d, %v", n, sum.Load(), err)
		}
	}
	for range 200 { // the lowest that fails, whoever is first
		failed, err := Each(1000, func(i int) error {
			if i%7 == 5 {
				return fmt.Errorf("%d", i)
			}
			return nil
		})
		if failed != 5 || err == nil || err.Error() != "5" {
			t.Fatal(failed, err)
		}
	}
	if _, err := Each(1000, func(i int) error { return fmt.Errorf("read %d", data[0]) }); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	begun := atomic.Int64{}
	_, _ = Each(1_000_000, func(int) error { begun.Add(1); return errors.New("wrong") })
	if n := begun.Load(); n > 4 {
		t.Errorf("%d were begun after the first had failed", n)
	}
}
