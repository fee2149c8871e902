package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/sidecar/sidecartest"
)

const webhookSecret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"

// checkDeployed runs --check on configuration files of a deployment, with its folders below a temporary one.
func checkDeployed(t *testing.T, files map[string]string) {
	t.Helper()
	dir := hosttest.RunDir(t)
	paths := strings.NewReplacer("/usr/local/bin/recall-plugin", hosttest.BuildPlugin(t), `"/var/`, `"`+dir+"/var/",
		`"/run/`, `"`+dir+"/run/", `"/etc/`, `"`+dir+"/etc/")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(paths.Replace(text)), 0o440); err != nil {
			t.Fatal(err)
		}
	}
	check := exec.CommandContext(t.Context(), sidecartest.Build(t), "--check", "--config",
		filepath.Join(dir, "etc/recall/sidecar.hcl"))
	if out, err := check.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("is valid")) {
		t.Errorf("--check: %v\n%s", err, out)
	}
	plugin := filepath.Join(dir, "etc/recall/plugin.hcl")
	if stdout, stderr, err := hosttest.RunPlugin(t, "check", "--config", plugin); err != nil {
		t.Errorf("recall-plugin check: %v\n%s%s", err, stdout, stderr)
	}
}

func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDeploy_Configuration(t *testing.T) {
	t.Run("as it is", func(t *testing.T) {
		checkDeployed(t, map[string]string{
			"etc/recall/sidecar.hcl": deployed(t, "sidecar.hcl"), "etc/recall/plugin.hcl": deployed(t, "plugin.hcl"),
		})
	})
	t.Run("with the webhook in the comment", func(t *testing.T) {
		text, comment, _ := strings.Cut(deployed(t, "sidecar.hcl"), "\n#\n")
		checkDeployed(t, map[string]string{
			"etc/recall/sidecar.hcl":  text + "\n" + regexp.MustCompile("(?m)^# ").ReplaceAllString(comment, ""),
			"etc/recall/plugin.hcl":   deployed(t, "plugin.hcl"),
			"etc/recall/hooks.secret": webhookSecret,
		})
	})
}

// knownKeys are those of unit files that deploy uses, for machines without systemd.
var knownKeys = strings.Fields(`
	Description Documentation After Wants StartLimitIntervalSec WantedBy Type NotifyAccess ExecStartPre ExecStart
	ExecReload Restart RestartSec TimeoutStartSec KillMode TimeoutStopSec User Group UMask RuntimeDirectory
	RuntimeDirectoryMode RuntimeDirectoryPreserve StateDirectory StateDirectoryMode CacheDirectory
	CacheDirectoryMode LimitNOFILE CapabilityBoundingSet LockPersonality MemoryDenyWriteExecute NoNewPrivileges
	PrivateDevices PrivateTmp ProtectClock ProtectControlGroups ProtectHome ProtectHostname ProtectKernelLogs
	ProtectKernelModules ProtectKernelTunables ProtectProc ProtectSystem RemoveIPC RestrictAddressFamilies
	RestrictNamespaces RestrictRealtime RestrictSUIDSGID SystemCallArchitectures SystemCallErrorNumber
	SystemCallFilter ListenStream SocketUser SocketGroup SocketMode DirectoryMode
`)

func TestDeploy_Systemd(t *testing.T) {
	dir := t.TempDir()
	var units []string
	for _, name := range []string{"recall-sidecar.service", "recall-sidecar.socket"} {
		text := deployed(t, name)
		for _, m := range regexp.MustCompile(`(?m)^([A-Za-z]+)=`).FindAllStringSubmatch(text, -1) {
			if !slices.Contains(knownKeys, m[1]) {
				t.Errorf("%s: unknown key %s", name, m[1])
			}
		}
		// The binary must exist.
		text = strings.ReplaceAll(text, "/usr/local/bin/recall-sidecar", sidecartest.Build(t))
		units = append(units, filepath.Join(dir, name))
		if err := os.WriteFile(units[len(units)-1], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("without systemd-analyze only the names of the keys are checked")
		return
	}
	out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify"}, units...)...).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte(dir)) { // it also reports mistakes in units of the machine
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestDeploy_Dockerfile runs the build of the image that needs no Docker.
func TestDeploy_Dockerfile(t *testing.T) {
	dir, built := t.TempDir(), 0
	for _, m := range regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .* -o )/out(\S+) (\S+)$`).
		FindAllStringSubmatch(deployed(t, "Dockerfile"), -1) {
		built++
		binary := filepath.Join(dir, m[2])
		// Without -trimpath, which compiles every package anew.
		build := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(m[1], "-trimpath ", "", 1)+binary+" "+m[3])
		build.Dir = ".."
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", m[0], err, out)
		}
		file, err := elf.Open(binary)
		if err != nil {
			t.Fatal(err)
		}
		if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 {
			t.Errorf("%s needs %q, which an image from scratch does not have: %v", m[2], libraries, err)
		}
		_ = file.Close()
		if out, err := exec.CommandContext(t.Context(), binary, "version").CombinedOutput(); err != nil {
			t.Errorf("%s version: %v\n%s", m[2], err, out)
		}
	}
	if built != 2 {
		t.Errorf("the Dockerfile builds %d binaries", built)
	}
}

// manifest is what the test reads of a Kubernetes object.
type manifest struct {
	Kind       string
	StringData map[string]string `yaml:"stringData"`
	Data       map[string]string
	Spec       struct {
		Template struct {
			Spec struct {
				InitContainers []container `yaml:"initContainers"`
				Containers     []container
				Volumes        []struct {
					Name   string
					Secret struct {
						DefaultMode int `yaml:"defaultMode"`
					}
				}
			}
		}
		VolumeClaimTemplates []struct{ Metadata struct{ Name string } } `yaml:"volumeClaimTemplates"`
	}
}

type container struct {
	RestartPolicy  string `yaml:"restartPolicy"`
	StartupProbe   probe  `yaml:"startupProbe"`
	ReadinessProbe probe  `yaml:"readinessProbe"`
	VolumeMounts   []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type probe struct{ Exec struct{ Command []string } }

func TestDeploy_Kubernetes(t *testing.T) {
	objects := map[string]manifest{}
	for d := yaml.NewDecoder(strings.NewReader(deployed(t, "kubernetes.yaml"))); ; {
		var m manifest
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		objects[m.Kind] = m
	}
	files := map[string]string{}
	for name, text := range objects["ConfigMap"].Data {
		files["etc/recall/"+name] = text
	}
	for name, text := range objects["Secret"].StringData {
		files["etc/recall-secrets/"+name] = text
	}
	checkDeployed(t, files)

	pod := objects["StatefulSet"].Spec.Template.Spec
	volumes := map[string]bool{}
	for _, claim := range objects["StatefulSet"].Spec.VolumeClaimTemplates {
		volumes[claim.Metadata.Name] = true
	}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
		if v.Name == "secrets" && v.Secret.DefaultMode != 0o440 {
			t.Errorf("the secrets have mode %04o", v.Secret.DefaultMode)
		}
	}
	if len(pod.InitContainers) != 1 || pod.InitContainers[0].RestartPolicy != "Always" || len(pod.Containers) != 1 {
		t.Fatalf("the pod is %+v", pod)
	}
	for _, p := range []probe{pod.InitContainers[0].StartupProbe, pod.InitContainers[0].ReadinessProbe} {
		want := "/usr/local/bin/recall-sidecar healthcheck --config /etc/recall/sidecar.hcl"
		if got := strings.Join(p.Exec.Command, " "); got != want {
			t.Errorf("a probe runs %s", got)
		}
	}
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("there is no volume %q", m.Name)
			}
		}
	}
}
