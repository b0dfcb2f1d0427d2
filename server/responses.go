package server

import (
	"net/http"
	"time"

	"lorikeet/api"
	"lorikeet/api/sse"
)

// responses answers POST /v1/responses. It is stateless: nothing is stored.
func (s *Server) responses(w http.ResponseWriter, r *http.Request) {
	req, ok := accept(s, w, r, api.DecodeResponses)
	if !ok {
		return
	}
	d, ok := s.begin(w, r, &req.ChatRequest, "input")
	if !ok {
		return
	}
	defer d.close()
	answer := &responseBuilder{tell: func(api.ResponseEvent) error { return nil }, response: api.Response{
		ID: "resp_" + randomID(), Object: "response", CreatedAt: time.Now().Unix(), Status: "in_progress", ResponseSettings: req.Settings,
		Output: []api.OutputItem{}, SystemFingerprint: d.target.fingerprint(),
	}}
	if req.Stream {
		d.streamResponse(w, r, answer)
		return
	}
	for ev := range d.events {
		if ev.Err != nil {
			writeError(w, r, d.error(ev.Err))
			return
		}
		_ = answer.add(d.piece(ev), &d.usage) // it tells nobody
	}
	d.close() // a client that reads slowly does not keep the slot
	writeJSON(w, http.StatusOK, &answer.response)
}

// streamResponse writes each event as it comes. Unlike other streams, this one has no
// [DONE]: its last event says that it is.
func (d *dialogue) streamResponse(w http.ResponseWriter, r *http.Request, answer *responseBuilder) {
	out := sse.NewWriter(w)
	number := 0
	answer.tell = func(ev api.ResponseEvent) error {
		h := ev.Head()
		h.SequenceNumber = number
		number++
		return out.SendNamed(h.Type, ev)
	}
	for ev := range d.events {
		if ev.Err != nil {
			if e := d.error(ev.Err); out.Begun() {
				_ = answer.fail(e) // the last event
			} else {
				writeError(w, r, e)
			}
			return
		}
		if !out.Begun() && answer.begin() != nil {
			return // the client is gone
		}
		if answer.add(d.piece(ev), &d.usage) != nil {
			return
		}
	}
}
