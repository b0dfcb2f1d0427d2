// Package sse frames server-sent events as OpenAI's clients read them: data lines,
// each flushed, with the event's name before them only where clients want it, and a
// last "[DONE]".
package sse

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"
)

// patience is how long a stream may wait, over all its events, for a client that
// does not read. Time between events does not count.
const patience = 30 * time.Second

// Writer writes one stream. The first event sends the header.
type Writer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     bytes.Buffer
	json    *json.Encoder
	begun   bool
	left    time.Duration // of patience
}

// NewWriter makes a writer. Nothing is sent yet.
func NewWriter(w http.ResponseWriter) *Writer {
	s := &Writer{w: w, control: http.NewResponseController(w), left: patience}
	s.json = json.NewEncoder(&s.buf)
	s.json.SetEscapeHTML(false)
	return s
}

// Begun tells whether the header was sent: from then on an error is an event.
func (s *Writer) Begun() bool { return s.begun }

// Send writes v as one event and flushes it. An error means that the client is
// gone, or can't be reached any more.
func (s *Writer) Send(v any) error {
	s.buf.Reset()
	return s.data(v)
}

// SendNamed is Send for an event with a name, which is one word.
func (s *Writer) SendNamed(name string, v any) error {
	s.buf.Reset()
	s.buf.WriteString("event: " + name + "\n")
	return s.data(v)
}

func (s *Writer) data(v any) error {
	s.buf.WriteString("data: ")
	if err := s.json.Encode(v); err != nil { // ends with one newline
		return err
	}
	s.buf.WriteByte('\n')
	return s.flush()
}

// Done writes the last event.
func (s *Writer) Done() error {
	s.buf.Reset()
	s.buf.WriteString("data: [DONE]\n\n")
	return s.flush()
}

func (s *Writer) flush() error {
	if !s.begun {
		s.begun = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
		s.w.WriteHeader(http.StatusOK)
	}
	start := time.Now()
	_ = s.control.SetWriteDeadline(start.Add(s.left)) // not every writer has deadlines
	defer func() { s.left -= time.Since(start) }()
	if _, err := s.w.Write(s.buf.Bytes()); err != nil {
		return err
	}
	return s.control.Flush()
}
