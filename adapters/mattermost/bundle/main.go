// Command bundle builds the bundle that an administrator of a Mattermost server uploads: the Mattermost plugin and
// recall-plugin for each platform, and the manifest. It is reproducible: the same sources give the same file.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const id = "com.chat-recall.recall"

func main() {
	log.SetFlags(0)
	out := flag.String("out", "dist/"+id+".tar.gz", "the `file` to write")
	version := flag.String("version", "0.1.0", "of the plugin, as MAJOR.MINOR.PATCH")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64", "what to build for, separated by commas")
	flag.Parse()
	sum, err := build(*out, *version, strings.Split(*platforms, ","))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%x  %s\n", sum, *out)
}

// A file is one of the bundle.
type file struct {
	name    string
	mode    int64
	content []byte
}

// build writes a bundle and returns its SHA-256. It runs in any folder of this module.
func build(out, version string, platforms []string) (sum [sha256.Size]byte, err error) {
	module, err := moduleFolder()
	if err != nil {
		return sum, err
	}
	work, err := os.MkdirTemp("", "recall-bundle")
	if err != nil {
		return sum, err
	}
	defer os.RemoveAll(work)
	var files []file
	executables := map[string]string{}
	for _, platform := range platforms {
		made, err := binaries(module, work, version, platform)
		if err != nil {
			return sum, err
		}
		executables[strings.ReplaceAll(platform, "/", "-")] = made[1].name
		files = append(files, made...)
	}
	manifest, err := manifest(module, version, executables)
	if err != nil {
		return sum, err
	}
	text, err := pack(append([]file{{"plugin.json", 0o644, manifest}}, files...))
	if err != nil {
		return sum, err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return sum, err
	}
	return sha256.Sum256(text), os.WriteFile(out, text, 0o644)
}

func moduleFolder() (string, error) {
	text, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list -m: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// binaries builds recall-plugin and the plugin for a platform. The plugin has the checksum of recall-plugin in it: it
// does not start a recall-plugin that was changed.
func binaries(module, work, version, platform string) ([]file, error) {
	goos, goarch, ok := strings.Cut(platform, "/")
	if !ok {
		return nil, fmt.Errorf("platform %q: want OS/ARCHITECTURE", platform)
	}
	name := "recall-plugin-" + goos + "-" + goarch
	recall, err := compile(filepath.Join(module, "..", ".."), "./plugin", filepath.Join(work, name), goos, goarch,
		"-X main.Version=v"+version)
	if err != nil {
		return nil, err
	}
	plugin, err := compile(module, "./plugin", filepath.Join(work, "plugin-"+goos+"-"+goarch), goos, goarch,
		fmt.Sprintf("-X main.version=%s -X main.recallPlugin=%s -X main.recallPluginSHA256=%x", version, name,
			sha256.Sum256(recall)))
	return []file{
		{"server/" + name, 0o755, recall},
		{"server/plugin-" + goos + "-" + goarch, 0o755, plugin},
	}, err
}

func compile(folder, pkg, out, goos, goarch, flags string) ([]byte, error) {
	cmd := exec.Command("go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w "+flags, "-o",
		out, pkg)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s of %s for %s/%s: %w\n%s", pkg, folder, goos, goarch, err, text)
	}
	return os.ReadFile(out)
}

// manifest is plugin.json with the version, the executables and the built-in rules as the default of the setting
// Rules.
func manifest(module, version string, executables map[string]string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(module, "plugin.json"))
	if err != nil {
		return nil, err
	}
	rules, err := os.ReadFile(filepath.Join(module, "..", "..", "rules", "default.hcl"))
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("plugin.json: %w", err)
	}
	m["version"], m["server"] = version, map[string]any{"executables": executables}
	found := false
	schema, _ := m["settings_schema"].(map[string]any)
	settings, _ := schema["settings"].([]any)
	for _, s := range settings {
		if setting, _ := s.(map[string]any); setting["key"] == "Rules" {
			setting["default"], found = string(rules), true
		}
	}
	if !found {
		return nil, fmt.Errorf("plugin.json has no setting Rules")
	}
	return json.MarshalIndent(m, "", "  ")
}

// pack makes the archive.
func pack(files []file) ([]byte, error) {
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	archive := tar.NewWriter(zip)
	for _, f := range files {
		header := &tar.Header{Name: id + "/" + f.name, Mode: f.mode, Size: int64(len(f.content)), Format: tar.FormatUSTAR}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	err = zip.Close()
	return out.Bytes(), err
}
