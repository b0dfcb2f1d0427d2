package synth

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// Many presents n adapters, "m0000" and so on, that share the bytes of those in folder
// but for their last 16 weights, so that each has a digest of its own. To read one
// costs a copy in memory, as of a disk whose content is in the page cache.
func Many(folder fs.FS, n int) (fs.FS, error) {
	children, err := fs.ReadDir(folder, ".")
	if err != nil {
		return nil, err
	}
	m := &many{n: n}
	for _, child := range children {
		config, err := fs.ReadFile(folder, path.Join(child.Name(), configFile))
		if err != nil {
			return nil, err
		}
		weights, err := fs.ReadFile(folder, path.Join(child.Name(), weightsFile))
		if err != nil {
			return nil, err
		}
		m.shared = append(m.shared, [2][]byte{config, weights})
	}
	if len(m.shared) == 0 {
		return nil, fmt.Errorf("no adapters to share the weights of")
	}
	return m, nil
}

type many struct {
	n      int
	shared [][2][]byte // config and weights
}

// patchBytes is the size of what differs, at the end of the weights.
const patchBytes = 32

// Open implements fs.FS.
func (m *many) Open(name string) (fs.File, error) {
	f, ok := m.find(name)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return f, nil
}

// Stat implements fs.StatFS.
func (m *many) Stat(name string) (fs.FileInfo, error) {
	f, ok := m.find(name)
	if !ok {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return f.Stat()
}

func (m *many) find(name string) (fs.File, bool) {
	dir, file := path.Split(name)
	if dir == "" {
		dir, file = file, ""
	}
	dir = strings.TrimSuffix(dir, "/")
	if dir == "." && file == "" {
		root := &directory{info: info{".", -1}}
		for i := range m.n {
			root.children = append(root.children, fs.FileInfoToDirEntry(info{adapterName(i), -1}))
		}
		return root, true
	}
	var i int
	if _, err := fmt.Sscanf(dir, "m%d", &i); err != nil || i < 0 || i >= m.n || adapterName(i) != dir {
		return nil, false
	}
	shared := m.shared[i%len(m.shared)]
	switch config, weights := shared[0], shared[1]; file {
	case "":
		return &directory{info{dir, -1}, []fs.DirEntry{
			fs.FileInfoToDirEntry(info{configFile, int64(len(config))}), fs.FileInfoToDirEntry(info{weightsFile, int64(len(weights))}),
		}}, true
	case configFile:
		return open(file, config, nil), true
	case weightsFile:
		return open(file, weights, patch(uint64(i))), true
	}
	return nil, false
}

func adapterName(i int) string { return fmt.Sprintf("m%04d", i) }

// patch is 16 small weights in F16.
func patch(number uint64) []byte {
	random := splitMix(number)
	var b []byte
	for range patchBytes / 2 {
		const signAndFraction, exponent = 0x83ff, 0x2000
		b = binary.LittleEndian.AppendUint16(b, uint16(random.next())&signAndFraction|exponent)
	}
	return b
}

// file reads shared bytes, but for those at the end that tail replaces.
type file struct {
	info
	*io.SectionReader
}

func open(name string, shared, tail []byte) *file {
	size := int64(len(shared))
	return &file{info{name, size}, io.NewSectionReader(&patched{shared, tail}, 0, size)}
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

// Size is of the info and of the reader: the same.
func (f *file) Size() int64 { return f.SectionReader.Size() }

type patched struct{ shared, tail []byte }

func (p *patched) ReadAt(dst []byte, at int64) (int, error) {
	n := copy(dst, p.shared[at:])
	if from := int64(len(p.shared) - len(p.tail)); at+int64(n) > from {
		skip := max(0, from-at) // of dst, before the tail
		copy(dst[skip:n], p.tail[at+skip-from:])
	}
	if n < len(dst) {
		return n, io.EOF
	}
	return n, nil
}

type directory struct {
	info
	children []fs.DirEntry // not read yet
}

func (d *directory) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *directory) Close() error               { return nil }
func (d *directory) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: fs.ErrInvalid}
}

// ReadDir implements fs.ReadDirFile.
func (d *directory) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.children)
	} else if len(d.children) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.children))
	out := slices.Clone(d.children[:n])
	d.children = d.children[n:]
	return out, nil
}

// info describes a file, or a directory if its size is negative.
type info struct {
	name string
	size int64
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return max(0, i.size) }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.size < 0 }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.IsDir() {
		return fs.ModeDir | 0o555
	}
	return 0o444
}
