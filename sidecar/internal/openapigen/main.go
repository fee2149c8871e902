// Command openapigen is a plugin of protoc and buf that writes openapi.json: the calls of recall-sidecar as plain JSON
// in OpenAPI 3.1, with the comments of the .proto as descriptions.
package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/chat-recall/recall/sidecar/internal/calls"
)

func main() {
	protogen.Options{}.Run(func(p *protogen.Plugin) error {
		p.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)
		for _, f := range p.Files {
			if !f.Generate {
				continue
			}
			text, err := document(f)
			if err != nil {
				return err
			}
			if _, err := p.NewGeneratedFile("openapi.json", "").Write(text); err != nil {
				return err
			}
		}
		return nil
	})
}

type object = map[string]any

// document returns the OpenAPI document of a file.
func document(f *protogen.File) ([]byte, error) {
	methods := map[string]*protogen.Method{}
	for _, service := range f.Services {
		for _, m := range service.Methods {
			methods[service.GoName+"."+m.GoName] = m
		}
	}
	s := &schemas{all: object{}, asked: map[protoreflect.FullName]bool{}}
	for _, m := range methods {
		s.ask(m.Input)
	}
	paths := object{}
	for _, c := range calls.All {
		m := methods[c.Service+"."+c.Method]
		if m == nil {
			return nil, fmt.Errorf("%s has no method %s.%s", f.Desc.Path(), c.Service, c.Method)
		}
		paths[c.HTTP()] = object{"post": operation(c, m, s)}
	}
	for path, what := range map[string]string{
		"/healthz":      "Whether the process answers. It needs no token.",
		"/readyz":       "Whether calls are answered, 200 or 503. It needs no token.",
		"/metrics":      "The metrics of the sidecar, the host and the plugin, as Prometheus reads them.",
		"/openapi.json": "This document.",
	} {
		paths[path] = object{"get": object{"operationId": strings.Trim(strings.ReplaceAll(path, ".", "_"), "/"),
			"summary":   what,
			"responses": object{"200": object{"description": "as described"}}}}
	}
	if len(s.bare) > 0 {
		return nil, fmt.Errorf("%s: every field needs a comment; these have none: %s", f.Desc.Path(),
			strings.Join(s.bare, ", "))
	}
	s.all["Problem"] = problem()
	out, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{"title": "recall-sidecar", "version": "v1",
			"description": comment(f.Services[0].Comments.Leading) + " " + general},
		"servers": []object{{"url": "http://localhost",
			"description": "over the unix socket or a TCP address of sidecar.hcl"}},
		"security": []object{{}, {"token": []string{}}},
		"paths":    paths,
		"components": object{"schemas": s.all, "securitySchemes": object{"token": object{"type": "http", "scheme": "bearer",
			"description": "a line of token_file, on TCP"}}},
	}, "", "  ")
	return append(out, '\n'), err
}

const general = "A request with an unknown field is refused. Responses may get new fields. Fields of a response " +
	"that are not objects are always present. A refusal by the rules is a result with HTTP status 200."

func operation(c calls.Call, m *protogen.Method, s *schemas) object {
	ok := object{"description": "The answer.", "content": object{"application/json": object{"schema": s.of(m.Output)}}}
	if c.Stream {
		ok["content"] = object{"application/octet-stream": object{"schema": object{"type": "string", "format": "binary"}}}
	}
	op := object{
		"operationId": strings.ReplaceAll(c.Path, "/", "_"), "tags": []string{m.Parent.GoName},
		"summary":     comment(m.Comments.Leading),
		"requestBody": object{"required": true, "content": object{"application/json": object{"schema": s.of(m.Input)}}},
		"responses": object{"200": ok, "default": object{"description": "An error. docs/any-language.md lists them.",
			"content": object{"application/problem+json": object{"schema": ref("Problem")}}}},
	}
	if c.Path == "recall" {
		op["parameters"] = []object{{"name": "Idempotency-Key", "in": "header", "schema": object{"type": "string"},
			"description": "Used as recall_id if that is empty."}}
	}
	return op
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

func problem() object {
	text := object{"type": "string"}
	return object{
		"type": "object", "description": "An error as RFC 9457 has it.",
		"required": []string{"type", "title", "status", "code", "detail", "request_id"},
		"properties": object{
			"type": text, "title": text, "status": object{"type": "integer"}, "detail": text, "request_id": text,
			"code": object{"type": "string", "description": "The name of the gRPC code, such as invalid_argument."},
			"errors": object{"type": "array", "description": "The fields that are wrong.", "items": object{
				"type": "object", "required": []string{"field", "detail"}, "properties": object{"field": text, "detail": text}}},
		},
	}
}

// schemas are the messages that the document describes.
type schemas struct {
	all   object
	asked map[protoreflect.FullName]bool // that requests have
	bare  []string                       // fields without a comment
}

// ask notes the messages of a request. Their fields may be left out.
func (s *schemas) ask(m *protogen.Message) {
	if s.asked[m.Desc.FullName()] {
		return
	}
	s.asked[m.Desc.FullName()] = true
	for _, f := range m.Fields {
		if f.Message != nil {
			s.ask(f.Message)
		}
	}
}

// of returns the schema of a message.
func (s *schemas) of(m *protogen.Message) object {
	switch m.Desc.FullName() {
	case "google.protobuf.Timestamp":
		return object{"type": "string", "format": "date-time"}
	case "google.protobuf.Duration":
		return object{"type": "string", "pattern": `^-?[0-9]+(\.[0-9]+)?s$`}
	}
	name := m.GoIdent.GoName
	if s.all[name] != nil {
		return ref(name)
	}
	properties, required := object{}, []string{}
	is := object{"type": "object", "properties": properties}
	s.all[name] = is
	describe(is, comment(m.Comments.Leading))
	for _, f := range m.Fields {
		one := s.field(f)
		text := strings.TrimSpace(comment(f.Comments.Leading) + " " + comment(f.Comments.Trailing))
		if text == "" {
			s.bare = append(s.bare, string(f.Desc.FullName()))
		}
		describe(one, text)
		properties[string(f.Desc.Name())] = one
		if !s.asked[m.Desc.FullName()] && (f.Message == nil || f.Desc.IsList() || f.Desc.IsMap()) {
			required = append(required, string(f.Desc.Name()))
		}
	}
	if len(required) > 0 {
		is["required"] = required
	}
	return ref(name)
}

func describe(schema object, text string) {
	if text != "" {
		schema["description"] = text
	}
}

func (s *schemas) field(f *protogen.Field) object {
	switch {
	case f.Desc.IsMap():
		return object{"type": "object", "additionalProperties": s.value(f.Message.Fields[1])}
	case f.Desc.IsList():
		return object{"type": "array", "items": s.value(f)}
	}
	return s.value(f)
}

func (s *schemas) value(f *protogen.Field) object {
	switch f.Desc.Kind() {
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.Int32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.MessageKind:
		return s.of(f.Message)
	}
	return object{"type": "string"}
}

// comment returns a comment as one line.
func comment(c protogen.Comments) string { return strings.Join(strings.Fields(string(c)), " ") }
