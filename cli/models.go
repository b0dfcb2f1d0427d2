package cli

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lorikeet/adapters"
	"lorikeet/adapters/gguf"
	"lorikeet/backend"
	"lorikeet/backend/engine"
	"lorikeet/config"
	"lorikeet/demo"
)

// models are the loaded bases, and what must be closed behind them.
type models struct {
	bases   []*adapters.Base
	roots   []*adapters.Folder
	state   *adapters.State // nil: nothing is remembered
	closers []func()
}

// close frees everything, the last opened first.
func (m *models) close() {
	for _, f := range slices.Backward(m.closers) {
		f()
	}
}

// openModels loads the configured bases, or the demo. What it returns must be
// closed, also beside an error.
func openModels(cfg *config.Config) (*models, error) {
	m := &models{}
	for _, dir := range cfg.Adapters.Roots {
		root, err := m.openFolder(dir)
		if err != nil {
			return m, err
		}
		m.roots = append(m.roots, root)
	}
	if err := m.openState(cfg.Adapters); err != nil {
		return m, err
	}
	if len(cfg.Models) == 0 {
		path, done, err := demo.Model()
		if err != nil {
			return m, err
		}
		m.closers = append(m.closers, done)
		folder := &adapters.Folder{FS: demo.Adapters()}
		if cfg.Adapters.Dir != "" {
			if folder, err = m.openFolder(cfg.Adapters.Dir); err != nil {
				return m, err
			}
		}
		// F32 for its cache costs little in so small a model, and it is the one that people compare.
		return m, m.openBase(config.Model{Name: demo.Name, Path: path, KVCacheType: "f32"}, folder, cfg.Adapters)
	}
	for _, c := range cfg.Models {
		var folder *adapters.Folder
		dir := c.AdaptersDir
		if dir == "" {
			dir = cfg.Adapters.Dir
		}
		if dir != "" {
			var err error
			if folder, err = m.openFolder(dir); err != nil {
				return m, fmt.Errorf("model %q: %w", c.Name, err)
			}
		}
		if err := m.openBase(c, folder, cfg.Adapters); err != nil {
			return m, fmt.Errorf("model %q: %w", c.Name, err)
		}
	}
	return m, nil
}

// openFolder opens a folder of adapters that no link leads out of.
func (m *models) openFolder(dir string) (*adapters.Folder, error) {
	f, err := adapters.OpenFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("adapters: %w", err)
	}
	m.closers = append(m.closers, f.Close)
	return f, nil
}

func (m *models) openState(a config.Adapters) error {
	file := a.State
	if file == "" && a.Dir != "" {
		file = filepath.Join(a.Dir, ".lorikeet-state.json")
	}
	if file == "" {
		return nil
	}
	var err error
	m.state, err = adapters.OpenState(file)
	return err
}

func (m *models) openBase(c config.Model, folder *adapters.Folder, a config.Adapters) error {
	sources := adapters.Sources{Folder: folder, Roots: m.roots, State: m.state, Base: c.Name, Settle: a.Settle}
	for _, e := range a.Entries {
		if e.Model == "" || e.Model == c.Name {
			sources.Entries = append(sources.Entries, adapters.Entry{Name: e.Name, Path: e.Path, Pinned: e.Pinned})
		}
	}
	catalog, err := adapters.NewCatalog(sources)
	if err != nil {
		return fmt.Errorf("adapters: %w", err)
	}
	m.closers = append(m.closers, catalog.Close)
	var cacheType *backend.DataType // nil: as the base is
	switch f16, f32 := backend.F16, backend.F32; c.KVCacheType {
	case "f16":
		cacheType = &f16
	case "f32":
		cacheType = &f32
	}
	var chatTemplate []byte
	if c.ChatTemplate != "" {
		if chatTemplate, err = os.ReadFile(c.ChatTemplate); err != nil {
			return fmt.Errorf("chat_template: %w", err)
		}
	}
	var pooling *backend.Pooling // nil: as the base's file says
	switch last, mean := backend.PoolLast, backend.PoolMean; c.Pooling {
	case "last":
		pooling = &last
	case "mean":
		pooling = &mean
	}
	start := time.Now()
	rank := c.MaxRank
	if rank == 0 && c.Slots >= 0 {
		largest := catalog.LargestRank()
		rank = adapters.PoolRank(largest)
		slog.Info("the pool's rank follows the adapters", "model", c.Name, "largest", largest, "rank", rank)
	}
	targets := c.Targets
	if len(targets) == 0 {
		targets = engine.DefaultTargets
	}
	sizes, err := gguf.Sizes(os.DirFS(filepath.Dir(c.Path)), filepath.Base(c.Path), targets)
	if err != nil {
		slog.Warn("the memory that a base takes can't be told from its header", "model", c.Name, "err", err)
	}
	e, err := engine.New(engine.Params{
		Path: c.Path, Context: c.Context, Sequences: c.Sequences, CacheTokens: c.CacheTokens, Queue: c.Queue, QueueTokens: c.QueueTokens,
		StepTokens: c.StepTokens, Stretch: c.Stretch, Threads: c.Threads,
		GPULayers: c.GPULayers, Devices: c.Devices, Split: c.TensorSplit, Flash: flash(c.FlashAttention), Sizes: sizes,
		CacheType: cacheType, Slots: c.Slots, Rank: rank, Targets: c.Targets, Pooling: pooling,
	})
	if err != nil {
		return err
	}
	m.closers = append(m.closers, func() { _ = e.Close() }) // it only waits
	manager := adapters.NewManager(catalog, e, adapters.Options{LoadTimeout: a.LoadTimeout, UnloadTimeout: a.UnloadTimeout, HostBytes: a.HostBytes})
	m.closers = append(m.closers, manager.Close)
	m.bases = append(m.bases, &adapters.Base{Name: c.Name, Engine: e, Adapters: manager, ChatTemplate: string(chatTemplate)})
	catalog.AwaitSettled() // so that what is told of the start is the whole
	info := e.Info()
	slog.Info("base loaded", "model", c.Name, "architecture", info.Architecture, "parameters", fmt.Sprintf("%.1fM", float64(info.Parameters)/1e6),
		"context", info.Context, "slots", max(0, info.Pool.Slots-1), "rank", info.Pool.Rank, "adapters", len(catalog.Names()), "took", time.Since(start).Round(time.Millisecond))
	return nil
}

// flash is the engine's wish by what is configured; nil: if it can be computed.
func flash(mode string) *bool {
	if mode == "" || mode == "auto" {
		return nil
	}
	on := mode == "on"
	return &on
}
