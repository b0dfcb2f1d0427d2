// Package demo carries the small model and the adapters that ship with Lorikeet,
// so that it can be tried without owning any. demo/train made them.
package demo

import (
	"embed"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Name is what the base is served as.
const Name = "parrot"

//go:embed parrot.gguf
var model []byte

//go:embed all:adapters
var files embed.FS

// Adapters is the folder of the demo's adapters.
func Adapters() fs.FS {
	sub, err := fs.Sub(files, "adapters")
	if err != nil {
		panic(err) // the folder is embedded
	}
	return sub
}

// Model puts the base into an anonymous file in memory and returns a path by which
// this process can open it, until close. llama.cpp reads models by path only.
func Model() (path string, close func(), err error) {
	fd, err := unix.MemfdCreate("parrot.gguf", unix.MFD_CLOEXEC)
	if err != nil {
		return "", nil, fmt.Errorf("demo model: %w", err)
	}
	f := os.NewFile(uintptr(fd), "parrot.gguf")
	if _, err := f.Write(model); err != nil {
		f.Close()
		return "", nil, fmt.Errorf("demo model: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), func() { f.Close() }, nil
}
