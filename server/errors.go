package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"lorikeet/adapters"
	"lorikeet/adapters/lora"
	"lorikeet/api"
	"lorikeet/backend"
)

// apiError is the only place where an error of a lower package becomes one that
// clients see.
func apiError(err error, model string) *api.Error {
	var (
		known       *api.Error
		tooLong     *backend.ContextLengthError
		grammar     *backend.GrammarError
		adapter     *lora.Error
		combination *adapters.CombinationError
		incomplete  *adapters.IncompleteError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &tooLong):
		return api.Invalid("prompt", "context_length_exceeded",
			"This model's maximum context length is %d tokens, however you requested %d tokens (%d in your prompt; %d for the completion). Please reduce your prompt; or completion length.",
			tooLong.Limit, tooLong.Prompt+tooLong.Max, tooLong.Prompt, tooLong.Max)
	case errors.As(err, &grammar):
		return api.Invalid("grammar", "invalid_grammar", "The grammar that the answer is to follow can't be used: %s", grammar.Reason)
	case errors.Is(err, backend.ErrGrammar):
		return api.Invalid("grammar", "grammar_too_complex", "The grammar that the answer is to follow can't be followed: it is too ambiguous.")
	case errors.Is(err, backend.ErrNoToken):
		return api.Invalid("", "no_token_allowed", "No token can be chosen: what the request allows and what it does not exclude each other.")
	case errors.As(err, &combination):
		return api.Invalid("lora", "invalid_value", "Invalid 'lora': %s.", combination.Error())
	case errors.As(err, &adapter):
		return api.Invalid("model", "adapter_unusable", "The adapter of model %q can't be used: %s", model, adapter.Error())
	case errors.Is(err, adapters.ErrUnknown):
		return api.ModelNotFound(model)
	case errors.As(err, &incomplete):
		return api.Unavailable("adapter_incomplete", 2*time.Second, "The adapter of model %q is not complete yet: %s", model, incomplete.Reason)
	case errors.Is(err, adapters.ErrNoPool):
		return api.Invalid("model", "adapter_unusable", "The base of model %q is served without adapters.", model)
	case errors.Is(err, adapters.ErrLoadTimeout):
		return api.Unavailable("adapter_load_timeout", 2*time.Second, "The adapter of model %q was not loaded in time. Please retry.", model)
	case errors.Is(err, adapters.ErrName):
		return api.Invalid("lora_name", "invalid_value", "Invalid 'lora_name': only letters, digits and . _ / - are allowed, 128 at most, beginning with a letter or digit, and no '..'.")
	case errors.Is(err, adapters.ErrRegistered):
		return api.Invalid("lora_name", "adapter_already_loaded", "The lora adapter '%s' has already been loaded. To serve other files under this name, set 'load_inplace' to true.", model)
	case errors.Is(err, adapters.ErrNoPath):
		return &api.Error{Status: http.StatusNotFound, Type: api.TypeInvalidRequest, Code: "path_not_found", Param: "lora_path", Message: "Invalid 'lora_path': the server has no such file or directory."}
	case errors.Is(err, adapters.ErrPath):
		return api.Invalid("lora_path", "path_not_allowed", "Invalid 'lora_path': it is outside of the folders that this server loads adapters from.")
	case errors.Is(err, adapters.ErrPinned):
		// The request is a good one, and would be served if another adapter were unpinned.
		return api.Refused(http.StatusConflict, "too_many_pinned", "The adapter can't be pinned: at least one slot must be left for those that are not. Unpin another first.")
	case errors.Is(err, adapters.ErrState):
		slog.Error("adapters are not as the state file says", "err", err)
		return &api.Error{Status: http.StatusInternalServerError, Type: api.TypeServer, Code: "state_not_saved", Message: "The change is in force, but could not be saved: it is lost when the server ends. The server's log has the reason."}
	case errors.Is(err, backend.ErrQueueFull):
		return api.Overloaded(time.Second, "Too many requests are waiting. Please retry later.")
	case errors.Is(err, backend.ErrLost):
		slog.Error("the engine has failed", "model", model, "err", err)
		return &api.Error{Status: http.StatusServiceUnavailable, Type: api.TypeServer, Code: "engine_failed", Message: "The device that computes this model has failed. The server must be started again."}
	case errors.Is(err, backend.ErrStalled):
		return &api.Error{Status: http.StatusServiceUnavailable, Type: api.TypeServer, Code: "engine_stalled", Message: "The model makes no progress."}
	case errors.Is(err, backend.ErrClosed), errors.Is(err, adapters.ErrClosed):
		return errDraining()
	case errors.Is(err, backend.ErrSlowReader):
		return &api.Error{Status: http.StatusRequestTimeout, Type: api.TypeInvalidRequest, Code: "slow_reader", Message: "The stream was not read fast enough and was ended."}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		// The client is gone; 499 is for the log.
		return &api.Error{Status: 499, Type: api.TypeInvalidRequest, Code: "request_cancelled", Message: "The request was cancelled."}
	}
	slog.Error("request failed", "model", model, "err", err)
	return api.Internal()
}

// adminError is apiError for requests that name the adapter elsewhere than in the
// model field: in param, or in the path if that is "".
func adminError(err error, param, name string) *api.Error {
	return blamed(apiError(err, name), "model", param)
}

// blamed is an error that blames another field than one which the request does not have.
func blamed(e *api.Error, from, to string) *api.Error {
	if e.Param != from {
		return e
	}
	other := *e
	other.Param = to
	return &other
}

func errDraining() *api.Error {
	return api.Unavailable("shutting_down", 5*time.Second, "The server is shutting down. Please retry.")
}

func writeError(w http.ResponseWriter, r *http.Request, e *api.Error) {
	h := w.Header()
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
		h.Set("Retry-After-Ms", strconv.FormatInt(e.RetryAfter.Milliseconds(), 10))
	}
	if e.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if e.Status == http.StatusInternalServerError {
		h.Set("X-Should-Retry", "false")
	}
	if e.Status >= 400 && e.Status < 500 {
		slog.Debug("refused", "status", e.Status, "code", e.Code, "param", e.Param, "message", e.Message, "id", r.Header.Get(requestIDHeader))
	}
	writeJSON(w, e.Status, e)
}

// writeTimeout is how long a client may take to read an answer that is no stream.
const writeTimeout = 30 * time.Second

// writeText sends a text for people.
func writeText(w http.ResponseWriter, text string) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // not every connection has deadlines
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if _, err := io.WriteString(w, text); err != nil {
		slog.Debug("response not written", "err", err)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // not every connection has deadlines
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		slog.Debug("response not written", "err", err)
	}
}
