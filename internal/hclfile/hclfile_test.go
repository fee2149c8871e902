package hclfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode/utf16"
)

var plain = &Language{Name: "the test", Suspect: true}

// parse returns the diagnostics of a file with this text.
func parse(t *testing.T, text string) Diagnostics {
	t.Helper()
	f := File{Name: "a.hcl", Text: []byte(text)}
	r := Reporter{Files: []File{f}}
	if body := r.Parse(f, plain); (body == nil) != r.HasErrors() {
		t.Fatalf("%q: body %v with %s", text, body, r.Diagnostics())
	}
	return r.Diagnostics()
}

func TestParse_StringNotNormalized(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"in a value": {"x = \"\uf9e1-hold\"",
			"1:5: error: Unicode normalization changes this string: U+F9E1 becomes U+674E"},
		"of several code points": {"x = \"cafe\u0301\"",
			"1:5: error: Unicode normalization changes this string: U+0065 U+0301 becomes U+00E9"},
		"as escapes": {`x = "cafe\u0301"`,
			"1:5: error: Unicode normalization changes this string: U+0065 U+0301 becomes U+00E9"},
		"as a big escape": {`x = "\U0000212B"`, "U+212B becomes U+00C5"},
		"in a label":      {"permit \"e\u0301\" {\n}", "1:8: error: Unicode normalization changes this string"},
		"in a key":        {"x = { \"e\u0301\" = 1 }", "1:7: error: Unicode normalization changes this string"},
		"in a list": {"x = [\n  \"a\",\n  \"\u2126\",\n]",
			"3:3: error: Unicode normalization changes this string: U+2126 becomes U+03A9"},
		"in a condition": {"x = a == \"\u2126\" && f(\"b\")", "1:10: error: Unicode normalization changes this string"},
		"more than once": {"x = \"\u2126 \u212b \u2126\"",
			"U+2126 becomes U+03A9, U+212B becomes U+00C5, U+2126 becomes U+03A9"},
		"in the wrong order": {"x = \"a\u0301\u0323\"", "U+0061 U+0301 U+0323 becomes U+1EA1 U+0301"},
	} {
		t.Run(name, func(t *testing.T) {
			if ds := parse(t, c.text); len(ds) != 1 || !strings.Contains(ds.String(), c.want) {
				t.Errorf("got %s, want %s", ds, c.want)
			}
		})
	}
	t.Run("but not what it leaves alone", func(t *testing.T) {
		// A line break and then an accent of its own: only in the file does the accent stand after a letter.
		for _, text := range []string{"caf\u00e9", `\n` + "\u0301", "\u674e", "撤回了一条消息", "한국어", "a\u0327"} {
			for _, d := range parse(t, `x = "`+text+`"`) {
				if d.Severity == Error {
					t.Errorf("%q: %s", text, d)
				}
			}
		}
		if ds := parse(t, "# e\u0301\nx = 1"); len(ds) > 0 {
			t.Errorf("a comment: %s", ds)
		}
	})
}

func TestParse_SuspiciousStrings(t *testing.T) {
	for text, want := range map[string]string{
		" hold":       "starts or ends with a space",
		"hold ":       "starts or ends with a space",
		"hold\u00a0":  "starts or ends with a space",
		`hold\t`:      "starts or ends with a space",
		"ho\u200bld":  "invisible characters: U+200B",
		"\ufeffhold":  "invisible characters: U+FEFF",
		"ho\u00adld":  "invisible characters: U+00AD",
		"ho\u202eld":  "invisible characters: U+202E",
		"ho\u200d":    "invisible characters: U+200D",
		"\u3164":      "invisible characters: U+3164",
		`ho\u200bld`:  "invisible characters: U+200B",
		"\u0430dmin":  "mixes Cyrillic (U+0430) and Latin (U+0064)",
		"the \u03bfx": "mixes Greek (U+03BF) and Latin (U+0078)",
		"カ한":          "mixes Katakana (U+30AB) and Hangul (U+D55C)",
	} {
		if ds := parse(t, `x = "`+text+`"`); len(ds) != 1 || ds[0].Severity != Warning || ds[0].Line != 1 ||
			!strings.Contains(ds[0].Summary, want) {
			t.Errorf("%q: got %s, want a warning with %q", text, ds, want)
		}
	}
	for _, text := range []string{
		"", "hold", "Ann's hold", "VIP用户", "東京タワー", "LINE株式会社", "K팝", "админ admin", "{actor}撤回了一条消息", "naïve café", "µm",
		"3\u00bd", "سلام", "नमस्ते", "guest-", "👍🏽 ok", "αβγ",
	} {
		if ds := parse(t, `x = "`+text+`"`); len(ds) > 0 {
			t.Errorf("%q: %s", text, ds)
		}
	}
	t.Run("in hostile numbers", func(t *testing.T) {
		var b strings.Builder
		b.WriteString("x = \"")
		for c := rune(0x4e00); b.Len() < MaxFileBytes-100; c++ {
			fmt.Fprintf(&b, "%c", 0xa000+c%0x400)
			b.WriteString("a ")
		}
		b.WriteString("\"\n")
		if ds := parse(t, b.String()); len(ds) > 2 {
			t.Errorf("%d diagnostics", len(ds))
		}
	})
}

func TestParse_Numbers(t *testing.T) {
	digits := strings.Repeat("9", 18)
	for text, want := range map[string]string{
		"replicas = 1e99":       `a.hcl:1:12: error: the number 1e99 of "replicas" has an exponent`,
		"replicas = 1E+2":       `a.hcl:1:12: error: the number 1E+2 of "replicas" has an exponent`,
		"x = 1\ny = 9" + digits: `a.hcl:2:5: error: the number of "y" has 19 digits; at most 18`,
		"x = [1, 1e5]":          `a.hcl:1:9: error: the number 1e5 of "x" has an exponent`,
		"x = { \"y\" = 1e5 }":   `a.hcl:1:13: error: the number 1e5 has an exponent`,
		"x = -1":                `a.hcl:1:5: error: the number -1 of "x" is negative; a number is at least 0`,
		"x = - 1.5":             `a.hcl:1:5: error: the number -1.5 of "x" is negative`,
		"x = 3-1":               `a.hcl:1:6: error: "-" is not part of the test`,
		"x = --1":               `a.hcl:1:5: error: "-" is not part of the test`,
		"x = -y":                `a.hcl:1:5: error: "-" is not part of the test`,
	} {
		if ds := parse(t, text); len(ds) != 1 || !strings.Contains(ds.String(), want) {
			t.Errorf("%s: got %s, want %q", text, ds, want)
		}
	}
	for _, text := range []string{"x = 0", "x = " + digits, "x = 3.25", "x = [1, 2]"} {
		if ds := parse(t, text); len(ds) > 0 {
			t.Errorf("%s: %s", text, ds)
		}
	}
}

func TestNumber(t *testing.T) {
	for text, want := range map[string]int{
		"0": 0, "3": 3, "3.0": 3, "007": 7, strings.Repeat("9", 18): 999_999_999_999_999_999,
		"3.5": -1, `"3"`: -1, "true": -1, "null": -1, "[3]": -1, "x": -1,
	} {
		f := File{Name: "a.hcl", Text: []byte("x = " + text)}
		r := Reporter{Files: []File{f}}
		body := r.Parse(f, plain)
		if body == nil {
			t.Fatalf("%s: %s", text, r.Diagnostics())
		}
		if n, ok := Number(body.Attributes["x"].Expr); ok != (want >= 0) || ok && n != want {
			t.Errorf("%s: got %d, %v, want %d", text, n, ok, want)
		}
	}
}

func TestParse_OtherEncodings(t *testing.T) {
	text := "# Müller\nindex {\n  path = \"индекс\"\n}\n"
	little, big := []byte{}, []byte{}
	for _, u := range utf16.Encode([]rune(text)) {
		little = append(little, byte(u), byte(u>>8))
		big = append(big, byte(u>>8), byte(u))
	}
	wide := []byte{}
	for _, c := range text {
		wide = append(wide, byte(c), byte(c>>8), 0, 0)
	}
	for name, c := range map[string]struct{ text, want string }{
		"UTF-16 little-endian":      {string(little), "the file is UTF-16LE"},
		"UTF-16 big-endian":         {string(big), "the file is UTF-16BE"},
		"UTF-16 with a mark":        {"\xff\xfe" + string(little), "the file is UTF-16\n"},
		"UTF-16 with the other one": {"\xfe\xff" + string(big), "the file is UTF-16\n"},
		"UTF-32":                    {string(wide), "the file is UTF-32"},
		"UTF-32 with a mark":        {"\xff\xfe\x00\x00" + string(wide), "the file is UTF-32"},
		"Latin-1":                   {"x = 1\ny = \"caf\xe9\"", "a.hcl:2:9: error: the file is not valid UTF-8"},
		"a NUL byte":                {"x = \"a\x00b\"", "a.hcl:1:7: error: the file has a NUL byte"},
	} {
		t.Run(name, func(t *testing.T) {
			ds := parse(t, c.text)
			if len(ds) != 1 || !strings.Contains(ds.String(), c.want) {
				t.Errorf("got %s, want only %q", ds, c.want)
			}
			if strings.Contains(c.want, "UTF-16") && !strings.Contains(ds[0].Detail, "iconv -f UTF-16") {
				t.Errorf("does not say what to do: %s", ds)
			}
		})
	}
	t.Run("but UTF-8 with a mark is taken", func(t *testing.T) {
		if ds := parse(t, "\xef\xbb\xbf"+text); len(ds) > 0 {
			t.Error(ds)
		}
	})
}

func TestParse_TooLarge(t *testing.T) {
	ds := parse(t, strings.Repeat("#\n", MaxFileBytes/2)+"\n")
	if len(ds) != 1 || !strings.Contains(ds[0].Summary,
		"too large: it has 262145 bytes, and the limit is 256 KiB (262144 bytes)") {
		t.Error(ds)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"full": 100, "large": 101} {
		if err := os.WriteFile(at(name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"":         "it is a directory, not a regular file",
		"pipe":     "it is a named pipe, not a regular file",
		"large":    "too large: it has 101 bytes, and the limit is 0 KiB (100 bytes)",
		"absent":   "no such file",
		"caf\xe9":  "its name is not valid UTF-8",
		"full/sub": "not a directory",
	} {
		if _, err := Read(at(name), 100); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", name, err, want)
		}
	}
	if text, err := Read(at("full"), 100); err != nil || len(text) != 100 {
		t.Errorf("a file at the limit: %d, %v", len(text), err)
	}
	if _, err := Read("/dev/zero", 100); err == nil || !strings.Contains(err.Error(), "is a device") {
		t.Errorf("a device: %v", err)
	}
}
