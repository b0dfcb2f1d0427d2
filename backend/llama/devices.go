package llama

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "bridge.h"
#include "devices.h"
*/
import "C"

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	ggml "github.com/ollama/ollama/ml/backend/ggml/ggml/src"

	"lorikeet/backend/devices"
)

const cudaLibrary = "libggml-cuda.so"

// FindDevices loads the CUDA backend if it lies beside the program, in ../lib/ollama or
// where OLLAMA_LIBRARY_PATH says, and tells what there is. The devices' memory is left
// out: Memory tells it.
func FindDevices() devices.Found {
	initOnce()
	var f devices.Found
	for _, dir := range ggml.LibPaths() {
		if path := filepath.Join(dir, cudaLibrary); f.Library == "" && exists(path) {
			f.Library = filepath.Clean(path)
		}
	}
	if f.Library == "" {
		return f
	}
	archs := C.lk_cuda_archs()
	if archs == nil {
		f.Failure = whyNot(f.Library)
		return f
	}
	f.Archs = parseArchs(C.GoString(archs))
	for i := range C.lk_gpu_count() {
		g := C.lk_get_gpu(i)
		f.Devices = append(f.Devices, devices.Device{
			Name: C.GoString(g.name), Description: C.GoString(g.description), Compute: int(10*g.compute_major + g.compute_minor),
		})
	}
	return f
}

// gpuNumbers are those that the bridge knows devices by.
func gpuNumbers(names []string) ([]C.int, error) {
	var numbers []C.int
	for _, name := range names {
		i := slices.IndexFunc(FindDevices().Devices, func(d devices.Device) bool { return d.Name == name })
		if i < 0 {
			return nil, &Error{Op: "use device " + name, Reason: "it is not there"}
		}
		numbers = append(numbers, C.int(i))
	}
	return numbers, nil
}

// Memory tells the free and the total bytes of a device. Its error is an *Error.
func Memory(d devices.Device) (free, total int64, err error) {
	i, err := gpuNumbers([]string{d.Name})
	if err != nil {
		return 0, 0, err
	}
	var cFree, cTotal C.size_t
	var reason errBuf
	if !C.lk_gpu_memory(i[0], &cFree, &cTotal, reason.c()) {
		return 0, 0, &Error{Op: "ask " + d.Name + " for its memory", Reason: reason.or("")}
	}
	return int64(cFree), int64(cTotal), nil
}

// Pin makes copies from a piece of memory, none of the Go heap's, to GPUs faster, until
// Unpin. It tells whether it could.
func Pin(b []byte) bool { return bool(C.lk_pin(unsafe.Pointer(&b[0]), C.size_t(len(b)))) }

// Unpin takes back what Pin has done.
func Unpin(b []byte) { C.lk_unpin(unsafe.Pointer(&b[0])) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// whyNot tells why ggml did not take a library, which it does not say itself.
func whyNot(library string) string {
	path := C.CString(library)
	defer C.free(unsafe.Pointer(path))
	if reason := C.lk_why_not(path); reason != nil {
		return C.GoString(reason)
	}
	if abs, err := filepath.Abs(library); err == nil && !strings.Contains(abs, "lib/ollama") {
		return "its folder is not called lib/ollama"
	}
	return "ggml did not take it: it was built from other sources"
}

// parseArchs reads what nvcc calls __CUDA_ARCH_LIST__, such as "800,900".
func parseArchs(list string) []int {
	var archs []int
	for s := range strings.SplitSeq(list, ",") {
		if n, err := strconv.Atoi(strings.TrimSpace(s)); err == nil && n >= 100 {
			archs = append(archs, n/10)
		}
	}
	return archs
}
