package api

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// maxPath is the longest path that a request may hold, in bytes, as Linux has it.
const maxPath = 4096

// LoadAdapter is a valid request for /v1/load_lora_adapter. Whether the name can be
// served and the path be read is found out behind it.
type LoadAdapter struct {
	Name    string
	Path    string
	Base    string // "" if the name tells, or there is only one
	Replace bool
	Pinned  bool
}

// DecodeLoadAdapter reads and validates a request body.
func DecodeLoadAdapter(body []byte) (*LoadAdapter, *Error) {
	f, err := parseFields(body)
	if err != nil {
		return nil, err
	}
	r := &LoadAdapter{
		Name: f.exact("lora_name"), Path: f.exact("lora_path"), Base: f.exact("base_model_name"),
		Replace: f.boolean("load_inplace", false), Pinned: f.boolean("pinned", false),
	}
	const both = "Both 'lora_name' and 'lora_path' must be provided."
	switch {
	case r.Name == "":
		f.fail(Invalid("lora_name", "missing_required_parameter", both))
	case r.Path == "":
		f.fail(Invalid("lora_path", "missing_required_parameter", both))
	case len(r.Path) > maxPath:
		f.fail(Invalid("lora_path", "string_above_max_length", "Invalid 'lora_path': a path of %d bytes, at most %d are allowed.", len(r.Path), maxPath))
	case strings.Contains(r.Path, "\x00"):
		f.fail(Invalid("lora_path", "invalid_value", "Invalid 'lora_path': no path contains a NUL."))
	}
	if f.err != nil {
		return nil, f.err
	}
	return r, nil
}

// UnloadAdapter is a valid request for /v1/unload_lora_adapter.
type UnloadAdapter struct {
	Name string
	Base string // "" if the name tells
}

// DecodeUnloadAdapter reads and validates a request body.
func DecodeUnloadAdapter(body []byte) (*UnloadAdapter, *Error) {
	f, err := parseFields(body)
	if err != nil {
		return nil, err
	}
	r := &UnloadAdapter{Name: f.exact("lora_name"), Base: f.exact("base_model_name")}
	if r.Name == "" {
		f.missing("lora_name")
	}
	if f.err != nil {
		return nil, f.err
	}
	return r, nil
}

// exact reads a string that must be what the client meant, to the byte.
func (f *fields) exact(name string) string {
	v, ok := f.raw[name]
	switch {
	case !ok:
		return ""
	case v[0] != '"':
		f.wrongType(name, "a string")
		return ""
	}
	return f.utf8(name, v)
}

// AdapterNotFound is the answer to the name of an adapter that is not there; param
// holds the name, and is "" where it is in the path.
func AdapterNotFound(param, name string) *Error {
	return &Error{
		Status: http.StatusNotFound, Type: TypeInvalidRequest, Code: "model_not_found", Param: param,
		Message: fmt.Sprintf("The lora adapter %s cannot be found.", quote(name)),
	}
}

// Adapter describes an adapter. What only its files tell is null until they have been
// read, and what a load tells until there was one.
type Adapter struct {
	ID           string     `json:"id"` // what requests call it: base:name
	Object       string     `json:"object"`
	Name         string     `json:"name"`
	Base         string     `json:"base"`
	LoRAID       *int       `json:"lora_id"` // what the lora field of requests calls it; null if it was never complete
	Origin       string     `json:"origin"`  // folder, config, runtime
	Path         string     `json:"path"`
	Pinned       bool       `json:"pinned"`
	Version      *string    `json:"version"`
	Rank         *int       `json:"rank"`
	Targets      []string   `json:"targets"`
	Tensors      *int       `json:"tensors"`
	Bytes        *int64     `json:"bytes"`
	Tier         string     `json:"tier"` // disk, host, slot
	Slot         *int       `json:"slot"`
	Leases       int        `json:"leases"`
	LastLoadMS   *float64   `json:"last_load_ms"`
	LastLoadTier *string    `json:"last_load_tier"`
	LoadedAt     *time.Time `json:"loaded_at"`
	Incomplete   *string    `json:"incomplete"`
	Error        *string    `json:"error"`
}

// AdapterBase tells how much of a base's room for adapters is used.
type AdapterBase struct {
	Name      string       `json:"name"`
	Adapters  int          `json:"adapters"`
	Slots     AdapterSlots `json:"slots"`
	MaxRank   int          `json:"max_rank"` // of an adapter, and of those together that one request combines
	HostBytes AdapterHost  `json:"host_bytes"`
}

// AdapterSlots counts slots, without that of the base itself. A base that has none
// takes no adapters.
type AdapterSlots struct {
	Total  int `json:"total"`
	Used   int `json:"used"`
	Pinned int `json:"pinned"`
}

// AdapterHost is the host memory for adapters that have left their slots.
type AdapterHost struct {
	Used   int64 `json:"used"`
	Budget int64 `json:"budget"`
}

// AdapterList is the answer of /v1/adapters.
type AdapterList struct {
	Object string        `json:"object"`
	Bases  []AdapterBase `json:"bases"`
	Data   []Adapter     `json:"data"`
}

// LoRAEntry is an entry of /lora-adapters. Path is the name of the adapter's model.
type LoRAEntry struct {
	ID    int     `json:"id"`
	Name  string  `json:"name"`
	Path  string  `json:"path"`
	Scale float64 `json:"scale"` // of requests that ask for none
}

// ModelDeleted is the answer to a DELETE of a model.
type ModelDeleted struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}
