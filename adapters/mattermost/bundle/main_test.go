package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/mattermost/mattermost/server/public/model"
)

func TestManifest(t *testing.T) {
	text, err := manifest("..", "1.2.3", map[string]string{"linux-amd64": "server/plugin-linux-amd64"})
	if err != nil {
		t.Fatal(err)
	}
	var m model.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	if err := m.IsValid(); err != nil {
		t.Error(err)
	}
	if m.Id != id || m.Version != "1.2.3" || m.GetExecutableForRuntime("linux", "amd64") != "server/plugin-linux-amd64" ||
		m.MinServerVersion != "6.7.2" {
		t.Errorf("%+v", m)
	}
	rules, err := os.ReadFile("../../../rules/default.hcl")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range m.SettingsSchema.Settings {
		if s.Key == "Rules" && s.Default != string(rules) {
			t.Errorf("the default of the setting Rules is not the built-in policy: %v", s.Default)
		}
	}
}

func TestPack(t *testing.T) {
	files := []file{{"plugin.json", 0o644, []byte("{}")}, {"server/plugin", 0o755, []byte("binary")}}
	text, err := pack(files)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := pack(files); err != nil || !bytes.Equal(text, again) {
		t.Errorf("the same files make another bundle: %v", err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(zip)
	for _, f := range files {
		header, err := archive.Next()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil || header.Name != id+"/"+f.name || header.Mode != f.mode || !bytes.Equal(content, f.content) {
			t.Errorf("%+v %q %v", header, content, err)
		}
	}
	if _, err := archive.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
