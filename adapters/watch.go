package adapters

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"lorikeet/adapters/files"
)

// How often a catalog looks at files.
const (
	soon    = 20 * time.Millisecond // after it was told of a change, for others that come with it
	regular = 30 * time.Second      // at everything: not every file system tells of its changes
	polling = 2 * time.Second       // the same, if there are too many directories to be told of
)

// watches are what a catalog is told of by the operating system. One goroutine, which
// watch starts and Close ends, waits for it.
type watches struct {
	fsnotify *fsnotify.Watcher // nil if there can be none
	blind    atomic.Bool       // it is not told of everything
	done     chan struct{}
	ask      chan string // names to look at soon
}

// every is how often everything is looked at.
func (w *watches) every() time.Duration {
	if w.blind.Load() {
		return polling
	}
	return regular
}

// watch starts the goroutine, if any of the places is on a disk.
func (c *Catalog) watch() {
	onDisk := false
	for _, f := range append(c.roots(), c.opened...) {
		onDisk = onDisk || f.Path != ""
	}
	if !onDisk {
		return
	}
	w := &watches{done: make(chan struct{}), ask: make(chan string, 64)}
	var err error
	if w.fsnotify, err = fsnotify.NewWatcher(); err != nil {
		w.blind.Store(true)
		slog.Warn("adapters: changes are noticed late", "err", err)
	}
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(context.Background())
	c.watches = w
	go func() {
		defer close(w.done)
		c.rewatch()
		c.keepLooking(ctx)
		if w.fsnotify != nil {
			_ = w.fsnotify.Close() // nobody reads its events any more
		}
	}()
}

// keepLooking looks at what has changed, until ctx ends.
func (c *Catalog) keepLooking(ctx context.Context) {
	w := c.watches
	var events chan fsnotify.Event
	var failures chan error
	if w.fsnotify != nil {
		events, failures = w.fsnotify.Events, w.fsnotify.Errors
	}
	dirty := map[string]bool{} // names, of children or of items
	whole := time.Now()        // when everything is to be looked at: what has changed before the watching began
	due := whole
	timer := time.NewTimer(0)
	hurry := func() {
		if t := time.Now().Add(soon); t.Before(due) {
			due = t
			timer.Reset(soon)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			c.affected(e, dirty)
			hurry()
			continue
		case name := <-w.ask:
			dirty[name] = true
			hurry()
			continue
		case err := <-failures:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				slog.Debug("adapters: a watch has failed", "err", err) // of a directory that is gone
				continue
			}
			slog.Info("adapters: too many changes at once; looking at everything")
			whole = time.Now()
		case <-timer.C:
		}
		if !time.Now().Before(whole) {
			if err := c.scan(); err != nil {
				slog.Warn("adapters: can't read the folder", "err", err)
			}
			c.rewatch()
			whole = time.Now().Add(w.every())
		} else {
			for name := range dirty {
				c.watchChild(name) // it may be another directory than before
			}
			c.look(dirty)
		}
		clear(dirty)
		due = c.pending(dirty, whole)
		timer.Reset(time.Until(due))
	}
}

// affected adds the names that an event may matter to.
func (c *Catalog) affected(e fsnotify.Event, names map[string]bool) {
	if f := c.sources.Folder; f != nil && f.Path != "" {
		if rel, err := filepath.Rel(f.real, e.Name); err == nil && filepath.IsLocal(rel) && rel != "." {
			child, _, inside := strings.Cut(filepath.ToSlash(rel), "/")
			names[childName(child)] = true
			if !inside && e.Has(fsnotify.Create) {
				c.watchChild(child)
			}
		}
	}
	dir := filepath.Dir(e.Name)
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, origin := range []Origin{FromConfig, FromRuntime} {
		for name, it := range c.items[origin] {
			if it.abs == e.Name || it.abs == dir {
				names[name] = true
			}
		}
	}
}

// rewatch watches the folder, its directories, and the places of other adapters, and
// nothing else any more.
func (c *Catalog) rewatch() {
	var watched []string // from before wanted is made: what is registered meanwhile is not lost
	if w := c.watches.fsnotify; w != nil {
		watched = w.WatchList()
	}
	wanted := map[string]bool{}
	if f := c.sources.Folder; f != nil && f.Path != "" {
		wanted[f.real] = true
		children, _ := fs.ReadDir(f.FS, ".") // scan tells why it can't be read
		for _, child := range children {
			if !child.Type().IsRegular() && isDir(f, child.Name()) {
				wanted[filepath.Join(f.real, child.Name())] = true
			}
		}
	}
	c.mu.RLock()
	for _, origin := range []Origin{FromConfig, FromRuntime} {
		for _, it := range c.items[origin] {
			for _, dir := range it.place.dirs() {
				wanted[dir] = true
			}
		}
	}
	c.mu.RUnlock()
	for dir := range wanted {
		c.watchDir(dir)
	}
	for _, dir := range watched {
		if !wanted[dir] {
			_ = c.watches.fsnotify.Remove(dir) // it may be gone
		}
	}
}

func isDir(f *Folder, child string) bool {
	st, err := fs.Stat(f.FS, child)
	return err == nil && st.IsDir()
}

// watchChild watches a child of the folder, if it is a directory.
func (c *Catalog) watchChild(child string) {
	f := c.sources.Folder
	if f == nil || f.Path == "" {
		return
	}
	if isDir(f, child) {
		c.watchDir(filepath.Join(f.real, child))
	}
}

// watchPlace watches the directories of a place.
func (c *Catalog) watchPlace(p place) {
	for _, dir := range p.dirs() {
		c.watchDir(dir)
	}
}

// dirs are the directories, on the disk, in which changes matter to a place.
func (p place) dirs() []string {
	switch {
	case p.folder.Path == "":
		return nil
	case p.gguf:
		return []string{filepath.Dir(p.abs())}
	}
	return []string{filepath.Dir(p.abs()), p.abs()}
}

// watchDir asks to be told of changes in a directory; it may be no directory.
func (c *Catalog) watchDir(dir string) {
	w := c.watches
	if w == nil || w.fsnotify == nil {
		return
	}
	if err := w.fsnotify.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !w.blind.Swap(true) {
		slog.Warn("adapters: changes are noticed late", "err", err)
	}
}

// abs is the place's path on the disk.
func (p place) abs() string { return filepath.Join(p.folder.real, filepath.FromSlash(p.path)) }

// poke asks to look at a name soon, or looks if nobody else does.
func (c *Catalog) poke(name string) {
	if c.watches == nil {
		c.look(map[string]bool{name: true})
		return
	}
	select {
	case c.watches.ask <- name:
	default: // it has much to look at already
	}
}

// scan looks at everything.
func (c *Catalog) scan() error {
	c.looking.Lock()
	defer c.looking.Unlock()
	var failed error
	names := map[string]bool{}
	if f := c.sources.Folder; f != nil {
		children, err := fs.ReadDir(f.FS, ".")
		failed = err
		for _, child := range children {
			c.discover(child.Name())
		}
	}
	c.mu.RLock()
	for _, origin := range origins {
		for name := range c.items[origin] {
			names[name] = true
		}
	}
	c.mu.RUnlock()
	c.lookAt(names)
	return failed
}

// look looks at the items of names, and at children of the folder that may be called so.
func (c *Catalog) look(names map[string]bool) {
	c.looking.Lock()
	defer c.looking.Unlock()
	if c.sources.Folder != nil {
		for name := range names {
			c.discover(name)
			c.discover(name + ".gguf")
		}
	}
	c.lookAt(names)
}

func childName(child string) string { return strings.TrimSuffix(child, ".gguf") }

// discover makes an item of a child of the folder, if it is or becomes an adapter.
func (c *Catalog) discover(child string) {
	if strings.HasPrefix(child, ".") {
		return
	}
	p := placeIn(c.sources.Folder, child)
	name := childName(child)
	c.mu.RLock()
	known := c.items[FromFolder][name]
	c.mu.RUnlock()
	if known != nil && known.place == p {
		return
	}
	if s, err := p.stamp(); err != nil || s.Key() == "" {
		return
	}
	if !ValidName(name) {
		c.complain(child, "not a name that can be served", "entry", child)
		return
	}
	if known != nil {
		c.complain(child, "another adapter has this name and is served", "entry", child)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.items[FromFolder][name] = newItem(name, FromFolder, child, p)
}

// complain warns once of an entry.
func (c *Catalog) complain(entry, what string, attrs ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.warned[entry] {
		c.warned[entry] = true
		slog.Warn("adapters: "+what, attrs...)
	}
}

// lookAt looks at the files of items and takes those that are complete.
func (c *Catalog) lookAt(names map[string]bool) {
	var affected []string
	c.mu.RLock()
	first := c.served == nil
	c.mu.RUnlock()
	different := first
	for name := range names {
		for _, origin := range origins {
			c.mu.RLock()
			it := c.items[origin][name]
			was := it != nil && it.ready
			c.mu.RUnlock()
			if it == nil {
				continue
			}
			switch c.examine(it) {
			case taken:
				different = true
				affected = append(affected, name)
				if was {
					slog.Info("adapter replaced", "adapter", name)
				} else if !first {
					slog.Info("adapter found", "adapter", name)
				}
			case gone:
				different = true
				affected = append(affected, name)
				slog.Info("adapter gone", "adapter", name)
			case told:
				different = true
			}
		}
	}
	if !different {
		return
	}
	c.mu.Lock()
	c.update()
	notify := c.onChange
	c.mu.Unlock()
	if notify == nil {
		return
	}
	for _, name := range affected {
		notify(name)
	}
}

// outcome is what came of looking at an item.
type outcome int

const (
	unchanged outcome = iota
	taken             // what is there now is served
	gone              // it is not served any more
	told              // there is another reason why it is not served
)

// examine looks at the files of an item. The caller holds looking, so that nobody else
// but register changes the item.
func (c *Catalog) examine(it *item) outcome {
	now := time.Now()
	c.mu.RLock()
	before := it.since
	c.mu.RUnlock()
	var stamp files.Stamp
	v, err := it.place.open()
	switch {
	case err == nil:
		defer v.Close()
		stamp, err = v.stamp()
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	c.mu.RLock()
	since := it.since
	if since.IsZero() || !stamp.Equal(it.seen) {
		since = now
	}
	current := it.ready && stamp.Equal(it.stamp)
	c.mu.RUnlock()
	reason, lost := "", false
	settled := now.Sub(since) >= c.sources.Settle || stamp.Key() != "" && now.Sub(stamp.Changed) >= c.sources.Settle
	switch {
	case current:
	case err != nil:
		reason = err.Error()
	case !settled:
		reason = settling
	case stamp.Key() == "" && it.origin == FromFolder:
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.items[FromFolder], it.name)
		return gone
	case stamp.Key() == "":
		lost = true
		reason = path.Base(it.place.path) + " is missing"
	default:
		reason = v.incomplete()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !it.since.Equal(before) { // it was registered meanwhile, from files that may be newer
		return unchanged
	}
	outcome := unchanged
	if it.since.IsZero() || it.reason != reason {
		outcome = told
	}
	it.seen, it.since, it.reason = stamp, since, reason
	if lost && it.ready {
		it.ready = false
		return gone
	}
	if current || reason != "" {
		return outcome
	}
	it.ready, it.stamp = true, stamp
	return taken
}

// settling is the reason of an item that needs no more than time.
const settling = "its files are being changed"

// AwaitSettled waits until no files need more time to be taken, which those do that were
// copied just before the start. Files that go on being changed are not waited for.
func (c *Catalog) AwaitSettled() {
	if c.watches == nil {
		return
	}
	deadline := time.After(c.sources.Settle + time.Second)
	for {
		changes := c.changes()
		if !c.unsettled() {
			return
		}
		select {
		case <-changes:
		case <-deadline:
			return
		}
	}
}

func (c *Catalog) unsettled() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, items := range c.items {
		for _, it := range items {
			if it.reason == settling {
				return true
			}
		}
	}
	return false
}

// pending adds the names of items that wait for their files to settle, and tells when
// to look at them, at last by latest.
func (c *Catalog) pending(names map[string]bool, latest time.Time) time.Time {
	soonest := time.Now().Add(time.Millisecond)
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, origin := range origins {
		for name, it := range c.items[origin] {
			if it.reason != settling {
				continue
			}
			names[name] = true
			first := it.since
			if changed := it.seen.Changed; changed.Before(first) && !changed.IsZero() {
				first = changed
			}
			if t := first.Add(c.sources.Settle); t.Before(latest) {
				latest = t
			}
		}
	}
	if latest.Before(soonest) {
		return soonest
	}
	return latest
}
