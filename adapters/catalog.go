package adapters

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"lorikeet/adapters/files"
	"lorikeet/adapters/lora"
)

var validName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,126}[A-Za-z0-9._-])?$`)

// ValidName tells whether a base or an adapter may be called so. The last character is no
// slash: in a path, a slash at the end means nothing.
func ValidName(name string) bool { return validName.MatchString(name) && !strings.Contains(name, "..") }

// Entry is an adapter that was configured, or registered at run time.
type Entry struct {
	Name   string `json:"name"`
	Path   string `json:"path"` // of a PEFT directory or a .gguf file
	Pinned bool   `json:"-"`    // is kept for all adapters in one place, see saved
}

// Sources are where a catalog gets its adapters from.
type Sources struct {
	Folder  *Folder   // each child that is an adapter is served by its name; nil: none
	Roots   []*Folder // from which adapters can be registered at run time, beside Folder
	Entries []Entry   // of the configuration; their paths may be anywhere

	State *State // remembers what is changed at run time; nil: nothing does
	Base  string // whose adapters they are, there

	// Settle is for how long files must not have changed before they are taken for what
	// someone wanted to put there.
	Settle time.Duration
}

// Catalog knows which adapters exist for a base: those of a watched folder, of the
// configuration, and registered at run time. It holds an entry for each, and looks at
// the files from outside; it does not read them.
//
// What is served of an adapter is the stamp of files that were complete and have not
// changed for a while. Files that change after that are another version when they are
// complete in turn; until then requests get the version before.
type Catalog struct {
	sources Sources
	opened  []*Folder // of entries

	cancel  context.CancelFunc // ends watching
	watches *watches           // nil if nothing is watched
	looking sync.Mutex         // one at a time looks at files

	mu       sync.RWMutex
	items    map[Origin]map[string]*item // by name
	served   map[string]*item            // by name: of each, the item that counts
	names    []string                    // of those that are ready, sorted
	ids      map[string]int              // by name; they stay for good
	byID     []string
	hidden   map[string]bool // unloaded although found or configured
	absent   []Entry         // registered before, but their folder was not given at this start
	saves    uint64          // counts what was to be saved
	pins     map[string]bool // what differs from the configuration
	changed  chan struct{}   // closed at the next change
	onChange func(name string)
	warned   map[string]bool // entries that were complained of
}

// item is an adapter of one origin.
type item struct {
	name   string
	origin Origin
	given  string // its path, as it was given
	place  place
	abs    string // the place, on the disk
	pinned bool   // by the configuration

	ready  bool        // stamp is served
	stamp  files.Stamp // of complete files
	seen   files.Stamp // at the last look
	since  time.Time   // when it was first seen so
	reason string      // why what was seen is not served
}

func newItem(name string, origin Origin, given string, p place) *item {
	return &item{name: name, origin: origin, given: given, place: p, abs: p.abs()}
}

// NewCatalog looks for the adapters of its sources and, if some are on a disk, watches
// them until it is closed.
func NewCatalog(s Sources) (*Catalog, error) {
	c := &Catalog{
		sources: s, items: map[Origin]map[string]*item{}, ids: map[string]int{}, hidden: map[string]bool{}, pins: map[string]bool{},
		changed: make(chan struct{}), warned: map[string]bool{},
	}
	for _, origin := range origins {
		c.items[origin] = map[string]*item{}
	}
	if err := c.configure(); err != nil {
		c.closeFolders()
		return nil, err
	}
	if err := c.scan(); err != nil {
		c.closeFolders()
		return nil, err
	}
	c.watch()
	return c, nil
}

// origins in the order of precedence, the last one counts.
var origins = []Origin{FromFolder, FromConfig, FromRuntime}

// configure takes up the configured entries and what the state remembers.
func (c *Catalog) configure() error {
	for _, e := range c.sources.Entries {
		f, name, err := openParent(e.Path)
		if err != nil {
			return err
		}
		c.opened = append(c.opened, f)
		it := newItem(e.Name, FromConfig, e.Path, placeIn(f, name))
		it.pinned = e.Pinned
		c.items[FromConfig][e.Name] = it
	}
	b := c.sources.State.get(c.sources.Base)
	for _, e := range b.Registered {
		p, err := resolve(c.roots(), e.Path)
		if err != nil || !ValidName(e.Name) {
			slog.Warn("adapters: what was registered before can't be served", "adapter", e.Name, "path", e.Path, "err", cmp.Or(err, ErrName))
			c.absent = append(c.absent, e)
			continue
		}
		c.items[FromRuntime][e.Name] = newItem(e.Name, FromRuntime, e.Path, p)
	}
	for _, name := range b.Unloaded {
		c.hidden[name] = true
	}
	maps.Copy(c.pins, b.Pins)
	return nil
}

// roots are the folders from which adapters can be registered.
func (c *Catalog) roots() []*Folder {
	if c.sources.Folder == nil {
		return c.sources.Roots
	}
	return append([]*Folder{c.sources.Folder}, c.sources.Roots...)
}

// Close ends the watching.
func (c *Catalog) Close() {
	if c.watches != nil {
		c.cancel()
		<-c.watches.done
	}
	c.closeFolders()
}

func (c *Catalog) closeFolders() {
	for _, f := range c.opened {
		f.Close()
	}
}

// Names returns the adapters' names, sorted.
func (c *Catalog) Names() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clone(c.names)
}

// has tells whether a name is served, or will be when its files are complete.
func (c *Catalog) has(name string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.served[name] != nil
}

// nameOf returns the name that has an id.
func (c *Catalog) nameOf(id int) (string, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if id < 0 || id >= len(c.byID) || c.served[c.byID[id]] == nil {
		return "", false
	}
	return c.byID[id], true
}

// lost tells whether there are no files, and not only for a moment.
func (it *item) lost() bool { return it.seen.Key() == "" && it.reason != settling }

// source is the version of an adapter that is served, by its files.
type source struct {
	place place
	stamp files.Stamp
}

func (s source) equal(t source) bool { return s.place == t.place && s.stamp.Equal(t.stamp) }

// patience is for how long files that do not change are taken for a copy under way.
const patience = time.Minute

// IncompleteError says that the files of an adapter are not complete yet. It may pass.
type IncompleteError struct {
	Name   string
	Reason string // names files of the adapter
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("adapter %q is not complete yet: %s", e.Name, e.Reason)
}

// find looks a name up. Errors are ErrUnknown, *IncompleteError and, if the files are
// lost, *lora.Error.
func (c *Catalog) find(name string) (source, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	it := c.served[name]
	switch {
	case it == nil:
		return source{}, ErrUnknown
	case !it.ready && it.lost():
		return source{}, &lora.Error{File: path.Base(it.place.path), Reason: "is missing"}
	case !it.ready:
		return source{}, it.incomplete()
	}
	return source{it.place, it.stamp}, nil
}

// incomplete is why what was seen last can't be served. The catalog's mutex is held.
func (it *item) incomplete() error {
	if time.Since(it.seen.Changed) > patience || time.Since(it.since) > patience {
		return &lora.Error{File: path.Base(it.place.path), Reason: it.reason}
	}
	return &IncompleteError{it.name, it.reason}
}

// unreadable is why the version that is served of a name can't be read: other files, that
// are not complete, lie in its place. It is nil if there are none, or they may only need
// time.
func (c *Catalog) unreadable(name string) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	it := c.served[name]
	if it == nil || !it.ready || it.reason == "" || it.reason == settling || it.seen.Equal(it.stamp) {
		return nil
	}
	return it.incomplete()
}

// places returns where the adapters' files are, also of those that are not complete.
func (c *Catalog) places() []place {
	c.mu.RLock()
	defer c.mu.RUnlock()
	places := make([]place, 0, len(c.served))
	for _, it := range c.served {
		places = append(places, it.place)
	}
	return places
}

// changes returns a channel that is closed at the next change of the catalog.
func (c *Catalog) changes() <-chan struct{} {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.changed
}

// notify sets what is called when an adapter is served in another version, or is found
// or gone.
func (c *Catalog) notify(f func(name string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onChange = f
}

// isPinnedName tells whether a name is to be pinned.
func (c *Catalog) isPinnedName(name string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	it := c.served[name]
	return it != nil && c.isPinned(it)
}

// pinned returns the names that are to be pinned, sorted.
func (c *Catalog) pinned() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var names []string
	for name, it := range c.served {
		if c.isPinned(it) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// update makes what follows from items and hidden. The caller holds mu.
func (c *Catalog) update() {
	c.served = map[string]*item{}
	for _, origin := range origins {
		for name, it := range c.items[origin] {
			if !c.hidden[name] && (it.ready || c.served[name] == nil) {
				c.served[name] = it
			}
		}
	}
	c.names = c.names[:0:0]
	for name, it := range c.served {
		if it.ready {
			c.names = append(c.names, name)
		}
	}
	slices.Sort(c.names)
	for _, name := range c.names {
		if _, known := c.ids[name]; !known {
			c.ids[name] = len(c.byID)
			c.byID = append(c.byID, name)
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Catalog) isPinned(it *item) bool {
	if pinned, changed := c.pins[it.name]; changed {
		return pinned
	}
	return it.pinned
}

// snapshot is what differs from sources. The caller holds mu, and writes it when it does
// not any more: that takes as long as the disk does.
func (c *Catalog) snapshot() saved {
	c.saves++
	b := saved{change: c.saves, Registered: slices.Clone(c.absent)}
	for _, name := range slices.Sorted(maps.Keys(c.items[FromRuntime])) {
		b.Registered = append(b.Registered, Entry{Name: name, Path: c.items[FromRuntime][name].remembered(c.sources.Folder)})
	}
	b.Unloaded = slices.Sorted(maps.Keys(c.hidden))
	b.Pins = maps.Clone(c.pins)
	return b
}

// remembered is the item's path for the next start: within the folder, so that the folder
// may move, or absolute.
func (it *item) remembered(folder *Folder) string {
	if it.place.folder == folder || it.place.folder.Path == "" {
		return it.place.path
	}
	return it.abs
}

func (c *Catalog) write(b saved) error { return c.sources.State.put(c.sources.Base, b) }

// register serves the files at a place, as they are, under a name. With replace, the name
// may be served from somewhere else. The error is ErrRegistered or wraps ErrState.
func (c *Catalog) register(e Entry, s source, replace bool) error {
	c.mu.Lock()
	if c.served[e.Name] != nil && !replace {
		c.mu.Unlock()
		return ErrRegistered
	}
	it := c.served[e.Name]
	if it == nil || it.place != s.place {
		it = c.items[FromFolder][e.Name]
		if it == nil || it.place != s.place || c.items[FromConfig][e.Name] != nil {
			it = newItem(e.Name, FromRuntime, e.Path, s.place)
			c.items[FromRuntime][e.Name] = it
		} else {
			delete(c.items[FromRuntime], e.Name)
		}
	}
	it.ready, it.stamp, it.seen, it.since, it.reason = true, s.stamp, s.stamp, time.Now(), ""
	delete(c.hidden, e.Name)
	c.forgetAbsent(e.Name)
	c.setPin(it, e.Pinned)
	c.update()
	b := c.snapshot()
	c.mu.Unlock()
	c.watchPlace(s.place)
	return c.write(b)
}

// remove ends the service of a name. Errors are ErrUnknown and ErrState.
func (c *Catalog) remove(name string) error {
	c.mu.Lock()
	if c.served[name] == nil {
		c.mu.Unlock()
		return ErrUnknown
	}
	delete(c.items[FromRuntime], name)
	if c.items[FromConfig][name] != nil || c.items[FromFolder][name] != nil {
		c.hidden[name] = true
	}
	c.forgetAbsent(name)
	delete(c.pins, name)
	c.update()
	b := c.snapshot()
	c.mu.Unlock()
	return c.write(b)
}

func (c *Catalog) forgetAbsent(name string) {
	c.absent = slices.DeleteFunc(c.absent, func(e Entry) bool { return e.Name == name })
}

// pin remembers whether a name is pinned. Errors are ErrUnknown and ErrState.
func (c *Catalog) pin(name string, pinned bool) error {
	c.mu.Lock()
	it := c.served[name]
	if it == nil {
		c.mu.Unlock()
		return ErrUnknown
	}
	c.setPin(it, pinned)
	b := c.snapshot()
	c.mu.Unlock()
	return c.write(b)
}

func (c *Catalog) setPin(it *item, pinned bool) {
	delete(c.pins, it.name)
	if it.pinned != pinned {
		c.pins[it.name] = pinned
	}
}
