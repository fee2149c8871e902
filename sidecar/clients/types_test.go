package clients_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	v1 "github.com/chat-recall/recall/sidecar/apiv1"
)

// unlike are the fields in which a type of a client differs from the message of the same name.
var unlike = map[string][]string{
	"recall.mjs JobPreview": {"next", "more", "reset"}, // the sum of all pages
	"recall.py JobFilter":   {"from"},                  // a keyword, which a class cannot have as a field
}

// Types of the clients have the fields of the messages of recall.proto.
func TestTypes_LikeTheProto(t *testing.T) {
	for file, read := range map[string]func(text string) map[string][]string{
		"node/recall.mjs": typedefs, "python/recall.py": typedDicts,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		compared := 0
		for name, got := range read(string(text)) {
			message := v1.File_recall_api_v1_recall_proto.Messages().ByName(protoreflect.Name(name))
			if message == nil {
				continue
			}
			compared++
			var want []string
			_, base, _ := strings.Cut(file, "/")
			for i := range message.Fields().Len() {
				field := string(message.Fields().Get(i).Name())
				if !slices.Contains(unlike[base+" "+name], field) {
					want = append(want, field)
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %s has\n%q, and the proto\n%q", file, name, got, want)
			}
		}
		if compared < 10 {
			t.Errorf("%s: %d types were compared", file, compared)
		}
	}
}

var (
	typedef   = regexp.MustCompile(`@typedef \{(\{[^@]*\})\} (\w+)`)
	property  = regexp.MustCompile(`[{,]\s*(\w+)\??:`)
	nested    = regexp.MustCompile(`<[^<>]*>`)
	typedDict = regexp.MustCompile(`(?m)^class (\w+)\(TypedDict.*\n((?:.*\n)*?)\n\n`)
	item      = regexp.MustCompile(`(?m)^    (\w+): `)
)

// typedefs are the types of JSDoc with their properties.
func typedefs(text string) map[string][]string {
	types := map[string][]string{}
	for _, m := range typedef.FindAllStringSubmatch(strings.ReplaceAll(text, "\n *", "\n"), -1) {
		for _, p := range property.FindAllStringSubmatch(nested.ReplaceAllString(m[1], ""), -1) {
			types[m[2]] = append(types[m[2]], p[1])
		}
	}
	return types
}

// typedDicts are the types of Python with their keys.
func typedDicts(text string) map[string][]string {
	types := map[string][]string{}
	for _, m := range typedDict.FindAllStringSubmatch(text, -1) {
		for _, key := range item.FindAllStringSubmatch(m[2], -1) {
			types[m[1]] = append(types[m[1]], key[1])
		}
	}
	return types
}
