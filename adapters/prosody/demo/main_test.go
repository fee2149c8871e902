package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/hosttest"
)

// Each storage has a demo of its own, on ports of its own.
var storages = map[string]int{"internal": 2000, "sql": 2200}

func TestProsody(t *testing.T) {
	for storage, offset := range storages {
		t.Run(storage, func(t *testing.T) {
			t.Parallel()
			d := start(t, hosttest.RunDir(t), offset, storage)
			for _, part := range []struct {
				name string
				test func(*testing.T, *server)
			}{
				{"chats", testChats},
				{"corrections", testCorrections},
				{"refusals", testRefusals},
				{"hostile", testHostile},
				{"rooms", testRooms},
				{"uploads", testUploads},
				{"outside", testOutside},
				{"away", testAway},
				{"crowd", testCrowd},
				{"lookups", testLookups},
			} {
				t.Run(part.name, func(t *testing.T) { part.test(t, d.of(t)) })
			}
		})
	}
}

func TestDemo_End(t *testing.T) {
	dir := hosttest.RunDir(t)
	d := start(t, dir, 2400, "internal")
	alice, bob := d.connect("alice").present(), d.connect("bob").present()
	id := alice.message("bob@localhost", "chat", "before the end")
	bob.awaitText("before the end")
	alive := func() bool {
		for _, port := range []int{portC2S, portHTTP, portSidecar} {
			if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port+d.offset)); err == nil {
				conn.Close()
				return true
			}
		}
		return false
	}
	t.Run("SIGKILL of the demo alone", func(t *testing.T) {
		pids := d.pids()
		if len(pids) != 3 {
			t.Fatalf("the processes are %v", pids)
		}
		if err := syscall.Kill(d.cmd.Process.Pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-d.done
		for name, pid := range pids {
			d.of(t).eventually(name+" ends", func() bool { return syscall.Kill(pid, 0) != nil })
		}
	})
	d = start(t, dir, 2400, "internal")
	t.Run("data survives", func(t *testing.T) {
		alice, bob := d.connect("alice").present(), d.connect("bob").present()
		if !bob.archived("", "alice@localhost", "before the end") {
			t.Error("the archive lost the message")
		}
		r := alice.retract("bob@localhost", "chat", "v1", id)
		bob.awaitRetraction(id)
		d.of(t).settled("alice@localhost/" + r)
		d.of(t).gone("before the end")
	})
	t.Run("SIGTERM of the process group", func(t *testing.T) {
		d.end(syscall.SIGTERM)
		if code := d.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the demo ended with %s", d.cmd.ProcessState)
		}
		if alive() {
			t.Error("a port is still open")
		}
	})
	t.Run("SIGTERM of go run alone", func(t *testing.T) {
		var out hosttest.LogBuffer
		shell, err := exec.LookPath("sh")
		if err != nil {
			t.Fatal(err)
		}
		goRun := filepath.Join(t.TempDir(), "go") // by its name
		if err := os.Symlink(shell, goRun); err != nil {
			t.Fatal(err)
		}
		parent := exec.Command(goRun, "-c", `"$0" "$@"; exit $?`, hosttest.Build(t, "adapters/prosody/demo"),
			"--data", dir, "--offset", "2400")
		parent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		parent.Stdout = &out
		if err := parent.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = parent.Wait() // also for the demo, which has the other end of its output
			close(ended)
		}()
		t.Cleanup(func() {
			_ = syscall.Kill(-parent.Process.Pid, syscall.SIGKILL)
			<-ended
		})
		d.of(t).eventually("the demo is ready", func() bool { return strings.Contains(out.String(), "Ready.") })
		if err := parent.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal("the demo has not ended")
		}
		if alive() {
			t.Error("a port is still open")
		}
	})
}

func TestDemo_BadFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--storage redis":  `--storage is "redis"; it can be internal or sql`,
		"--window 0s":      "--window is 0s",
		"--window 200h":    "--window is 200h0m0s; it can be",
		"--offset -1":      "--offset is -1; it can be 0 to",
		"--offset 60000":   "--offset is 60000; it can be 0 to 50145",
		"an argument":      `unexpected argument "an"`,
		"--window tuesday": "invalid value",
	} {
		err := run(t.Context(), strings.Fields(args), &hosttest.LogBuffer{}, &hosttest.LogBuffer{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", args, err, want)
		}
	}
}

func TestDemo_PortInUse(t *testing.T) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", portHTTP+2600))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var out hosttest.LogBuffer
	err = run(t.Context(), []string{"--data", t.TempDir(), "--offset", "2600"}, &out, &out)
	if err == nil || !strings.Contains(err.Error(), "--offset moves all ports") {
		t.Errorf("the error is %v", err)
	}
}

func TestDemo_NoProsody(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := run(t.Context(), []string{"--data", t.TempDir()}, &hosttest.LogBuffer{}, &hosttest.LogBuffer{})
	if err == nil || !strings.Contains(err.Error(), "apt-get install prosody") {
		t.Errorf("the error is %v", err)
	}
}

func testHostile(t *testing.T, d *server) {
	alice, bob, erin := d.connect("alice").present(), d.connect("bob").present(), d.connect("erin").present()

	d.run("an id with slashes, quotes and line breaks", func(t *testing.T) {
		id := "a/b\\c\"'\n\t&<>/../bob@localhost/é"
		alice.messageWith("bob@localhost", "chat", id, "<body>odd id</body>")
		bob.awaitText("odd id")
		alice.retract("bob@localhost", "chat", "v1", id)
		bob.awaitRetraction(strings.NewReplacer("\n", " ", "\t", " ").Replace(id)) // what parsers of XML make of it
		d.gone("odd id")
	})
	d.run("a long id", func(t *testing.T) {
		id := strings.Repeat("x", 300)
		alice.messageWith("bob@localhost", "chat", id, "<body>long id</body>")
		if condition, _, _ := alice.refused(id); condition != "bad-request" {
			t.Errorf("the answer is %q", condition)
		}
		for _, n := range []int{300, 5000, 200_000} {
			alice.wantRefused("bob@localhost", "chat", "v0", strings.Repeat("y", n), "item-not-found")
		}
	})
	d.run("a million bytes", func(t *testing.T) {
		carol := d.connect("carol").present()
		carol.retract("bob@localhost", "chat", "v1", strings.Repeat("z", 1_000_000))
		carol.awaitOr(func(node) bool { return false }) // Prosody closes the stream
		alice.message("bob@localhost", "chat", "still here")
		bob.awaitText("still here")
	})
	d.run("an id that names the message of others", func(t *testing.T) {
		id := alice.message("bob@localhost", "chat", "between alice and bob")
		bob.awaitText("between alice and bob")
		erin.wantRefused("bob@localhost", "chat", "v1", id, "item-not-found")
		erin.wantRefused("alice@localhost", "chat", "v1", id, "item-not-found")
		erin.wantRefused("alice@localhost", "chat", "v1", "bob@localhost/"+id, "item-not-found")
		bob.wantRefused("alice@localhost", "chat", "v1", id, "forbidden")
	})
	d.run("the id of an archive", func(t *testing.T) {
		alice.message("bob@localhost", "chat", "id of an archive")
		n := bob.awaitText("id of an archive")
		sid := n.find("urn:xmpp:sid:0", "stanza-id").attr("id")
		bob.wantRefused("alice@localhost", "chat", "v1", sid, "item-not-found")
		alice.wantRefused("bob@localhost", "chat", "v1", sid, "item-not-found")
	})
	d.run("nothing of ours can be reached", func(t *testing.T) {
		for _, payload := range []string{
			`<call xmlns="urn:recall:0" name="history">{}</call>`,
			`<settle xmlns="urn:recall:0"/>`,
			`<take xmlns="urn:recall:0"/>`,
		} {
			for _, to := range []string{"localhost", "rooms.localhost", "files.localhost"} {
				if n := erin.iq("set", to, payload); n.attr("type") != "error" {
					t.Errorf("%s answers %s", to, n.Inner)
				}
			}
		}
		// A forged notice, and a message that claims to come from somebody else.
		forged := erin.id()
		erin.messageWith("bob@localhost", "chat", forged, `<retracted xmlns="urn:xmpp:message-retract:1" id="x"/>`)
		erin.send(`<message from="alice@localhost" to="bob@localhost" type="chat" id="forged">` +
			`<body>from alice?</body></message>`)
		if n := bob.awaitText("from alice?"); !strings.HasPrefix(n.attr("from"), "erin@localhost/") {
			t.Errorf("it came from %s", n.attr("from"))
		}
		// The sidecar answers nobody without the token.
		for _, header := range []string{"", "Bearer ", "Bearer 0123456789abcdef0123456789abcdef"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
				fmt.Sprintf("http://127.0.0.1:%d/v1/steps/take", portSidecar+d.offset), strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", header)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != http.StatusUnauthorized {
				t.Errorf("with %q the sidecar answers %s", header, res.Status)
			}
		}
		if info, err := os.Stat(d.dir + "/token"); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the token has mode %v, %v", info.Mode(), err)
		}
	})
	d.run("a message that claims to be a tombstone", func(t *testing.T) {
		for i, forged := range []string{
			`<retracted xmlns="` + nsRetract1 + `" id="x"/>`, `<retracted xmlns="` + nsRetract0 + `"/>`,
			`<moderated xmlns="` + nsModerate1 + `"/>`,
		} {
			text := fmt.Sprintf("claims to be retracted %d", i)
			id := alice.message("bob@localhost", "chat", text, forged)
			if n := bob.awaitText(text); strings.Contains(n.Inner, "retracted xmlns") || strings.Contains(n.Inner, "moderated") {
				t.Errorf("bob got %s", n.Inner)
			}
			alice.message("bob@localhost", "chat", text+" again", replaces(id))
			bob.awaitText(text + " again")
			alice.retract("bob@localhost", "chat", "v1", id)
			bob.awaitRetraction(id)
			d.gone(text)
		}
	})
	d.run("several retractions in one", func(t *testing.T) {
		first := alice.message("bob@localhost", "chat", "the first of two")
		second := bob.message("alice@localhost", "chat", "the second of two")
		alice.awaitText("the second of two")
		v0, v1 := fmt.Sprintf(retractions["v0"], second), fmt.Sprintf(retractions["v1"], first)
		for _, content := range []string{
			v1 + v0, v0 + v1, `<apply-to xmlns="` + nsFasten + `" id="x"/>` + v0, fmt.Sprintf(retractions["v0"], first) + v0,
		} {
			r := alice.id()
			alice.messageWith("bob@localhost", "chat", r, content)
			if condition, _, _ := alice.refused(r); condition != "item-not-found" && condition != "forbidden" {
				t.Errorf("%s: %s", content, condition)
			}
		}
		if !bob.archived("", "alice@localhost", "the first of two") {
			t.Error("the first message is gone")
		}
	})
	d.run("other types of messages", func(t *testing.T) {
		id := alice.message(bob.jid, "groupchat", "as if in a room")
		bob.awaitText("as if in a room")
		if state := d.state(chatKey("alice", "bob", id)); state != "live" {
			t.Errorf("the message is %s", state)
		}
		for _, version := range []string{"v0", "v1"} {
			r := erin.retract(bob.jid, "error", version, id)
			n := bob.await("error", func(n node) bool { return n.attr("id") == r })
			if v0, v1 := n.retracted(); v0+v1 != "" {
				t.Errorf("bob got %s", n.Inner)
			}
		}
	})
	d.run("no bare retraction passes", func(t *testing.T) {
		id := alice.message("bob@localhost", "chat", "no bare retraction")
		bob.awaitText("no bare retraction")
		for _, kind := range []string{"", "chat", "normal", "headline", "groupchat"} {
			erin.wantRefused("bob@localhost", kind, "v1", id, "item-not-found")
			erin.wantRefused(bob.jid, kind, "v0", id, "item-not-found")
		}
		erin.message("bob@localhost", "chat", "after the retractions")
		bob.awaitText("after the retractions")
		for _, n := range bob.got {
			if v0, v1 := n.retracted(); v0 == id || v1 == id {
				t.Errorf("bob got %s", n.Inner)
			}
		}
	})
}
