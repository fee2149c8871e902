package secret

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// write puts a text into a file that only its owner can access.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// encoded returns the secret of n bytes as its file has it.
func encoded(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(secretOf(n)) }

func secretOf(n int) []byte { return bytes.Repeat([]byte{0xfb}, n) }

const (
	tokenA = "0123456789abcdef"
	tokenB = "!~#abcdefghijklmnopqrstuvwxyz"
)

func TestFile_Read(t *testing.T) {
	longest := strings.Repeat("t", maxFileBytes)
	for name, c := range map[string]struct {
		of   func(path string) *File
		text string
		want [][]byte
	}{
		"one token":      {Tokens, tokenA, [][]byte{[]byte(tokenA)}},
		"several tokens": {Tokens, tokenB + "\n" + tokenA + "\n", [][]byte{[]byte(tokenB), []byte(tokenA)}},
		"comments, blanks and the line ends of Windows": {
			Tokens, "# old\n\n  " + tokenA + " \t\r\n\t# " + tokenB + "\r\n", [][]byte{[]byte(tokenA)},
		},
		"the largest file":    {Tokens, longest, [][]byte{[]byte(longest)}},
		"the smallest secret": {WebhookSecrets, encoded(24), [][]byte{secretOf(24)}},
		"several secrets": {
			WebhookSecrets, encoded(64) + "\n#\n" + encoded(25) + "\n", [][]byte{secretOf(64), secretOf(25)},
		},
		"the most secrets": {
			WebhookSecrets, strings.Repeat(encoded(32)+"\n", 16), slicesOf(secretOf(32), 16),
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			write(t, path, c.text)
			f := c.of(path)
			if f.Values() != nil || f.Match([]byte(tokenA)) || f.Match(nil) {
				t.Error("there are values before the first Read")
			}
			if err := f.Read(); err != nil || !reflect.DeepEqual(f.Values(), c.want) {
				t.Errorf("got %q, %v; want %q", f.Values(), err, c.want)
			}
		})
	}
}

func slicesOf(value []byte, n int) (all [][]byte) {
	for range n {
		all = append(all, value)
	}
	return all
}

func TestFile_ReadBadFile(t *testing.T) {
	const needle = "s3cretNeedle"
	const badToken = ": a token is visible ASCII, without spaces"
	const badSecret = ": a secret is whsec_ and the base64 of 24 to 64 bytes"
	code := base64.StdEncoding.EncodeToString([]byte(needle + needle + needle))
	for name, c := range map[string]struct {
		of         func(path string) *File
		text, want string
	}{
		"empty":                        {Tokens, "", " is empty: write one value in each line"},
		"comments only":                {Tokens, "# " + needle + "\n\n", " is empty: write one value in each line"},
		"above the limit":              {Tokens, strings.Repeat("x", maxFileBytes+1), " cannot be read: it is too large"},
		"a short token":                {Tokens, "\n# two\n" + needle + "\n", ":3: a token has 16 bytes or more"},
		"a token with a space":         {Tokens, needle + " " + needle, ":1" + badToken},
		"a token that is not ASCII":    {Tokens, needle + needle + "é", ":1" + badToken},
		"a token with DEL":             {Tokens, needle + needle + "\x7f", ":1" + badToken},
		"a token that is not UTF-8":    {Tokens, needle + needle + "\xff", ":1" + badToken},
		"a byte order mark":            {Tokens, "\ufeff" + needle + needle, ":1" + badToken},
		"a secret without its prefix":  {WebhookSecrets, code, ":1" + badSecret},
		"a secret that is short":       {WebhookSecrets, encoded(23), ":1" + badSecret},
		"a secret that is long":        {WebhookSecrets, encoded(24) + "\n" + encoded(65), ":2" + badSecret},
		"a secret that is not base64":  {WebhookSecrets, "whsec_" + code + "!!!!", ":1" + badSecret},
		"a secret in base64 for URLs":  {WebhookSecrets, strings.ReplaceAll(encoded(24), "+", "-"), ":1" + badSecret},
		"a secret without its padding": {WebhookSecrets, strings.TrimRight(encoded(25), "="), ":1" + badSecret},
		"two secrets with only a CR":   {WebhookSecrets, "whsec_" + code[:24] + "\r" + code[24:], ":1" + badSecret},
		"more secrets than allowed":    {WebhookSecrets, strings.Repeat(encoded(24)+"\n", 17), ":17: there are more than 16"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			write(t, path, encoded(24)) // a token too
			f := c.of(path)
			if err := f.Read(); err != nil {
				t.Fatal(err)
			}
			before := f.Values()
			write(t, path, c.text)
			err := f.Read()
			if err == nil || !strings.HasPrefix(err.Error(), path+c.want) {
				t.Errorf("got %v, want %s%s", err, path, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), needle) || strings.Contains(err.Error(), code[:8])) {
				t.Errorf("the error quotes a value: %v", err)
			}
			if !reflect.DeepEqual(f.Values(), before) {
				t.Errorf("the values in force are %q, want those of the file before", f.Values())
			}
		})
	}
}

func TestFile_ReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, tokenA)
	f := Tokens(path)
	if err := f.Read(); err != nil || !f.Match([]byte(tokenA)) || f.Match([]byte(tokenB)) {
		t.Fatalf("%v, values %q", err, f.Values())
	}
	write(t, path, tokenB)
	if err := f.Read(); err != nil || f.Match([]byte(tokenA)) || !f.Match([]byte(tokenB)) {
		t.Fatalf("%v, values %q", err, f.Values())
	}
}

func TestFile_ReadMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, tokenA)
	for mode, want := range map[os.FileMode]string{
		0o600: "", 0o400: "", 0o640: "", 0o440: "", 0o700: "", 0o750: "",
		0o604: "0604", 0o602: "0602", 0o601: "0601", 0o620: "0620", 0o660: "0660", 0o644: "0644", 0o666: "0666",
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		err := Tokens(path).Read()
		switch {
		case want == "" && err != nil:
			t.Errorf("mode %o: %v", mode, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), path+" cannot be read: its mode "+want+" ") ||
			!strings.HasSuffix(err.Error(), "chmod 600")):
			t.Errorf("mode %o: got %v", mode, err)
		}
	}
}

func TestFile_ReadNotAFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "absent"): " cannot be read: no such file or directory",
		dir:                          " cannot be read: it is a directory, not a regular file",
		pipe:                         " cannot be read: it is a named pipe, not a regular file",
	} {
		if err := Tokens(path).Read(); err == nil || err.Error() != path+want {
			t.Errorf("got %v, want %s%s", err, path, want)
		}
	}
}

// A secret of Kubernetes is a symbolic link to a file in a folder that is replaced as a whole.
func TestFile_ReadLink(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), tokenA)
	write(t, filepath.Join(dir, "b"), tokenB)
	link := filepath.Join(dir, "token")
	f := Tokens(link)
	for name, token := range map[string]string{"a": tokenA, "b": tokenB} {
		_ = os.Remove(link)
		if err := os.Symlink(name, link); err != nil {
			t.Fatal(err)
		}
		if err := f.Read(); err != nil || !f.Match([]byte(token)) {
			t.Errorf("%s: %v, values %q", name, err, f.Values())
		}
	}
}

func TestFile_Match(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, tokenA+"\n"+tokenB+"\n"+tokenA+tokenB+"\n"+tokenA+"\n")
	f := Tokens(path)
	if err := f.Read(); err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]bool{
		tokenA: true, tokenB: true, tokenA + tokenB: true,
		"": false, tokenA[1:]: false, tokenA[:15]: false, tokenB + tokenA: false, strings.ToUpper(tokenA): false,
		tokenA + "\n": false, "# " + tokenA: false,
	} {
		if got := f.Match([]byte(token)); got != want {
			t.Errorf("%q: got %v", token, got)
		}
	}
}

// FuzzFile checks that no file makes Read panic, and that all values of a file that is taken are valid.
func FuzzFile(f *testing.F) {
	f.Add([]byte("# old\n"+tokenA+"\r\n"), []byte(encoded(24)+"\n"+encoded(64)))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, tokens, secrets []byte) {
		for _, c := range []struct {
			file        *File
			text        []byte
			least, most int
		}{
			{Tokens(filepath.Join(dir, "tokens")), tokens, 16, maxFileBytes},
			{WebhookSecrets(filepath.Join(dir, "secrets")), secrets, 24, 64},
		} {
			write(t, c.file.path, string(c.text))
			err := c.file.Read()
			if (err == nil) != (len(c.file.Values()) > 0) {
				t.Fatalf("values %q with %v", c.file.Values(), err)
			}
			for _, v := range c.file.Values() {
				if len(v) < c.least || len(v) > c.most || !c.file.Match(v) {
					t.Fatalf("value %q", v)
				}
			}
		}
	})
}
