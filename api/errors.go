package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Error is everything that a client is told when a request fails. It is the only
// error that leaves the server.
type Error struct {
	Status     int // of the HTTP response
	Type       string
	Code       string        // "" is sent as null
	Param      string        // the field to blame; "" is sent as null
	Message    string        // names the field and the limit; never the whole input or a path
	RetryAfter time.Duration // 0 if waiting does not help
}

func (e *Error) Error() string { return e.Message }

// Types of errors.
const (
	TypeInvalidRequest = "invalid_request_error"
	TypeRateLimit      = "rate_limit_exceeded"
	TypeServer         = "server_error"
)

// MarshalJSON gives OpenAI's envelope, all four fields present.
func (e *Error) MarshalJSON() ([]byte, error) {
	type body struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	null := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return json.Marshal(map[string]body{"error": {e.Message, e.Type, null(e.Param), null(e.Code)}})
}

// Invalid is a 400 that blames a field.
func Invalid(param, code, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Type: TypeInvalidRequest, Code: code, Param: param, Message: fmt.Sprintf(format, args...)}
}

// Refused is an invalid request with another status than 400.
func Refused(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Type: TypeInvalidRequest, Code: code, Message: fmt.Sprintf(format, args...)}
}

// ModelNotFound is the answer to an unknown model name.
func ModelNotFound(name string) *Error {
	return &Error{
		Status: http.StatusNotFound, Type: TypeInvalidRequest, Code: "model_not_found", Param: "model",
		Message: fmt.Sprintf("The model %s does not exist", quote(name)),
	}
}

// Unavailable is a 503 that may pass.
func Unavailable(code string, retryAfter time.Duration, format string, args ...any) *Error {
	return &Error{Status: http.StatusServiceUnavailable, Type: TypeServer, Code: code, Message: fmt.Sprintf(format, args...), RetryAfter: retryAfter}
}

// Overloaded is a 429.
func Overloaded(retryAfter time.Duration, format string, args ...any) *Error {
	return &Error{Status: http.StatusTooManyRequests, Type: TypeRateLimit, Code: "rate_limit_exceeded", Message: fmt.Sprintf(format, args...), RetryAfter: retryAfter}
}

// Internal is a 500. Details belong in the log.
func Internal() *Error {
	return &Error{Status: http.StatusInternalServerError, Type: TypeServer, Message: "The server had an error while processing the request."}
}

// quote shows the beginning of what a client sent.
func quote(s string) string {
	const limit = 64
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return fmt.Sprintf("%q", s)
}
