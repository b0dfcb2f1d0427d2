package adapters

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// State is the file that remembers, over restarts, what was changed while the server
// ran. It is replaced as a whole, so that it holds the old or the new, whatever happens.
type State struct {
	path string

	mu      sync.Mutex
	bases   map[string]saved
	written map[string]uint64 // the change that is on the disk, by base
}

// saved is what is remembered for a base.
type saved struct {
	Registered []Entry         `json:"registered,omitempty"`
	Unloaded   []string        `json:"unloaded,omitempty"` // names that were found or configured, but are not to be served
	Pins       map[string]bool `json:"pins,omitempty"`     // what differs from the configuration

	change uint64 // rises with each change of the base
}

type stateFile struct {
	Version int              `json:"version"`
	Bases   map[string]saved `json:"bases"`
}

const (
	stateVersion = 1
	maxStateSize = 64 << 20
)

// OpenState reads the file, if there is one.
func OpenState(path string) (*State, error) {
	s := &State{path: path, bases: map[string]saved{}, written: map[string]uint64{}}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state of the adapters: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxStateSize))
	if err != nil {
		return nil, fmt.Errorf("state of the adapters: %w", err)
	}
	var content stateFile
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, fmt.Errorf("state of the adapters %s: %w; mend it or take it away", path, err)
	}
	if content.Version != stateVersion {
		return nil, fmt.Errorf("state of the adapters %s: version %d (%d is read); take it away", path, content.Version, stateVersion)
	}
	for base, b := range content.Bases {
		s.bases[base] = b
	}
	return s, nil
}

func (s *State) get(base string) saved {
	if s == nil {
		return saved{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bases[base]
}

// put remembers what holds for a base since a change. Changes may come in any order: the
// last one counts, and has the others in it. An error wraps ErrState.
func (s *State) put(base string, b saved) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written[base] >= b.change {
		return nil
	}
	if s.bases[base].change < b.change {
		s.bases[base] = b
	}
	data, err := json.MarshalIndent(stateFile{stateVersion, s.bases}, "", "  ")
	if err == nil {
		err = replaceFile(s.path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	for base, b := range s.bases {
		s.written[base] = b.change
	}
	return nil
}

// replaceFile writes a file beside path, waits until it is on the disk, and gives it
// the name.
func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".lorikeet-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
