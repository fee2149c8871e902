package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/chat-recall/recall/shared"
)

// jsonProblem finds the field for which a JSON request was refused, and says what is wrong with it. cause is the
// parser's own error, which names no field.
func jsonProblem(text []byte, request protoreflect.MessageDescriptor, cause error) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return &shared.FieldError{Field: "body", Problem: "is empty: send a JSON object, at least {}"}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return &shared.FieldError{Field: "body", Problem: fmt.Sprintf("is not JSON: %v, at byte %d", err, syntax.Offset)}
		}
		return &shared.FieldError{Field: "body", Problem: fmt.Sprintf("is not JSON: %v", err)}
	}
	if err := checkMessage(v, request, ""); err != nil {
		return err
	}
	// What the parser says begins with its name and a blank that differs from build to build.
	_, problem, _ := strings.Cut(strings.ReplaceAll(cause.Error(), "\u00a0", " "), "proto: ")
	return &shared.FieldError{Field: "body", Problem: strings.TrimSpace(problem)}
}

func wrong(path, format string, args ...any) error {
	return &shared.FieldError{Field: cmp.Or(path, "body"), Problem: fmt.Sprintf(format, args...)}
}

// under returns the path of a member of an object, with at most 80 characters of its name.
func under(path, name string) string {
	if name == "" {
		name = `""`
	}
	if path != "" {
		path += "."
	}
	return fmt.Sprintf("%s%.80s", path, name)
}

// checkMessage finds what is wrong with a value that stands for a message.
func checkMessage(v any, m protoreflect.MessageDescriptor, path string) error {
	text, isText := v.(string)
	switch m.FullName() {
	case "google.protobuf.Timestamp":
		if _, err := time.Parse(time.RFC3339Nano, text); !isText || err != nil {
			return wrong(path, `is %s; a time is RFC 3339 text such as "2026-01-31T12:00:00.5Z"`, shown(v))
		}
		return nil
	case "google.protobuf.Duration":
		if !isText {
			return wrong(path, `is %s; a duration is text such as "30s"`, shown(v))
		}
		return nil
	}
	object, ok := v.(map[string]any)
	if !ok {
		return wrong(path, "is %s; it must be a JSON object", shown(v))
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		f := m.Fields().ByTextName(name)
		if f == nil {
			f = m.Fields().ByJSONName(name)
		}
		if f == nil {
			return wrong(under(path, name), "is unknown; known are %s", strings.Join(names(m), ", "))
		}
		if object[name] == nil { // like a field that is not there
			continue
		}
		if err := checkField(object[name], f, under(path, name)); err != nil {
			return err
		}
	}
	return nil
}

func checkField(v any, f protoreflect.FieldDescriptor, path string) error {
	switch {
	case f.IsMap():
		object, ok := v.(map[string]any)
		if !ok {
			return wrong(path, "is %s; it must be a JSON object", shown(v))
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			if err := checkValue(object[key], f.MapValue(), under(path, key)); err != nil {
				return err
			}
		}
		return nil
	case f.IsList():
		list, ok := v.([]any)
		if !ok {
			return wrong(path, "is %s; it must be a list", shown(v))
		}
		for i, one := range list {
			if err := checkValue(one, f, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	}
	return checkValue(v, f, path)
}

func checkValue(v any, f protoreflect.FieldDescriptor, path string) error {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return checkMessage(v, f.Message(), path)
	case protoreflect.BoolKind:
		if _, ok := v.(bool); !ok {
			return wrong(path, "is %s; it must be true or false", shown(v))
		}
	case protoreflect.Int32Kind:
		n, ok := v.(json.Number)
		if i, err := n.Int64(); !ok || err != nil || int64(int32(i)) != i {
			return wrong(path, "is %s; it must be a whole number of at most 32 bits", shown(v))
		}
	default:
		if _, ok := v.(string); !ok {
			return wrong(path, "is %s; it must be text between quotes", shown(v))
		}
	}
	return nil
}

// shown names a value for an error, at most 40 characters of it.
func shown(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case json.Number:
		return fmt.Sprintf("%.40s", v)
	}
	return fmt.Sprintf("%.40q", fmt.Sprint(v))
}

func names(m protoreflect.MessageDescriptor) []string {
	var list []string
	for i := range m.Fields().Len() {
		list = append(list, string(m.Fields().Get(i).Name()))
	}
	return list
}
