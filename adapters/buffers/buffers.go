// Package buffers keeps memory for slot images outside of Go's heap: of large pages, and
// handed out again without being cleared. Images come and go by the dozen, and make most
// of the memory there is: on the heap, the collector would let it grow to twice that, and
// each would be cleared, and its pages be found anew, for longer than it takes to fill it.
//
// [New] makes a [Pool] for one size. Its owner knows when nobody reads a buffer any more.
package buffers

import (
	"fmt"
	"sync"
	"syscall"
)

// Host is told of the memory that buffers are made of, as long as there is any.
type Host interface {
	PinMemory(b []byte)
	UnpinMemory(b []byte)
}

// Pool hands out buffers of one size.
type Pool struct {
	size, spare int
	host        Host

	mu   sync.Mutex
	free [][]byte
}

// New makes a pool of buffers of size bytes, which keeps up to spare of those that
// nobody uses.
func New(size, spare int, host Host) *Pool { return &Pool{size: size, spare: spare, host: host} }

// Get hands a buffer out, which may hold anything. It must be Put back.
func (p *Pool) Get() ([]byte, error) {
	if b := p.reuse(); b != nil {
		return b, nil
	}
	b, err := syscall.Mmap(-1, 0, p.size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("no memory for an image of %d bytes: %w", p.size, err)
	}
	_ = syscall.Madvise(b, syscall.MADV_HUGEPAGE) // where there are no large pages, small ones do
	p.host.PinMemory(b)
	return b, nil
}

func (p *Pool) reuse() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.free) - 1
	if last < 0 {
		return nil
	}
	b := p.free[last]
	p.free = p.free[:last]
	return b
}

// Put takes back what Get handed out, and nobody may touch any more.
func (p *Pool) Put(b []byte) {
	if !p.keep(b) {
		p.unmap(b)
	}
}

func (p *Pool) keep(b []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == p.spare {
		return false
	}
	p.free = append(p.free, b)
	return true
}

// Close gives up the buffers that nobody uses, and later those that are Put back. It is
// idempotent.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.free {
		p.unmap(b)
	}
	p.free, p.spare = nil, 0
}

func (p *Pool) unmap(b []byte) {
	p.host.UnpinMemory(b)
	_ = syscall.Munmap(b) // it was mapped, so it can be unmapped
}
