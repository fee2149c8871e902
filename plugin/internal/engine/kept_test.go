package engine

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/shared"
)

const broken = "permit \"all\" {\n  windw = \"1h\"\n}\n"

// restart ends the engine and prepares another one over the same folder. It returns what Prepare says, and the log.
func (r *rig) restart() (shared.Diagnostics, *hosttest.LogBuffer) {
	r.t.Helper()
	if err := r.Quiesce(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	log := &hosttest.LogBuffer{}
	r.Engine = New(Options{Version: "v0", Clock: r.clock, Logger: hclog.New(&hclog.LoggerOptions{Output: log})})
	s := r.Engine
	r.t.Cleanup(func() { _ = s.Quiesce(context.Background()) })
	ds, err := r.Prepare(r.t.Context(), r.path("plugin.hcl"))
	if err != nil {
		r.t.Fatal(err)
	}
	return ds, log
}

// sealed is the body of a kept policy under a first line that fits.
func sealed(body []byte) string { return sumOf(body) + "\n" + string(body) }

func (r *rig) rules() shared.RulesState {
	r.t.Helper()
	h, err := r.Health(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return h.Rules
}

func TestPrepare_BrokenRulesAfterAGoodPolicy(t *testing.T) {
	r := newActive(t, nobody)
	r.index(r.message("a"))
	inForce := r.rules().Digest
	r.write("rules.hcl", broken)
	ds, log := r.restart()
	t.Run("prepares with warnings that say what is in force and what is wrong", func(t *testing.T) {
		if ds.HasErrors() || len(ds) != 2 || !strings.Contains(ds[0].Summary, inForce) || ds[1].File != r.path("rules.hcl") ||
			ds[1].Line != 2 {
			t.Errorf("diagnostics %v", ds)
		}
	})
	t.Run("logs both as errors", func(t *testing.T) {
		for _, want := range []string{"[ERROR] the rule files are refused: the last policy", inForce,
			"[ERROR] rules: diagnostic=\"" + r.path("rules.hcl") + ":2:"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, log)
			}
		}
	})
	r.activate()
	t.Run("decides by the last policy in force", func(t *testing.T) {
		if got := r.recall(request("r", "a"))[0]; got.Code != "closed" || got.Rule.File != r.path("rules.hcl") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("shows the fallback in health and metrics", func(t *testing.T) {
		st := r.rules()
		if !st.Fallback || st.Digest != inForce || !st.Refused.HasErrors() || st.Paths[0] != r.path("rules.hcl") {
			t.Errorf("health tells %+v", st)
		}
		if r.metric("recall_rules_fallback") != 1 || r.metric("recall_rules_last_reload_successful") != 0 {
			t.Error("the metrics do not tell")
		}
	})
	t.Run("falls back again at the next start", func(t *testing.T) {
		if ds, _ := r.restart(); ds.HasErrors() {
			t.Error(ds)
		}
		r.activate()
		if st := r.rules(); !st.Fallback || st.Digest != inForce {
			t.Errorf("health tells %+v", st)
		}
	})
	t.Run("puts mended files in force", func(t *testing.T) {
		r.write("rules.hcl", anyone)
		r.changed(func(s shared.RulesState) bool { return s.Digest != inForce && !s.Fallback && s.Refused == nil })
		if got := r.recall(request("r", "a"))[0]; got.Status != shared.StatusRecalled {
			t.Errorf("got %+v", got)
		}
		if r.metric("recall_rules_fallback") != 0 {
			t.Error("the metric says that it is still the fallback")
		}
	})
	t.Run("keeps the mended ones for the next start", func(t *testing.T) {
		mended := r.rules().Digest
		r.write("rules.hcl", broken)
		r.restart()
		r.activate()
		if st := r.rules(); !st.Fallback || st.Digest != mended {
			t.Errorf("health tells %+v", st)
		}
	})
}

func TestActivate_AnotherPolicyCameIntoForceSincePrepare(t *testing.T) {
	r := newActive(t, nobody)
	old := r.Engine
	r.write("rules.hcl", broken)
	standby := New(Options{Version: "v1", Clock: r.clock})
	t.Cleanup(func() { _ = standby.Quiesce(context.Background()) })
	if ds, err := standby.Prepare(t.Context(), r.path("plugin.hcl")); err != nil || ds.HasErrors() {
		t.Fatal(ds, err)
	}
	// The old one takes a change that the standby, which waits for files to stay as they are, does not see.
	r.write("rules.hcl", anyone)
	if ds, err := old.Reload(t.Context()); err != nil || ds.HasErrors() {
		t.Fatal(ds, err)
	}
	inForce := r.rules().Digest
	r.write("rules.hcl", broken)
	if err := old.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Engine = standby
	r.activate()
	if st := r.rules(); st.Digest != inForce {
		t.Errorf("in force is %+v, want %s", st, inForce)
	}
}

func TestActivate_LastPolicyInForce(t *testing.T) {
	r := newActive(t, nobody)
	inForce := r.rules().Digest
	r.write("rules.hcl", broken)
	t.Run("is not loaded again", func(t *testing.T) {
		_, log := r.restart()
		r.activate()
		if n := strings.Count(log.String(), "[ERROR] the rule files are refused"); n != 1 {
			t.Errorf("the log has it %d times:\n%s", n, log)
		}
	})
	t.Run("stays in force though its file is lost", func(t *testing.T) {
		r.restart()
		if err := os.Remove(keptPath(r.path("index"))); err != nil {
			t.Fatal(err)
		}
		r.activate()
		if st := r.rules(); st.Digest != inForce || !st.Fallback {
			t.Errorf("in force is %+v, want %s", st, inForce)
		}
	})
}

func TestPrepare_BrokenRulesInEveryForm(t *testing.T) {
	for name, breakIt := range map[string]func(r *rig){
		"a file that does not parse": func(r *rig) { r.write("rules.hcl", "permit {") },
		"a file that is gone":        func(r *rig) { os.Remove(r.path("rules.hcl")) },
		"a file that is a folder":    func(r *rig) { os.Remove(r.path("rules.hcl")); os.Mkdir(r.path("rules.hcl"), 0o700) },
		"other, broken files": func(r *rig) {
			r.write("other.hcl", broken)
			r.write("plugin.hcl", "index { path = \"index\" }\nrules { paths = [\"other.hcl\"] }\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newActive(t, nobody)
			inForce := r.rules().Digest
			breakIt(r)
			if ds, _ := r.restart(); ds.HasErrors() {
				t.Fatal(ds)
			}
			if st := r.rules(); !st.Fallback || st.Digest != inForce {
				t.Errorf("health tells %+v", st)
			}
		})
	}
	t.Run("the first rule file after the built-in policy", func(t *testing.T) {
		r := newActive(t, "")
		inForce := r.rules().Digest
		r.write("rules.hcl", broken)
		r.write("plugin.hcl", "index { path = \"index\" }\nrules { paths = [\"rules.hcl\"] }\n")
		if ds, _ := r.restart(); ds.HasErrors() {
			t.Fatal(ds)
		}
		if st := r.rules(); !st.Fallback || st.Digest != inForce {
			t.Errorf("health tells %+v", st)
		}
	})
}

func TestPrepare_BrokenRulesWithoutALastPolicy(t *testing.T) {
	refused := func(t *testing.T, r *rig, want string) {
		t.Helper()
		r.write("rules.hcl", broken)
		ds, _ := r.restart()
		if !ds.HasErrors() || ds[0].File != r.path("rules.hcl") || ds[0].Line != 2 ||
			!strings.Contains(ds.Err().Error(), want) {
			t.Errorf("prepared with %v, want errors with %q", ds, want)
		}
		if err := r.Activate(t.Context(), nil); err == nil {
			t.Error("activated without rules")
		}
	}
	t.Run("was never active", func(t *testing.T) {
		refused(t, newStandby(t, nobody), "windw")
	})
	t.Run("is configured to fail", func(t *testing.T) {
		r := newActive(t, nobody)
		r.write("plugin.hcl", "index { path = \"index\" }\nrules {\n  paths = [\"rules.hcl\"]\n  on_error = \"refuse\"\n}\n")
		refused(t, r, "windw")
	})
	for name, damage := range map[string]func([]byte) []byte{
		"is cut short":         func(b []byte) []byte { return b[:len(b)/2] },
		"is empty":             func(b []byte) []byte { return nil },
		"has a letter changed": func(b []byte) []byte { return bytes.Replace(b, []byte("closed"), []byte("opened"), 1) },
		"has a digest of its own": func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"digest": "`),
				[]byte(`"digest": "0`), 1)
		},
		"is followed by something": func(b []byte) []byte { return append(b, ' ') },
	} {
		t.Run(name, func(t *testing.T) {
			r := newActive(t, nobody)
			file := keptPath(r.path("index"))
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			r.write(filepath.Base(file), string(damage(data)))
			refused(t, r, file+" is damaged")
		})
	}
	t.Run("is of another digest", func(t *testing.T) {
		p, _ := rules.Parse("a.hcl", []byte(nobody))
		data, err := encodeKept(p)
		if err != nil {
			t.Fatal(err)
		}
		_, body, _ := bytes.Cut(data, []byte("\n"))
		r := newActive(t, nobody)
		r.write("index.policy", sealed(bytes.Replace(body, []byte(p.Digest()), []byte(strings.Repeat("0", 64)), 1)))
		refused(t, r, "holds the policy "+p.Digest()+" and says that it is 0000")
	})
	t.Run("is of a language that this plugin does not speak", func(t *testing.T) {
		r := newActive(t, nobody)
		r.write("index.policy", sealed([]byte(`{"digest":"0","files":[{"name":"x.hcl",`+
			`"text":"permit \"a\" { until = \"noon\" }"}]}`)))
		refused(t, r, "until")
	})
}

func TestKeep_FileIsPrivateAndWhole(t *testing.T) {
	r := newActive(t, nobody)
	file := keptPath(r.path("index"))
	before, err := os.Stat(file)
	if err != nil || before.Mode() != 0o600 {
		t.Fatalf("%v, %v", before, err)
	}
	var log *hosttest.LogBuffer
	t.Run("is left alone while the policy stays", func(t *testing.T) {
		_, log = r.restart()
		r.activate()
		if now, err := os.Stat(file); err != nil || !os.SameFile(before, now) {
			t.Errorf("%v, %v", now, err)
		}
	})
	t.Run("takes the place of a half that was left", func(t *testing.T) {
		r.write("index.policy.new", "half")
		r.write("rules.hcl", anyone)
		if _, err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p, err := readKept(file); err != nil || p.Digest() != r.rules().Digest {
			t.Errorf("kept %v, %v", p, err)
		}
		if _, err := os.Stat(file + ".new"); !os.IsNotExist(err) {
			t.Errorf("the half is still there: %v", err)
		}
	})
	const failure = "[ERROR] the policy in force cannot be kept"
	if strings.Contains(log.String(), failure) {
		t.Errorf("the log has a failure:\n%s", log)
	}
	t.Run("cannot be written", func(t *testing.T) {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(file, "in the way"), 0o700); err != nil {
			t.Fatal(err)
		}
		r.write("rules.hcl", nobody)
		if _, err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st := r.rules(); len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0].Summary, "cannot be kept") {
			t.Errorf("health tells %+v", st)
		}
		if !strings.Contains(log.String(), failure) {
			t.Errorf("the log lacks it:\n%s", log)
		}
	})
}

func TestKeep_StandbyKeepsNothing(t *testing.T) {
	r := newStandby(t, nobody)
	r.write("rules.hcl", anyone)
	r.changed(func(s shared.RulesState) bool { return r.metric("recall_rules_reloads_total", "result", "loaded") >= 1 })
	if _, err := os.Stat(keptPath(r.path("index"))); !os.IsNotExist(err) {
		t.Errorf("a standby kept what was never in force: %v", err)
	}
}
