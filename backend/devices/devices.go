// Package devices chooses the GPUs that a base is computed on, from what was wished and
// what was found. [Choose] is a pure function; backend/llama finds.
//
// A GPU that was asked for and can't be used is an error, never a reason to compute on
// the CPU instead.
package devices

import (
	"fmt"
	"slices"
	"strings"
)

// Device is a GPU.
type Device struct {
	Name        string // as ggml calls it, such as "CUDA0"
	Description string // its maker's name
	Compute     int    // compute capability, without its dot; 0 if it is not known
	Free, Total int64  // bytes
}

// Found is what a program finds at start.
type Found struct {
	Library string // the file of the CUDA backend; empty: there is none
	Failure string // why it could not be loaded; empty: it was
	Archs   []int  // compute capabilities that it was built for; empty: not known
	Devices []Device
}

// Wish is what a base's configuration asks for.
type Wish struct {
	Layers *int      // on GPUs; negative: all; nil: all if there is a CUDA backend, else none
	Names  []string  // of the devices to use; empty: all
	Split  []float64 // share of each of these; empty: by their free memory
}

// Kind of an Error.
type Kind int

// Kinds.
const (
	NoBackend  Kind = iota // no CUDA backend beside the program
	NoDriver               // the driver is missing or too old for it
	Unloadable             // it can't be loaded for another reason
	NoDevice               // there is no GPU, or none that this process may see
	Unknown                // a named device is not there
	WrongArch              // a device is older than what the backend was built for
	WrongSplit             // the shares do not fit the devices
)

// Error says why GPUs can't be used, and what to do.
type Error struct {
	Kind Kind
	What string
	Hint string
}

func (e *Error) Error() string { return e.What + ": " + e.Hint }

const onCPU = `to compute on the CPU, set gpu_layers: 0, or for the demo the environment variable OLLAMA_LIBRARY_PATH to nothing`

// Choose returns how many layers go to GPUs, negative for all, and to which. No layers:
// no devices. Errors are *Error.
func Choose(w Wish, f Found) (int, []Device, error) {
	if w.Layers != nil && *w.Layers == 0 {
		if len(w.Names) > 0 || len(w.Split) > 0 {
			return 0, nil, &Error{WrongSplit, "gpu_layers is 0", "devices and tensor_split have no meaning then"}
		}
		return 0, nil, nil
	}
	wished := w.Layers != nil || len(w.Names) > 0 || len(w.Split) > 0
	if f.Library == "" && !wished {
		return 0, nil, nil
	}
	layers := -1
	if w.Layers != nil {
		layers = *w.Layers
	}
	if err := f.usable(); err != nil {
		return 0, nil, err
	}
	chosen, err := pick(w.Names, f.Devices)
	if err != nil {
		return 0, nil, err
	}
	for _, d := range chosen {
		if !runs(f.Archs, d.Compute) {
			return 0, nil, &Error{WrongArch, fmt.Sprintf("%s (%s) has compute capability %s, and the CUDA backend was built for %s", d.Name, d.Description, dotted(d.Compute), dottedAll(f.Archs)),
				fmt.Sprintf("build it with CUDA_ARCHS=%d make cuda; %s", d.Compute, onCPU)}
		}
	}
	return layers, chosen, checkSplit(w.Split, chosen)
}

// usable tells whether the backend was loaded and has devices.
func (f *Found) usable() error {
	switch {
	case f.Library == "":
		return &Error{NoBackend, "a GPU is configured, and there is no lib/ollama/libggml-cuda.so beside the program's folder", "build it with make cuda, or use the image for CUDA; " + onCPU}
	case strings.Contains(f.Failure, "libcuda.so"):
		return &Error{NoDriver, fmt.Sprintf("%s can't be loaded (%s)", f.Library, f.Failure), "install NVIDIA's driver; in a container, start it with the NVIDIA container toolkit and a GPU reservation; " + onCPU}
	case f.Failure != "":
		return &Error{Unloadable, fmt.Sprintf("%s can't be loaded (%s)", f.Library, f.Failure), "install the CUDA libraries that it names, of the version that it was built with, or build it anew with make cuda; " + onCPU}
	case len(f.Devices) == 0:
		return &Error{NoDevice, "the CUDA backend finds no GPU", "see whether nvidia-smi lists one, whether the driver is new enough for the CUDA that the backend was built with, and what CUDA_VISIBLE_DEVICES says; " + onCPU}
	}
	return nil
}

// pick returns the named devices, in the order of the names, or all.
func pick(names []string, there []Device) ([]Device, error) {
	if len(names) == 0 {
		return there, nil
	}
	var chosen []Device
	for _, name := range names {
		i := slices.IndexFunc(there, func(d Device) bool { return strings.EqualFold(d.Name, name) })
		if i < 0 {
			return nil, &Error{Unknown, fmt.Sprintf("device %q is not there", name), "there are " + list(there)}
		}
		if slices.Contains(chosen, there[i]) {
			return nil, &Error{Unknown, fmt.Sprintf("device %q is named twice", name), "name each once"}
		}
		chosen = append(chosen, there[i])
	}
	return chosen, nil
}

func list(there []Device) string {
	var all []string
	for _, d := range there {
		all = append(all, fmt.Sprintf("%s (%s)", d.Name, d.Description))
	}
	return strings.Join(all, ", ")
}

// runs tells whether code for some compute capabilities runs on a device: PTX of an
// older one does.
func runs(archs []int, compute int) bool {
	return len(archs) == 0 || compute == 0 || slices.Min(archs) <= compute
}

func checkSplit(split []float64, chosen []Device) error {
	if len(split) == 0 {
		return nil
	}
	if len(split) != len(chosen) {
		return &Error{WrongSplit, fmt.Sprintf("tensor_split has %d shares for %d devices (%s)", len(split), len(chosen), list(chosen)), "give one to each"}
	}
	sum := 0.0
	for _, s := range split {
		if !(s >= 0 && s <= 1e6) {
			return &Error{WrongSplit, fmt.Sprintf("tensor_split: %v is no share", s), "a share is a number from 0 to 1000000"}
		}
		sum += s
	}
	if sum == 0 {
		return &Error{WrongSplit, "tensor_split gives nothing to any device", "at least one share must be above 0"}
	}
	return nil
}

// dotted writes a compute capability as NVIDIA does.
func dotted(compute int) string { return fmt.Sprintf("%d.%d", compute/10, compute%10) }

func dottedAll(archs []int) string {
	var all []string
	for _, a := range archs {
		all = append(all, dotted(a))
	}
	return strings.Join(all, ", ") + " and newer"
}
