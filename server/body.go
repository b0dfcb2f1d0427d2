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

// bodyDeadline bounds the time for a body. Where no handler reads it to its end,
// net/http does before it answers, so the deadline holds for every route.
func (s *Server) bodyDeadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.opts.BodyTimeout)) // not every connection has deadlines
		}
		next.ServeHTTP(w, r)
	})
}

// accept reads and decodes a request that is new work. If it is refused, ok is false and
// the client has its answer.
func accept[T any](s *Server, w http.ResponseWriter, r *http.Request, decode func(body []byte) (*T, *api.Error)) (req *T, ok bool) {
	if s.draining.Load() {
		writeError(w, r, errDraining())
		return nil, false
	}
	req, err := decodeBody(s, w, r, decode)
	if err != nil {
		writeError(w, r, err)
		return nil, false
	}
	return req, true
}

// decodeBody reads and decodes a request that is served while the server drains, too.
func decodeBody[T any](s *Server, w http.ResponseWriter, r *http.Request, decode func(body []byte) (*T, *api.Error)) (*T, *api.Error) {
	body, err := s.readBody(w, r)
	if err != nil {
		return nil, err
	}
	return decode(body)
}

// readBody reads a JSON body within the size and time that clients are given.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *api.Error) {
	if ct := r.Header.Get("Content-Type"); ct != "" && !isJSON(ct) {
		return nil, api.Refused(http.StatusUnsupportedMediaType, "unsupported_content_type", "Unsupported content type: the body must be application/json.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opts.MaxBodyBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, api.Refused(http.StatusRequestEntityTooLarge, "request_too_large", "The request body is larger than the limit of %d bytes.", tooLarge.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, api.Refused(http.StatusRequestTimeout, "request_timeout", "The request body was not received within %s.", s.opts.BodyTimeout)
	case err != nil:
		return nil, api.Invalid("", "", "The request body could not be read.")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // the answer may take longer
	return body, nil
}

func isJSON(contentType string) bool {
	mt, _, err := mime.ParseMediaType(contentType)
	return err == nil && mt == "application/json"
}
