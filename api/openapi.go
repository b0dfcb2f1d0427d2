package api

import _ "embed"

// OpenAPI is the description of all routes, in JSON. Tests hold it against the
// decoders and the types here, and against the routes of the server.
//
//go:embed openapi.json
var OpenAPI []byte
