package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestDecodeLoadAdapter(t *testing.T) {
	for body, want := range map[string]LoadAdapter{
		`{"lora_name":"a","lora_path":"/x/y"}`: {Name: "a", Path: "/x/y"},
		`{"lora_name":"b:a","lora_path":"y","load_inplace":true,"pinned":true,"base_model_name":"b","is_3d_lora_weight":false}`: {Name: "b:a", Path: "y", Base: "b", Replace: true, Pinned: true},
		`{"lora_name":"a","lora_path":"né 🦜","load_inplace":null,"pinned":null,"base_model_name":null}`:                         {Name: "a", Path: "né 🦜"},
	} {
		got, err := DecodeLoadAdapter([]byte(body))
		if err != nil || *got != want {
			t.Errorf("%s: %+v, %v; want %+v", body, got, err, want)
		}
	}
	for body, want := range map[string][2]string{
		``:                                    {"", ""},
		`[]`:                                  {"", ""},
		`{"lora_name":"a"`:                    {"", ""},
		`{}`:                                  {"lora_name", missing},
		`{"lora_name":"a"}`:                   {"lora_path", missing},
		`{"lora_path":"a"}`:                   {"lora_name", missing},
		`{"lora_name":"a","lora_path":null}`:  {"lora_path", missing},
		`{"lora_name":"","lora_path":"a"}`:    {"lora_name", missing},
		`{"lora_name":5,"lora_path":"a"}`:     {"lora_name", badType},
		`{"lora_name":"a","lora_path":["a"]}`: {"lora_path", badType},
		`{"lora_name":"a","lora_path":"a","pinned":"yes"}`:       {"pinned", badType},
		`{"lora_name":"a","lora_path":"a","load_inplace":1}`:     {"load_inplace", badType},
		`{"lora_name":"a","lora_path":"a","base_model_name":{}}`: {"base_model_name", badType},
		`{"lora_name":"\ud83e","lora_path":"a"}`:                 {"lora_name", badType},
		`{"lora_name":"a","lora_path":"` + "\xff" + `"}`:         {"lora_path", badType},
		`{"lora_name":"a","lora_path":"a\u0000b"}`:               {"lora_path", badValue},
		`{"lora_name":"a","lora_path":"` + longPath + `a"}`:      {"lora_path", "string_above_max_length"},
	} {
		r, err := DecodeLoadAdapter([]byte(body))
		checkRefusal(t, body, r == nil, err, want)
	}
	if r, err := DecodeLoadAdapter([]byte(`{"lora_name":"a","lora_path":"` + longPath + `"}`)); err != nil || r.Path != longPath {
		t.Errorf("the longest path: %v", err)
	}
}

var longPath = strings.Repeat("a", maxPath)

func TestDecodeUnloadAdapter(t *testing.T) {
	r, err := DecodeUnloadAdapter([]byte(`{"lora_name":"a","lora_int_id":7,"base_model_name":"b"}`))
	if want := (UnloadAdapter{"a", "b"}); err != nil || *r != want {
		t.Errorf("%+v, %v", r, err)
	}
	for body, want := range map[string][2]string{
		`null`:                                  {"", ""},
		`{}`:                                    {"lora_name", missing},
		`{"lora_name":""}`:                      {"lora_name", missing},
		`{"lora_name":{}}`:                      {"lora_name", badType},
		`{"lora_name":"a","base_model_name":1}`: {"base_model_name", badType},
	} {
		r, err := DecodeUnloadAdapter([]byte(body))
		checkRefusal(t, body, r == nil, err, want)
	}
}

// Whatever is sent, the answer is a 400 or a request that has what it must have.
func FuzzDecodeAdapters(f *testing.F) {
	f.Add([]byte(`{"lora_name":"a","lora_path":"/x/y","load_inplace":true,"pinned":false,"base_model_name":"b"}`))
	f.Add([]byte(`{"lora_name":"\ud83e","lora_path":"a\u0000b"}`))
	f.Add([]byte(`{"lora_name":null,"lora_path":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		load, err := DecodeLoadAdapter(body)
		if err == nil && (load.Name == "" || load.Path == "" || len(load.Path) > maxPath || strings.Contains(load.Path, "\x00")) || err != nil && (load != nil || err.Status != http.StatusBadRequest || len(err.Message) > 400) {
			t.Errorf("%+v, %+v", load, err)
		}
		unload, err := DecodeUnloadAdapter(body)
		if err == nil && unload.Name == "" || err != nil && (unload != nil || err.Status != http.StatusBadRequest || len(err.Message) > 400) {
			t.Errorf("%+v, %+v", unload, err)
		}
	})
}

// checkRefusal checks a refusal, which has a param and a code.
func checkRefusal(t *testing.T, body string, none bool, err *Error, want [2]string) {
	t.Helper()
	if len(body) > 100 {
		body = body[:100]
	}
	switch {
	case err == nil:
		t.Errorf("%q: accepted", body)
	case !none || err.Status != http.StatusBadRequest || err.Param != want[0] || err.Code != want[1] || len(err.Message) > 400:
		t.Errorf("%q: %+v beside a request: %v; want %q", body, err, !none, want)
	}
}

// What is not known yet is null, not left out and not a zero.
func TestAdapterNulls(t *testing.T) {
	got, err := json.Marshal(Adapter{ID: "b:a", Object: "adapter", Name: "a", Base: "b", Origin: "folder", Path: "a", Tier: "disk"})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"id":"b:a","object":"adapter","name":"a","base":"b","lora_id":null,"origin":"folder","path":"a","pinned":false,"version":null,"rank":null,"targets":null,"tensors":null,"bytes":null,"tier":"disk","slot":null,"leases":0,"last_load_ms":null,"last_load_tier":null,"loaded_at":null,"incomplete":null,"error":null}`
	if string(got) != want {
		t.Errorf("%s", got)
	}
	at := time.Date(2026, 11, 23, 12, 0, 0, 5e6, time.UTC)
	got, err = json.Marshal(Adapter{LoadedAt: &at})
	if err != nil || !strings.Contains(string(got), `"loaded_at":"2026-11-23T12:00:00.005Z"`) {
		t.Errorf("%v: %s", err, got)
	}
}
