package server

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"lorikeet/adapters"
	"lorikeet/api"
	"lorikeet/backend/fake"
)

// call calls the management API with a body that is JSON.
func (s *running) call(method, path string, b body) response {
	s.t.Helper()
	return s.request(method, path, http.Header{"Content-Type": {"application/json"}}, s.encode(b))
}

// succeeds checks vLLM's answer to a change.
func succeeds(t *testing.T, r response, text string) {
	t.Helper()
	if want := "Success: LoRA adapter " + text; r.status != http.StatusOK || string(r.body) != want || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
		t.Fatalf("status %d, %v: %s; want %s", r.status, r.header, r.body, want)
	}
}

// status describes an adapter that exists.
func (s *running) status(name string) api.Adapter {
	s.t.Helper()
	r := s.call(http.MethodGet, "/v1/adapters/"+name, nil)
	var a api.Adapter
	if err := json.Unmarshal(r.body, &a); err != nil || r.status != http.StatusOK {
		s.t.Fatalf("status %d: %s", r.status, r.body)
	}
	return a
}

// An adapter is served from the moment at which it was loaded under a name, in another
// version from the moment at which it was replaced, and no more when it was unloaded.
func TestManageAdapter(t *testing.T) {
	s := serve(t)
	text := func(model string) string {
		t.Helper()
		return s.complete(body{"model": model, "prompt": "abc", "max_tokens": 20, "temperature": 0}).Choices[0].Text
	}
	red, blue := text("red"), text("blue")
	if red == blue {
		t.Fatal("red and blue say the same")
	}
	ask := body{"model": "crimson", "prompt": "abc"}
	checkError(t, s.post(ask), http.StatusNotFound, "invalid_request_error", "model_not_found")

	load := body{"lora_name": "crimson", "lora_path": "red"}
	succeeds(t, s.call(http.MethodPost, "/v1/load_lora_adapter", load), "'crimson' added successfully.")
	if got := text("crimson"); got != red {
		t.Errorf("crimson says %q, red %q", got, red)
	}
	if a := s.status("crimson"); a.Origin != "runtime" || a.Path != "red" || a.Version == nil || *a.Rank != 1 {
		t.Errorf("%+v", a)
	}
	checkError(t, s.call(http.MethodPost, "/v1/load_lora_adapter", load.plus(body{"lora_path": "blue"})), http.StatusBadRequest, "invalid_request_error", "adapter_already_loaded")
	if got := text("crimson"); got != red {
		t.Errorf("crimson says %q after a refusal, red %q", got, red)
	}
	succeeds(t, s.call(http.MethodPost, "/v1/load_lora_adapter", load.plus(body{"lora_path": "blue", "load_inplace": true})), "'crimson' added successfully.")
	if got := text("crimson"); got != blue {
		t.Errorf("crimson says %q, blue %q", got, blue)
	}
	// What can't be served does not take the place of what can.
	checkError(t, s.call(http.MethodPost, "/v1/load_lora_adapter", load.plus(body{"lora_path": "broken", "load_inplace": true})), http.StatusBadRequest, "invalid_request_error", "adapter_unusable")
	if got := text(base + ":crimson"); got != blue {
		t.Errorf("crimson says %q after a refusal, blue %q", got, blue)
	}

	succeeds(t, s.call(http.MethodPost, "/v1/unload_lora_adapter", body{"lora_name": base + ":crimson"}), "'lab/fake:crimson' removed successfully.")
	checkError(t, s.post(ask), http.StatusNotFound, "invalid_request_error", "model_not_found")
	checkError(t, s.call(http.MethodPost, "/v1/unload_lora_adapter", body{"lora_name": "crimson"}), http.StatusNotFound, "invalid_request_error", "model_not_found")
	if got := text("blue"); got != blue {
		t.Errorf("blue says %q, and said %q", got, blue)
	}
	if r := s.call(http.MethodDelete, "/v1/models/blue", nil); r.status != http.StatusOK {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	checkError(t, s.call(http.MethodGet, "/v1/models/blue", nil), http.StatusNotFound, "invalid_request_error", "model_not_found")
}

// A stream that runs when its adapter is unloaded is finished, as if nothing had
// happened; no new one begins, and the answer to the unload comes after it.
func TestUnloadWaits(t *testing.T) {
	b := body{"model": "red", "prompt": "abc", "max_tokens": 30, "temperature": 0, "stream": true}
	want := string(normal(serve(t).post(b).body))
	s, e := startGated(t, 4, loadTimeout)
	stream := bufio.NewReader(s.open(t.Context(), b).Body)
	first, err := stream.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if a := s.status("red"); a.Leases != 1 || a.Slot == nil || a.Tier != "slot" {
		t.Errorf("%+v", a)
	}
	unloaded := make(chan response, 1)
	go func() { unloaded <- s.call(http.MethodPost, "/v1/unload_lora_adapter", body{"lora_name": "red"}) }()
	for s.request(http.MethodGet, "/v1/models/red", nil, nil).status != http.StatusNotFound {
	}
	checkError(t, s.post(b), http.StatusNotFound, "invalid_request_error", "model_not_found")
	if len(unloaded) > 0 {
		t.Fatalf("unloaded under a stream: %s", (<-unloaded).body)
	}
	e.open()
	rest, err := io.ReadAll(stream)
	if got := string(normal([]byte(first + string(rest)))); err != nil || got != want {
		t.Errorf("%v: %s\nundisturbed: %s", err, got, want)
	}
	succeeds(t, <-unloaded, "'red' removed successfully.")
}

// An unload that has waited long enough says who is left, and leaves them alone.
func TestUnloadDoesNotWaitForEver(t *testing.T) {
	b := body{"model": "red", "prompt": "abc", "max_tokens": 30, "temperature": 0, "stream": true}
	want := string(normal(serve(t).post(b).body))
	s, e := startGated(t, 4, 20*time.Millisecond)
	stream := bufio.NewReader(s.open(t.Context(), b).Body)
	first, err := stream.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	succeeds(t, s.call(http.MethodPost, "/v1/unload_lora_adapter", body{"lora_name": "red"}), "'red' removed successfully. Requests that still use it and will finish: 1.")
	e.open()
	rest, err := io.ReadAll(stream)
	if got := string(normal([]byte(first + string(rest)))); err != nil || got != want {
		t.Errorf("%v: %s\nundisturbed: %s", err, got, want)
	}
}

// A pinned adapter stays in its slot while others take turns in the rest.
func TestPin(t *testing.T) {
	s := start(t, fake.New(256, 2), loadTimeout, Options{})
	if r := s.call(http.MethodPost, "/v1/adapters/red/pin", nil); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	pinned := s.status("red")
	if !pinned.Pinned || pinned.Slot == nil {
		t.Fatalf("%+v", pinned)
	}
	for _, model := range []string{"blue", "green", "gold"} {
		s.complete(body{"model": model, "prompt": "abc"})
	}
	if a := s.status("red"); a.Slot == nil || *a.Slot != *pinned.Slot || *a.LoadedAt != *pinned.LoadedAt {
		t.Errorf("%+v, was %+v", a, pinned)
	}
	checkError(t, s.call(http.MethodPost, "/v1/adapters/blue/pin", nil), http.StatusConflict, "invalid_request_error", "too_many_pinned")
	if r := s.call(http.MethodPost, "/v1/adapters/red/unpin", nil); r.status != http.StatusOK || !strings.Contains(string(r.body), `"pinned":false`) {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	if r := s.call(http.MethodPost, "/v1/adapters/blue/pin", nil); r.status != http.StatusOK || !strings.Contains(string(r.body), `"pinned":true`) {
		t.Errorf("status %d: %s", r.status, r.body)
	}
}

// With several bases, an adapter is loaded for the one that is named; the others do not
// get it.
func TestSeveralBases(t *testing.T) {
	options := adapters.Options{LoadTimeout: loadTimeout, UnloadTimeout: loadTimeout}
	second := fstest.MapFS{}
	addAdapter(second, "jade", 2, 8)
	addAdapter(second, "red", 4, 8)
	s := startBases(t, Options{}, newBase(t, base, fake.New(256, 4), &adapters.Folder{FS: folder()}, options),
		newBase(t, "second", fake.New(256, 4), &adapters.Folder{FS: second}, options))

	load := body{"lora_name": "new", "lora_path": "red"}
	if e := checkError(t, s.call(http.MethodPost, "/v1/load_lora_adapter", load), http.StatusBadRequest, "invalid_request_error", "missing_required_parameter"); *e.Param != "base_model_name" {
		t.Errorf("%+v", e)
	}
	checkError(t, s.call(http.MethodPost, "/v1/load_lora_adapter", body{"lora_name": base, "lora_path": "red", "base_model_name": "second"}), http.StatusBadRequest, "invalid_request_error", "invalid_value")
	checkError(t, s.call(http.MethodPost, "/v1/load_lora_adapter", body{"lora_name": base + ":new", "lora_path": "red", "base_model_name": "second"}), http.StatusBadRequest, "invalid_request_error", "invalid_value")
	succeeds(t, s.call(http.MethodPost, "/v1/load_lora_adapter", load.plus(body{"base_model_name": "second"})), "'new' added successfully.")
	succeeds(t, s.call(http.MethodPost, "/v1/load_lora_adapter", body{"lora_name": "second:newer", "lora_path": "jade"}), "'second:newer' added successfully.")
	for name, want := range map[string]string{"new": "second:new", "newer": "second:newer", "red": base + ":red", "second:red": "second:red", "jade": "second:jade"} {
		if a := s.status(name); a.ID != want {
			t.Errorf("%s is %s, want %s", name, a.ID, want)
		}
	}
	ids := func(query string) (names []string) {
		r := s.call(http.MethodGet, "/lora-adapters"+query, nil)
		var list []api.LoRAEntry
		if err := json.Unmarshal(r.body, &list); err != nil {
			t.Fatal(err)
		}
		for i, e := range list {
			if e.ID != i {
				t.Errorf("%s: id %d at place %d", query, e.ID, i)
			}
			names = append(names, e.Name)
		}
		return names
	}
	if got := strings.Join(ids(""), " "); got != "blue broken gold green red spell" {
		t.Errorf("the first base: %s", got)
	}
	if got := strings.Join(ids("?model=second"), " "); got != "jade red new newer" {
		t.Errorf("the second base: %s", got)
	}
	if got := strings.Join(ids("?model=jade"), " "); got != "jade red new newer" {
		t.Errorf("the base of jade: %s", got)
	}

	// Of two with one name, that of the first base is meant, unless the base is named.
	succeeds(t, s.call(http.MethodPost, "/v1/unload_lora_adapter", body{"lora_name": "red", "base_model_name": "second"}), "'red' removed successfully.")
	checkError(t, s.call(http.MethodGet, "/v1/models/second:red", nil), http.StatusNotFound, "invalid_request_error", "model_not_found")
	checkError(t, s.call(http.MethodPost, "/v1/unload_lora_adapter", body{"lora_name": "red", "base_model_name": "second"}), http.StatusNotFound, "invalid_request_error", "model_not_found")
	if a := s.status("red"); a.ID != base+":red" {
		t.Errorf("%+v", a)
	}
}

// Nothing that a client is told holds a path of the server, other than one of its own.
func TestPathsStayOnServer(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, folder()); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", dir+"/out"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir+"/nowhere", dir+"/gone"); err != nil {
		t.Fatal(err)
	}
	folder, err := adapters.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(folder.Close)
	s := startBases(t, Options{}, newBase(t, base, fake.New(256, 4), folder, adapters.Options{LoadTimeout: loadTimeout, UnloadTimeout: loadTimeout}))
	for path, status := range map[string]int{
		"broken": 400, "nowhere": 404, "gone": 400, "out": 400, "out/passwd": 400, "red/../../" + base: 400, "red/adapter_config.json": 400, ".": 400, "": 400,
		"/etc/passwd": 400, "/": 400, "~/red": 404, "red.gguf": 404, "file:///etc": 404, `red\..\..`: 400, "red/": 200,
	} {
		r := s.call(http.MethodPost, "/v1/load_lora_adapter", body{"lora_name": "crimson", "lora_path": path, "load_inplace": true})
		if r.status != status || strings.Contains(string(r.body), dir) || strings.Contains(string(r.body), "/etc") {
			t.Errorf("%s: status %d, want %d: %s", path, r.status, status, r.body)
		}
	}
	succeeds(t, s.call(http.MethodPost, "/v1/load_lora_adapter", body{"lora_name": "scarlet", "lora_path": dir + "/red"}), "'scarlet' added successfully.")
	for _, path := range []string{"/v1/models", "/lora-adapters"} { // what anyone may ask
		if r := s.call(http.MethodGet, path, nil); strings.Contains(string(r.body), dir) {
			t.Errorf("%s: %s", path, r.body)
		}
	}
}

// A draining server loads nothing, and still tells what it has.
func TestDrainManagement(t *testing.T) {
	s := serve(t)
	s.Drain()
	checkError(t, s.call(http.MethodPost, "/v1/load_lora_adapter", body{"lora_name": "crimson", "lora_path": "red"}), http.StatusServiceUnavailable, "server_error", "shutting_down")
	checkError(t, s.call(http.MethodPost, "/v1/adapters/red/pin", nil), http.StatusServiceUnavailable, "server_error", "shutting_down")
	if r := s.call(http.MethodGet, "/v1/adapters", nil); r.status != http.StatusOK {
		t.Errorf("status %d: %s", r.status, r.body)
	}
}
