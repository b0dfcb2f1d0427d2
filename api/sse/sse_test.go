package sse

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// recorder notes in which order a stream writes, flushes and sets deadlines.
type recorder struct {
	*httptest.ResponseRecorder
	calls    []string
	deadline time.Time
	fail     error // of Write
}

func newRecorder() *recorder { return &recorder{ResponseRecorder: httptest.NewRecorder()} }

func (r *recorder) Write(b []byte) (int, error) {
	r.calls = append(r.calls, "write")
	if r.fail != nil {
		return 0, r.fail
	}
	return r.ResponseRecorder.Write(b)
}

func (r *recorder) Flush() { r.calls = append(r.calls, "flush") }

func (r *recorder) SetWriteDeadline(d time.Time) error {
	r.calls = append(r.calls, "deadline")
	r.deadline = d
	return nil
}

func TestFraming(t *testing.T) {
	r := newRecorder()
	s := NewWriter(r)
	if s.Begun() || len(r.calls) != 0 {
		t.Error("something was sent before the first event")
	}
	for _, v := range []any{map[string]string{"text": "a\n\r\n\u2028<&>"}, []int{}, nil} {
		if err := s.Send(v); err != nil || !s.Begun() {
			t.Fatal(err, s.Begun())
		}
	}
	if err := s.SendNamed("some.event", 5); err != nil {
		t.Fatal(err)
	}
	if err := s.Done(); err != nil {
		t.Fatal(err)
	}
	const want = `data: {"text":"a\n\r\n\u2028<&>"}` + "\n\ndata: []\n\ndata: null\n\nevent: some.event\ndata: 5\n\ndata: [DONE]\n\n"
	if got := r.Body.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if each := []string{"deadline", "write", "flush"}; !slices.Equal(r.calls, slices.Repeat(each, 5)) {
		t.Errorf("calls %q", r.calls)
	}
	if left := time.Until(r.deadline); left <= 0 || left > patience {
		t.Errorf("a client has %s to take an event", left)
	}
	h := r.Result().Header
	for name, want := range map[string]string{"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if r.Code != http.StatusOK || len(h) != 3 {
		t.Errorf("status %d, header %v", r.Code, h)
	}
}

func TestSendErrors(t *testing.T) {
	r := newRecorder()
	s := NewWriter(r)
	if err := s.Send(func() {}); err == nil || s.Begun() || r.Body.Len() != 0 {
		t.Errorf("a value without JSON: %v, begun %v, sent %q", err, s.Begun(), r.Body)
	}
	if err := s.Send("next"); err != nil || r.Body.String() != "data: \"next\"\n\n" {
		t.Errorf("after it: %v, sent %q", err, r.Body)
	}
	r.fail = errors.New("gone")
	if err := s.Send("x"); !errors.Is(err, r.fail) {
		t.Errorf("a client that is gone: %v", err)
	}
	if err := s.Done(); !errors.Is(err, r.fail) {
		t.Errorf("a client that is gone, at the end: %v", err)
	}
}

// A writer without deadlines, and one behind middleware, are written to as well.
func TestWriters(t *testing.T) {
	plain := httptest.NewRecorder()
	if err := NewWriter(plain).Done(); err != nil || !plain.Flushed {
		t.Error(err)
	}
	inner := newRecorder()
	if err := NewWriter(wrapped{inner}).Done(); err != nil || strings.Join(inner.calls, " ") != "deadline write flush" {
		t.Errorf("%v, calls %q", err, inner.calls)
	}
}

type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }
