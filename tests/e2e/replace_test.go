package e2e

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lorikeet/backend/engine"
	"lorikeet/demo"
	"lorikeet/tests/testserver"
)

// adapterFile is a file of one of the demo's adapters.
func adapterFile(t *testing.T, adapter, file string) []byte {
	t.Helper()
	data, err := fs.ReadFile(demo.Adapters(), adapter+"/"+file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var adapterFiles = []string{"adapter_config.json", "adapter_model.safetensors"}

// copyAdapter writes a demo adapter to a directory, over what is there.
func copyAdapter(t *testing.T, adapter, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range adapterFiles {
		if err := os.WriteFile(filepath.Join(dir, f), adapterFile(t, adapter, f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// The files of an adapter are replaced 100 times while clients use it: file by file in
// place, the directory as a whole, or deleted before another is moved there. Every answer is one
// of the two versions', and the one that it says it is; none fails; and when the server
// has told of the switch, the next request gets the new one.
func TestReplacedUnderLoad(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "adapters")
	voices := []string{"pirate", "shout"}
	for _, v := range voices {
		copyAdapter(t, v, filepath.Join(folder, v))
	}
	copyAdapter(t, voices[0], filepath.Join(folder, "voice"))
	s := testserver.DemoWith(t, engine.Params{Slots: 4}, folder)
	ask := func(model string) (text, version string) {
		c := s.Complete(body{"model": model, "prompt": "What does the cow say?", "max_tokens": 12, "temperature": 0})
		return c.Choices[0].Text, c.SystemFingerprint[strings.LastIndexByte(c.SystemFingerprint, '_')+1:]
	}
	present := func() string {
		var a struct{ Version string }
		if status := s.Get("/v1/adapters/voice", &a); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		return a.Version
	}
	waitForAdapters(t, s, 3)
	want := map[string]string{} // text by version, as the fingerprint shortens it
	versions := map[string]string{}
	for _, v := range voices {
		text, version := ask(v)
		want[version], versions[v] = text, version
	}
	if len(want) != 2 || want[versions["pirate"]] == want[versions["shout"]] {
		t.Fatalf("the versions can't be told apart: %v", want)
	}

	const replacements = 100
	done := make(chan struct{})
	var asked atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if text, version := ask("voice"); want[version] != text {
					t.Errorf("version %q gave %q", version, text)
				}
				asked.Add(1)
			}
		})
	}
	spare := filepath.Join(dir, "spare")
	for i := range replacements {
		next := voices[(i+1)%2]
		target := filepath.Join(folder, "voice")
		switch []int{0, 1, 0, 2, 0, 0, 1, 1, 2, 2}[i%10] {
		case 0:
			copyAdapter(t, next, target)
		case 1:
			copyAdapter(t, next, spare)
			if err := errors.Join(os.Rename(target, filepath.Join(dir, "old")), os.Rename(spare, target), os.RemoveAll(filepath.Join(dir, "old"))); err != nil {
				t.Fatal(err)
			}
		case 2:
			copyAdapter(t, next, spare)
			if err := errors.Join(os.RemoveAll(target), os.Rename(spare, target)); err != nil {
				t.Fatal(err)
			}
		}
		for deadline := time.Now().Add(30 * time.Second); !strings.HasPrefix(present(), versions[next]); {
			if time.Now().After(deadline) {
				t.Fatalf("replacement %d is never told: version %s", i, present())
			}
			time.Sleep(time.Millisecond) // so that the log can be read
		}
		if text, version := ask("voice"); version != versions[next] || text != want[version] {
			t.Errorf("replacement %d by %s: version %s gave %q after the switch was told", i, next, version, text)
		}
	}
	close(done)
	wg.Wait()
	t.Logf("%d answers beside %d replacements", asked.Load(), replacements)
	if asked.Load() < replacements {
		t.Errorf("only %d answers: the load was too low to show anything", asked.Load())
	}
}

// waitForAdapters waits until so many adapters are served.
func waitForAdapters(t *testing.T, s *testserver.Server, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		var list struct{ Data []struct{ ID string } }
		s.Get("/v1/models", &list)
		if len(list.Data) == n+1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d models are served, not %d", len(list.Data), n+1)
		}
	}
}
