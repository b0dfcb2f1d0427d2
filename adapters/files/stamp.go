package files

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"
)

// Stamp describes files from outside: which ones they are, their sizes and when they
// changed. It differs after any of them was replaced or written.
type Stamp struct {
	Changed time.Time // see StampOf
	Bytes   int64     // of all files

	text string // comparable; "" if there are no files
}

// Equal tells whether nothing has changed between two stamps.
func (s Stamp) Equal(t Stamp) bool { return s.text == t.text }

// Key is a text that is equal for equal stamps, and "" if none of the files is there.
func (s Stamp) Key() string { return s.text }

// StampOf looks at files, of which some may be missing. Changed is the latest time at
// which one of them was written, renamed or otherwise touched, as their file system
// tells it; it is zero if it does not.
func StampOf(fsys fs.FS, names ...string) (Stamp, error) {
	var s Stamp
	var b strings.Builder
	found := false
	for _, name := range names {
		st, err := fs.Stat(fsys, name)
		if errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(&b, "%s -\n", name)
			continue
		}
		if err != nil {
			return Stamp{}, err
		}
		found = true
		s.Bytes += st.Size()
		changed := st.ModTime()
		fmt.Fprintf(&b, "%s/%d/%d", name, changed.UnixNano(), st.Size())
		if sys, ok := st.Sys().(*syscall.Stat_t); ok { // when it got these bytes and this name, which no one can set
			changed = time.Unix(sys.Ctim.Unix())
			fmt.Fprintf(&b, "/%d/%d/%d", changed.UnixNano(), sys.Dev, sys.Ino)
		}
		b.WriteByte('\n')
		if changed.After(s.Changed) {
			s.Changed = changed
		}
	}
	if found {
		s.text = b.String()
	}
	return s, nil
}
