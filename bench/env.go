package bench

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"lorikeet/adapters"
	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/bench/synth"
)

// Env is what a scenario measures with.
type Env struct {
	Quick   bool
	Threads int
	Base    string // path
	Config  synth.Config
	Folder  fs.FS // of as many adapters as sequences

	bandwidth float64 // of memory, GB/s; 0: not known
	dir       string  // where files are made
	progress  func(string)
}

const (
	sequences = 16 // at once, unless a scenario says otherwise; and adapters in the folder
	rank      = 16
)

func newEnv(o Options) (*Env, error) {
	config, err := configOf(o.Size, o.Type)
	if err != nil {
		return nil, err
	}
	e := &Env{Quick: o.Quick, Threads: o.Threads, Config: config, bandwidth: o.Bandwidth, progress: o.Progress}
	if e.Threads == 0 {
		e.Threads = runtime.NumCPU()
	}
	return e, e.generate(o.Dir)
}

// configOf is the base's by the names that people give.
func configOf(size, typ string) (synth.Config, error) {
	config, ok := map[string]synth.Config{"": synth.Default, "200m": synth.Default, "7b": synth.Seven}[size]
	if !ok {
		return config, fmt.Errorf("no base of size %q (there are 200m and 7b)", size)
	}
	if config.Type, ok = map[string]synth.Type{"": synth.F16, "f16": synth.F16, "q8_0": synth.Q8_0, "q4_0": synth.Q4_0}[typ]; !ok {
		return config, fmt.Errorf("no base of type %q (there are f16, q8_0 and q4_0)", typ)
	}
	return config, nil
}

// generate makes base and adapters, unless dir has them.
func (e *Env) generate(dir string) error {
	e.dir = dir
	e.say("base and adapters in %s", dir)
	var err error
	if e.Base, err = synth.Base(dir, e.Config); err != nil {
		return fmt.Errorf("make the base: %w", err)
	}
	folder, err := synth.Adapters(dir, e.Config, sequences, rank)
	if err != nil {
		return fmt.Errorf("make the adapters: %w", err)
	}
	e.Folder = os.DirFS(folder)
	return nil
}

func (e *Env) say(format string, args ...any) {
	if e.progress != nil {
		e.progress(fmt.Sprintf(format, args...))
	}
}

// pick is full, or quick in a quick run.
func (e *Env) pick(full, quick int) int {
	if e.Quick {
		return quick
	}
	return full
}

// params complete an engine's parameters. What a scenario leaves out is the engine's
// default, but for the length of a sequence: cache that nobody uses costs memory only.
func (e *Env) params(p engine.Params) engine.Params {
	p.Path, p.Threads = e.Base, e.Threads
	if p.Context == 0 {
		p.Context = 512
	}
	if p.Sequences == 0 {
		p.Sequences = sequences
	}
	if p.CacheTokens == 0 {
		p.CacheTokens = p.Sequences * p.Context
	}
	if p.Slots == 0 {
		p.Slots = sequences
	}
	if p.Rank == 0 {
		p.Rank = rank
	}
	return p
}

// Rig is a running engine with the manager of its adapters.
type Rig struct {
	Engine  backend.Engine
	Manager *adapters.Manager
	Loads   *atomic.Int64 // slots filled so far

	catalog     *adapters.Catalog
	closeFolder func()
	leases      []*adapters.Lease
}

// hostBytes keep all images that a scenario uses in host memory, unless it says otherwise.
const hostBytes = 1 << 30

// Open starts an engine over a folder of adapters, or none, and computes a little, so
// that memory is mapped and threads run.
func (e *Env) Open(ctx context.Context, p engine.Params, folder fs.FS) (*Rig, error) {
	if folder == nil {
		return e.open(ctx, p, nil, 0)
	}
	return e.open(ctx, p, &adapters.Folder{FS: folder}, hostBytes)
}

// OpenDir is Open over a directory, which is watched as a server does it, with so many
// bytes of host memory for images.
func (e *Env) OpenDir(ctx context.Context, p engine.Params, dir string, hostBytes int64) (*Rig, error) {
	folder, err := adapters.OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	r, err := e.open(ctx, p, folder, hostBytes)
	if err != nil {
		folder.Close()
		return nil, err
	}
	r.closeFolder = folder.Close
	return r, nil
}

func (e *Env) open(ctx context.Context, p engine.Params, folder *adapters.Folder, hostBytes int64) (*Rig, error) {
	catalog, err := adapters.NewCatalog(adapters.Sources{Folder: folder})
	if err != nil {
		return nil, err
	}
	p = e.params(p)
	eng, err := engine.New(p)
	if err != nil {
		catalog.Close()
		return nil, err
	}
	counted := &countingEngine{Engine: eng}
	r := &Rig{
		Engine: eng, Loads: &counted.fills, catalog: catalog, closeFolder: func() {},
		Manager: adapters.NewManager(catalog, counted, adapters.Options{LoadTimeout: 10 * time.Minute, HostBytes: hostBytes}),
	}
	random := e.random("warm up")
	var requests []*backend.Request
	for range p.Sequences {
		requests = append(requests, e.request(random, 16, 4))
	}
	if _, err := r.wave(ctx, requests); err != nil {
		r.Close()
		return nil, fmt.Errorf("warm up: %w", err)
	}
	return r, nil
}

// Close gives back what the rig holds.
func (r *Rig) Close() {
	for _, l := range r.leases {
		l.Release()
	}
	r.Manager.Close()
	r.catalog.Close()
	r.closeFolder()
	_ = r.Engine.Close() // it only waits
}

func (r *Rig) acquire(ctx context.Context, name string) (*adapters.Lease, error) {
	return r.Manager.Acquire(ctx, []adapters.Ref{{Name: name, Scale: 1}})
}

// lease takes a hold on an adapter until the rig is closed.
func (r *Rig) lease(ctx context.Context, name string) (*adapters.Lease, error) {
	l, err := r.acquire(ctx, name)
	if err == nil {
		r.leases = append(r.leases, l)
	}
	return l, err
}

// leaseAll takes holds on the adapters of the folder, in the order of their names.
func (r *Rig) leaseAll(ctx context.Context) ([]*adapters.Lease, error) {
	var all []*adapters.Lease
	for _, name := range r.Manager.Names() {
		l, err := r.lease(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// countingEngine counts the slots that a manager fills.
type countingEngine struct {
	backend.Engine
	fills atomic.Int64
}

// FillSlot implements backend.Engine.
func (c *countingEngine) FillSlot(ctx context.Context, slot int, image []byte) error {
	c.fills.Add(1)
	return c.Engine.FillSlot(ctx, slot, image)
}

// random is a source that depends on what it is for only.
func (e *Env) random(purpose string) *rand.Rand {
	seed := e.Config.Seed
	for _, b := range []byte(purpose) {
		seed = seed*1099511628211 ^ uint64(b)
	}
	return rand.New(rand.NewPCG(seed, 0))
}

// prompt is text of n tokens.
func (e *Env) prompt(random *rand.Rand, n int) []backend.Token {
	tokens := make([]backend.Token, n)
	for i := range tokens {
		tokens[i] = backend.Token(synth.FirstText + random.IntN(e.Config.Vocabulary-synth.FirstText))
	}
	return tokens
}

// request is greedy, of the base, and computes its whole prompt.
func (e *Env) request(random *rand.Rand, promptTokens, maxTokens int) *backend.Request {
	return &backend.Request{Prompt: e.prompt(random, promptTokens), MaxTokens: maxTokens, Logprobs: -1, NoCache: true}
}

// use makes a request use an adapter.
func use(r *backend.Request, l *adapters.Lease) *backend.Request {
	r.Slot, r.Version = l.Slot, l.Key
	return r
}
