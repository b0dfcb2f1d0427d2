package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"lorikeet/backend/fake"
)

// The slot, its version and the token from which on it is used reach the engine.
func TestAdaptersReachEngine(t *testing.T) {
	e := &recorder{Engine: fake.New(256, 4)}
	s := start(t, e, loadTimeout, Options{})
	type use struct {
		slot, from int
		version    string
	}
	// ask returns what the engine is to use for each prompt, and the header.
	ask := func(members body) (uses []use, header string) {
		t.Helper()
		r := s.post(body{"model": base, "prompt": "abc", "max_tokens": 1}.plus(members))
		if r.status != http.StatusOK {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
		for _, r := range e.take() {
			uses = append(uses, use{r.Slot, r.SlotFrom, r.Version})
		}
		header = r.header.Get(adapterHeader)
		var a answer
		if err := json.Unmarshal(r.body, &a); err != nil {
			t.Fatal(err)
		}
		want := "fp_fake"
		if header != "" {
			for part := range strings.SplitSeq(header, ", ") {
				_, version, _ := strings.Cut(part, "@")
				want += "_" + version
			}
		}
		if a.SystemFingerprint != want {
			t.Errorf("fingerprint %s beside %s", a.SystemFingerprint, header)
		}
		return uses, header
	}
	one := func(members body) (use, string) {
		t.Helper()
		uses, header := ask(members)
		if len(uses) != 1 {
			t.Fatalf("%d requests", len(uses))
		}
		return uses[0], header
	}

	if u, header := one(body{}); u != (use{}) || header != "" {
		t.Errorf("the base: %+v, %q", u, header)
	}
	red, header := one(body{"model": "red"})
	digest, ok := strings.CutPrefix(header, "red@")
	if !ok || red.slot == 0 || red.from != 0 || !strings.Contains(red.version, digest) {
		t.Errorf("red: %+v, %q", red, header)
	}
	if same, _ := one(body{"lora": []body{{"name": "red"}}}); same != red {
		t.Errorf("red in the lora field: %+v, in the name %+v", same, red)
	}
	if same, h := one(body{"lora": []body{{"id": 4}}}); same != red || h != header {
		t.Errorf("adapter 4: %+v, %q; red %+v", same, h, red)
	}
	if half, h := one(body{"model": "red", "lora": []body{{"id": 4, "scale": 0.5}}}); half.slot == red.slot || half.version == red.version || h != header {
		t.Errorf("half of red: %+v, %q; red %+v", half, h, red)
	}
	if none, h := one(body{"model": "red", "lora": []body{{"name": "red", "scale": 0}}}); none != (use{}) || h != header {
		t.Errorf("nothing of red: %+v, %q", none, h)
	}

	both, h := one(body{"lora": []body{{"name": "red"}, {"name": "blue", "scale": -1}}})
	if both.slot == 0 || both.version == red.version || !strings.HasPrefix(h, header+", blue@") {
		t.Errorf("red and blue: %+v, %q", both, h)
	}
	if turned, _ := one(body{"lora": []body{{"name": "blue", "scale": -1}, {"name": "red"}, {"name": "gold", "scale": 0}}}); turned != both {
		t.Errorf("blue and red: %+v, red and blue %+v", turned, both)
	}

	spell, _ := ask(body{"model": "spell", "prompt": []string{"!a!b", "abc", "abc!"}})
	if len(spell) != 3 || spell[0].slot == 0 || spell[0].version == "" || spell[0].from != 3 || spell[1] != (use{}) || spell[2] != (use{spell[0].slot, 4, spell[0].version}) {
		t.Errorf("an activated adapter: %+v", spell)
	}
}

// Up to the tokens that invoke it, an activated adapter is the base.
func TestActivatedAdapter(t *testing.T) {
	s := serve(t)
	b := body{"prompt": "abc", "max_tokens": 20, "temperature": 0}
	want := s.complete(b.plus(body{"model": base}))
	if got := s.complete(b.plus(body{"model": "spell"})); got.Choices[0].Text != want.Choices[0].Text {
		t.Errorf("not invoked: %q, the base %q", got.Choices[0].Text, want.Choices[0].Text)
	}
	b["prompt"] = "abc!"
	if got, want := s.complete(b.plus(body{"model": "spell"})), s.complete(b.plus(body{"model": base})); got.Choices[0].Text == want.Choices[0].Text {
		t.Errorf("invoked: %q, as the base", got.Choices[0].Text)
	}
}
