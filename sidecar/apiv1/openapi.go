package apiv1

import _ "embed" // OpenAPI is made of a file

// OpenAPI describes the calls as plain JSON (POST /v1/index and so on) in OpenAPI 3.1. It is generated from
// recall.proto.
//
//go:embed openapi.json
var OpenAPI []byte
