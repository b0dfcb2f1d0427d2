package server

import (
	"net/http"

	"github.com/rs/cors"
)

// allowOrigins lets pages of other origins in browsers use the server. It answers
// preflights itself, without a key: browsers send none with them.
func allowOrigins(origins []string) func(http.Handler) http.Handler {
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete},
		AllowedHeaders: []string{"*"}, // SDKs send many of their own, and none is an authority here but the key
		ExposedHeaders: []string{
			requestIDHeader, adapterHeader, "Retry-After", "Retry-After-Ms", "X-Should-Retry",
			"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests",
			"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens",
		},
		MaxAge: 600,
	}).Handler
}
