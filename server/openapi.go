package server

import (
	"encoding/json"
	"net/http"

	"lorikeet/api"
)

// openAPI answers GET /openapi.json.
func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, json.RawMessage(api.OpenAPI))
}
