package cli

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lorikeet/adapters"
	"lorikeet/api"
	"lorikeet/backend/fake"
	"lorikeet/demo"
	"lorikeet/server"
)

// run runs a command and returns what it prints.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out, errs bytes.Buffer
	err := Command("test", &out, &errs, args).ExecuteContext(t.Context())
	if errs.Len() > 0 {
		t.Errorf("%q: on standard error: %s", args, &errs)
	}
	return out.String(), err
}

// served serves a base that no adapter of the demo fits, with the adapters in a folder.
func served(t *testing.T, dir, adminKey string) (url string) {
	t.Helper()
	folder, err := adapters.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(folder.Close)
	catalog, err := adapters.NewCatalog(adapters.Sources{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(catalog.Close)
	e := fake.New(256, 4)
	manager := adapters.NewManager(catalog, e, adapters.Options{LoadTimeout: 10 * time.Second, UnloadTimeout: 10 * time.Second})
	t.Cleanup(manager.Close)
	registry, err := adapters.NewRegistry(&adapters.Base{Name: "lab", Engine: e, Adapters: manager})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(server.New(server.Options{Registry: registry, AdminKey: adminKey}))
	t.Cleanup(s.Close)
	return s.URL
}

// tiny writes a GGUF adapter that fits the fake.
func tiny(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, tinyGGUF(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAdaptersCommands(t *testing.T) {
	dir := t.TempDir()
	tiny(t, filepath.Join(dir, "first.gguf"))
	url := served(t, dir, "")
	ok := func(want string, args ...string) {
		t.Helper()
		out, err := run(t, append([]string{"adapters"}, append(args, "--url", url+"/")...)...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%q: %v: %s, want %q in it", args, err, out, want)
		}
	}
	refused := func(want string, args ...string) {
		t.Helper()
		if out, err := run(t, append([]string{"adapters"}, append(args, "--url", url)...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v: %s, want %q in it", args, err, out, want)
		}
	}
	ok("first", "ls")
	ok("'second' added", "load", "first.gguf", "--name", "second") // within the server's folder
	refused("has already been loaded", "load", "first.gguf", "--name", "second")
	ok("'second' added", "load", "first.gguf", "--name", "second", "--replace", "--pin", "--model", "lab")
	refused("no base model of that name", "load", "first.gguf", "--name", "third", "--model", "nobody")
	refused("no such file or directory", "load", "nowhere")
	refused("outside of the folders", "load", t.TempDir())
	refused("outside of the folders", "load", ".") // of which the name is that of the directory
	ok("lab:first is pinned (slot ", "pin", "first")
	ok("lab:first is not pinned (slot ", "unpin", "lab:first")
	ok("'second' removed", "unload", "second")
	refused("cannot be found", "unload", "second")
	refused("cannot be found", "pin", "../second")

	t.Chdir(dir) // where the path is one that exists, too
	ok("'first-too' added", "load", "./first.gguf", "--name", "first-too")
	tiny(t, filepath.Join(dir, "fourth.gguf"))
	ok("'fourth' added", "load", "fourth.gguf", "--replace")

	out, err := run(t, "adapters", "ls", "--json", "--url", url)
	var list api.AdapterList
	if err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list.Data) != 3 || list.Data[1].Path != filepath.Join(dir, "first.gguf") {
		t.Errorf("%v: %s", err, out)
	}
}

// A server with a key is told it by a flag or by the environment; without, the client
// says how.
func TestAdaptersKey(t *testing.T) {
	url := served(t, t.TempDir(), "sesame")
	if _, err := run(t, "adapters", "ls", "--url", url); err == nil || !strings.Contains(err.Error(), "(set LORIKEET_ADMIN_KEY, or --key)") {
		t.Errorf("no key: %v", err)
	}
	if _, err := run(t, "adapters", "ls", "--url", url, "--key", "wrong"); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Errorf("a wrong key: %v", err)
	}
	if _, err := run(t, "adapters", "ls", "--url", url, "--key", "sesame"); err != nil {
		t.Error(err)
	}
	t.Setenv(adminKeyEnv, "sesame")
	if _, err := run(t, "adapters", "ls", "--url", url); err != nil {
		t.Error(err)
	}
}

func TestAdaptersWithoutServer(t *testing.T) {
	s := httptest.NewServer(nil)
	s.Close()
	if _, err := run(t, "adapters", "ls", "--url", s.URL); err == nil || !strings.Contains(err.Error(), "no server answers at "+s.URL) {
		t.Error(err)
	}
}

func TestAdaptersTable(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *time.Time { u := now.Add(-d); return &u }
	ptr := func(s string) *string { return &s }
	num := func(n int) *int { return &n }
	bytes := func(n int64) *int64 { return &n }
	ms := func(x float64) *float64 { return &x }
	list := &api.AdapterList{
		Bases: []api.AdapterBase{
			{Name: "llama", Adapters: 4, Slots: api.AdapterSlots{Total: 16, Used: 2, Pinned: 1}, MaxRank: 64, HostBytes: api.AdapterHost{Used: 52_428_800, Budget: 1 << 30}},
			{Name: "plain"},
			{Name: "new", Slots: api.AdapterSlots{Total: 1}, MaxRank: 16},
		},
		Data: []api.Adapter{
			{Name: "café", Base: "llama", Tier: "host", Version: ptr("2601c8ed6ceef00d"), Rank: num(8), Targets: []string{"attn_k", "attn_q", "output"}, Bytes: bytes(999), LastLoadMS: ms(12.3456), LastLoadTier: ptr("disk"), LoadedAt: at(90 * time.Minute)},
			{Name: "half", Base: "llama", Tier: "disk", Incomplete: ptr("adapter_model.safetensors is missing")},
			{Name: "support", Base: "llama", Tier: "slot", Slot: num(3), Pinned: true, Leases: 12, Version: ptr("0123456789abcdef"), Rank: num(64), Targets: []string{"attn_output", "ffn_down", "ffn_gate", "ffn_up"}, Bytes: bytes(167_772_160), LastLoadMS: ms(0.25), LastLoadTier: ptr("host"), LoadedAt: at(3 * time.Second)},
			{Name: "torn", Base: "llama", Tier: "disk", Bytes: bytes(5000), Error: ptr("adapter_config.json: r is 0")},
		},
	}
	const want = `llama: 4 adapters; 2 of 16 slots in use, 1 pinned; 52 MB of 1.1 GB of host memory; ranks up to 64

name     pin  version       in      leases  rank  targets         size    last load
café          2601c8ed6cee  host    0       8     q k output      999 B   12 ms from disk, 2 h ago
half          -             disk    0       -     -               -       -
  incomplete: adapter_model.safetensors is missing
support  yes  0123456789ab  slot 3  12      64    o gate up down  168 MB  0.2 ms from host, 3 s ago
torn          -             disk    0       -     -               5.0 kB  -
  error: adapter_config.json: r is 0

plain takes no adapters

new: 0 adapters; 0 of 1 slot in use, 0 pinned; 0 B of 0 B of host memory; ranks up to 16
`
	var out strings.Builder
	writeAdapters(&out, paintFor(&out), list, now)
	if out.String() != want {
		t.Errorf("is\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	writeAdapters(&out, func(code, text string) string { return "<" + code + "|" + text + ">" }, list, now)
	for _, painted := range []string{"<1|llama>", "  <31|error: adapter_config.json: r is 0>", "<2|name     pin "} {
		if !strings.Contains(out.String(), painted) {
			t.Errorf("no %s in\n%s", painted, out.String())
		}
	}
}

// The demo's adapters can be served, as far as their files tell; cut ones can't.
func TestInspect(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, demo.Adapters()); err != nil {
		t.Fatal(err)
	}
	entries, err := fs.ReadDir(demo.Adapters(), ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out, err := run(t, "adapters", "inspect", filepath.Join(dir, e.Name()))
		if err != nil || !strings.Contains(out, "Nothing is wrong with it by itself.") || !strings.Contains(out, "layers        0-5\n") {
			t.Errorf("%s: %v\n%s", e.Name(), err, out)
		}
	}
	out, err := run(t, "adapters", "inspect", filepath.Join(dir, "pirate"))
	for _, line := range []string{"format        PEFT\n", "made for      parrot\n", "rank          8\n", "alpha         16, so the scale is 2\n", "tensors       84 in F32\n", "size          675 kB (675336 bytes)\n"} {
		if err != nil || !strings.Contains(out, line) {
			t.Errorf("%v: no %q in\n%s", err, line, out)
		}
	}
	if err := os.Truncate(filepath.Join(dir, "pirate", "adapter_model.safetensors"), 5000); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "pirate-gguf.gguf"), 5000); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"pirate": "adapter_model.safetensors: ", "pirate-gguf.gguf": "pirate-gguf.gguf: ", "": "adapter_config.json: is missing",
	} {
		out, err := run(t, "adapters", "inspect", filepath.Join(dir, name))
		if err == nil || !strings.HasSuffix(err.Error(), "reason)") && !strings.HasSuffix(err.Error(), "reasons)") || !strings.Contains(out, "It can't be served:\n  "+want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if _, err := run(t, "adapters", "inspect", filepath.Join(dir, "nowhere")); err == nil || !strings.Contains(err.Error(), "no such file or directory") {
		t.Error(err)
	}
}

// With a base, what does not fit it is told, tensor by tensor.
func TestInspectWithBase(t *testing.T) {
	const parrot = "../demo/parrot.gguf"
	link := filepath.Join(t.TempDir(), "base")
	target, err := filepath.Abs(parrot)
	if err == nil {
		err = os.Symlink(target, link)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{parrot, link} {
		if out, err := run(t, "adapters", "inspect", "../demo/adapters/shout", "--base", base); err != nil || !strings.Contains(out, "architecture  llama\n") || !strings.HasSuffix(out, "\nIt fits "+base+".\n") {
			t.Errorf("%v\n%s", err, out)
		}
	}
	stranger := "../tests/oracle/testdata/mqa/adapters/attention"
	out, err := run(t, "adapters", "inspect", stranger, "--base", parrot)
	if err == nil || err.Error() != stranger+" can't be served (12 reasons)" || strings.Count(out, " columns, but blk.") != 12 {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = run(t, "adapters", "inspect", "../demo/adapters/pirate", "--base", parrot, "--targets", "ffn_up") // 7 targets in 6 layers
	if err == nil || !strings.Contains(out, "the base has no weight blk.0.attn_q.weight that adapters can change") || !strings.Contains(out, "… and 16 reasons more\n") {
		t.Errorf("%v\n%s", err, out)
	}
	for base, want := range map[string]string{"nowhere.gguf": "base nowhere.gguf: no such file or directory", "cli.go": "not a GGUF file", "..": "base ..: "} {
		if _, err := run(t, "adapters", "inspect", stranger, "--base", base); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", base, err)
		}
	}
}

func TestRanges(t *testing.T) {
	for want, numbers := range map[string][]int{"": nil, "0": {0}, "0-3": {0, 1, 2, 3}, "0 2 4-5": {0, 2, 4, 5}, "1-2 7": {1, 2, 7}} {
		if got := ranges(numbers); got != want {
			t.Errorf("%v: %q, want %q", numbers, got, want)
		}
	}
}
