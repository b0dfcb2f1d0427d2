package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// errStillCached says that the system keeps files in its page cache, or does not tell.
var errStillCached = errors.New("the files can't be dropped from the page cache")

// pageCache is what the system keeps in memory of the files of a directory.
type pageCache struct {
	files []*os.File
	bytes int64 // of the files
}

func openPageCache(dir string) (*pageCache, error) {
	c := &pageCache{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		c.files = append(c.files, f)
		st, err := f.Stat()
		if err == nil {
			c.bytes += st.Size()
		}
		return err
	})
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *pageCache) close() {
	for _, f := range c.files {
		f.Close()
	}
}

// drop makes the next reads come from the disk. The error may be errStillCached.
func (c *pageCache) drop() error {
	for _, f := range c.files {
		if err := f.Sync(); err != nil { // pages that are not written yet would stay
			return err
		}
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return fmt.Errorf("%w: %w", errStillCached, err)
		}
		var stat unix.Cachestat_t
		if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &stat, 0); err != nil {
			return fmt.Errorf("%w: what it holds is not told: %w", errStillCached, err)
		}
		if stat.Cache > 0 {
			return fmt.Errorf("%w: %d pages of %s stay", errStillCached, stat.Cache, f.Name())
		}
	}
	return nil
}
