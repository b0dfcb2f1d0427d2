package server

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"time"

	"lorikeet/api"
)

// readBody reads a JSON body within the size and time that clients are given.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *api.Error) {
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != "application/json" {
			return nil, api.Refused(http.StatusUnsupportedMediaType, "unsupported_content_type", "Unsupported content type: the body must be application/json.")
		}
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(s.opts.BodyTimeout)) // not every connection has deadlines
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opts.MaxBodyBytes))
	_ = control.SetReadDeadline(time.Time{})
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, api.Refused(http.StatusRequestEntityTooLarge, "request_too_large", "The request body is larger than the limit of %d bytes.", tooLarge.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, api.Refused(http.StatusRequestTimeout, "request_timeout", "The request body was not received within %s.", s.opts.BodyTimeout)
	case err != nil:
		return nil, api.Invalid("", "", "The request body could not be read.")
	}
	return body, nil
}
