package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"lorikeet/backend/engine"
	"lorikeet/tests/testserver"
)

// Faults that other servers had, as far as no other test here shows that they are
// absent.

// slowFolder has an adapter "slow" whose weights can't be opened until gate is closed.
type slowFolder struct {
	fs.FS
	armed   chan struct{} // closed when opening begins to wait
	waiting chan struct{} // gets a value when someone waits
	gate    chan struct{}
}

func (f *slowFolder) Open(name string) (fs.File, error) {
	if name == "slow/adapter_model.safetensors" {
		select {
		case <-f.armed:
			f.waiting <- struct{}{}
			<-f.gate
		default:
		}
	}
	return f.FS.Open(name)
}

// A load that hangs stalls neither streams nor other loads.
func TestLoadStallsNobody(t *testing.T) {
	content := fstest.MapFS{}
	for _, v := range []string{"pirate", "shout", "json"} {
		for _, f := range adapterFiles {
			content[v+"/"+f] = &fstest.MapFile{Data: adapterFile(t, v, f)}
			content["slow/"+f] = &fstest.MapFile{Data: adapterFile(t, "haiku", f)}
		}
	}
	folder := &slowFolder{content, make(chan struct{}), make(chan struct{}, 9), make(chan struct{})}
	s := testserver.StartDemo(t, engine.Params{Slots: 3}, folder)
	stream := func(model string) string {
		return testserver.Text(s.Stream(body{"model": model, "prompt": "What does the cow say?", "max_tokens": 32, "temperature": 0}))
	}
	want := stream("pirate")
	close(folder.armed)
	slow := make(chan string)
	go func() { slow <- stream("slow") }()
	<-folder.waiting
	if got := stream("pirate"); got != want {
		t.Errorf("beside a load that hangs: %q, before %q", got, want)
	}
	for _, v := range []string{"shout", "json"} { // not resident: these load
		if got := stream(v); got == "" || got == want {
			t.Errorf("%s: %q", v, got)
		}
	}
	select {
	case text := <-slow:
		t.Fatalf("the slow one has answered %q", text)
	default:
	}
	close(folder.gate)
	if text := <-slow; text == "" || text == want {
		t.Errorf("the slow one: %q", text)
	}
}

// badAdapters are directories that can't be served, each for another reason.
func badAdapters(t *testing.T, dir string, n int) []string {
	t.Helper()
	config, weights := adapterFile(t, "pirate", adapterFiles[0]), adapterFile(t, "pirate", adapterFiles[1])
	kinds := []func() (string, []byte){
		func() (string, []byte) { return "{}", weights },
		func() (string, []byte) { return "not JSON", weights },
		func() (string, []byte) { return string(config), []byte("\xff\xff\xff\xff\xff\xff\xff\x7f{}") },
		func() (string, []byte) {
			return string(config), append([]byte("\x02\x00\x00\x00\x00\x00\x00\x00[]"), weights...)
		},
		func() (string, []byte) { return strings.ReplaceAll(string(config), `"LORA"`, `"LOHA"`), weights },
		func() (string, []byte) { return string(config), append(append([]byte{}, weights...), 0, 0) },
		func() (string, []byte) {
			return string(config), []byte(strings.Replace(string(weights), "layers.0.", "layers.9.", 1))
		},
	}
	var names []string
	for i := range n {
		name := fmt.Sprintf("bad%d", i)
		names = append(names, name)
		c, w := kinds[i%len(kinds)]()
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, data := range map[string][]byte{adapterFiles[0]: []byte(c), adapterFiles[1]: w} {
			if err := os.WriteFile(filepath.Join(dir, name, file), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return names
}

// manage sends a request to the management API and returns status and answer.
func manage(t *testing.T, s *testserver.Server, path string, b body) (int, string) {
	t.Helper()
	data, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	resp := s.Post(path, "application/json", data)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// 50 bad loads, by requests and by registration, hurt no good request.
func TestBadLoads(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"pirate", "shout"} {
		copyAdapter(t, v, filepath.Join(dir, v))
	}
	names := badAdapters(t, dir, 50)
	s := testserver.DemoWith(t, engine.Params{Slots: 2}, dir)
	waitForAdapters(t, s, len(names)+2)
	ask := func(model string) string {
		return s.Complete(body{"model": model, "prompt": "What does the cow say?", "max_tokens": 24, "temperature": 0}).Choices[0].Text
	}
	want := map[string]string{"parrot": ask("parrot"), "pirate": ask("pirate"), "shout": ask("shout")}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for model, text := range want {
		wg.Go(func() {
			for {
				if got := ask(model); got != text {
					t.Errorf("%s: %q beside bad loads, %q without", model, got, text)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i, name := range names {
		status, c := s.Do(body{"model": name, "prompt": "x"})
		if status != http.StatusBadRequest || *c.Error.Code != "adapter_unusable" || strings.Contains(c.Error.Message, dir) {
			t.Errorf("%s: status %d, %+v", name, status, c.Error)
		}
		if status, text := manage(t, s, "/v1/load_lora_adapter", body{"lora_name": fmt.Sprintf("again%d", i), "lora_path": name}); status != http.StatusBadRequest {
			t.Errorf("%s registered: status %d, %s", name, status, text)
		}
	}
	close(done)
	wg.Wait()
}

// 1000 times an adapter is registered, generates and is unloaded; nothing is left of it.
func TestUnloadFrees(t *testing.T) {
	dir := t.TempDir()
	copyAdapter(t, "pirate", filepath.Join(dir, "shelf", "a"))
	copyAdapter(t, "shout", filepath.Join(dir, "shelf", "b"))
	s := testserver.DemoWith(t, engine.Params{Slots: 2}, dir)
	cycle := func(i int) {
		name := fmt.Sprintf("x%d", i%7)
		if status, text := manage(t, s, "/v1/load_lora_adapter", body{"lora_name": name, "lora_path": "shelf/" + string("ab"[i%2])}); status != http.StatusOK {
			t.Fatalf("load: status %d, %s", status, text)
		}
		s.Complete(body{"model": name, "prompt": "x", "max_tokens": 2})
		if status, text := manage(t, s, "/v1/unload_lora_adapter", body{"lora_name": name}); status != http.StatusOK {
			t.Fatalf("unload: status %d, %s", status, text)
		}
	}
	measure := func() (goroutines int, heap uint64) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	const cycles = 1000
	for i := range cycles / 10 {
		cycle(i)
	}
	goroutines, heap := measure()
	for i := range cycles {
		cycle(i)
	}
	after, heapAfter := measure()
	for deadline := time.Now().Add(10 * time.Second); after > goroutines && time.Now().Before(deadline); after, heapAfter = measure() {
		runtime.Gosched() // what has ended is still ending
	}
	t.Logf("goroutines %d -> %d, heap %d -> %d KiB", goroutines, after, heap>>10, heapAfter>>10)
	if after > goroutines {
		t.Errorf("%d goroutines before, %d after", goroutines, after)
	}
	if heapAfter > heap+1<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", heap, heapAfter)
	}
	var list struct {
		Data  []any
		Bases []struct {
			Slots     struct{ Used int }
			HostBytes struct{ Used int } `json:"host_bytes"`
		}
	}
	s.Get("/v1/adapters", &list)
	if len(list.Data) != 0 || len(list.Bases) != 1 || list.Bases[0].Slots.Used != 0 || list.Bases[0].HostBytes.Used != 0 {
		t.Errorf("%+v is left", list)
	}
}
