package server

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"lorikeet/api"
)

// Every route is in the OpenAPI document, and every path of the document is routed,
// with /v1 and without.
func TestOpenAPIRoutes(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(api.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	parameter := regexp.MustCompile(`\{.*`)
	documented := map[string]bool{}
	for path, operations := range doc.Paths {
		for method := range operations {
			if method == "parameters" {
				continue
			}
			route := strings.ToUpper(method) + " " + parameter.ReplaceAllString(path, "*")
			documented[route] = true
			documented[strings.Replace(route, " /v1/", " /", 1)] = true
		}
	}
	routed := map[string]bool{}
	err := chi.Walk(serve(t).handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routed[method+" "+route] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for route := range routed {
		if !documented[route] {
			t.Errorf("%s is not in openapi.json", route)
		}
	}
	for route := range documented {
		if !routed[route] {
			t.Errorf("openapi.json has %s, the server has not", route)
		}
	}
}
