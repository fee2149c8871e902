// Package clients_test runs the clients of recall-sidecar with the runtimes of their languages.
package clients_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/chat-recall/recall/host/hosttest"
)

// problem is the error of a client.
type problem struct {
	Status    int                              `json:"status"`
	Code      string                           `json:"code"`
	Detail    string                           `json:"detail"`
	Errors    []struct{ Field, Detail string } `json:"errors"`
	RequestID string                           `json:"request_id"`
}

// at says how a client reaches a sidecar.
type at struct {
	socket, url, tokenFile string
	env                    []string
}

// language is a language that has a client.
type language struct {
	name    string
	command string   // the runtime
	args    []string // before the options
	worker  bool     // its client runs steps
}

var languages = []language{
	{name: "node", command: "node", args: []string{"testdata/driver.mjs"}, worker: true},
	{name: "python", command: "python3", args: []string{"testdata/driver.py"}, worker: true},
	{name: "bash", command: "bash", args: []string{"testdata/driver.sh"}},
}

// each runs a test with each client.
func each(t *testing.T, test func(t *testing.T, l language)) {
	for _, l := range languages {
		run(t, l, test)
	}
}

// eachWorker runs a test with each client that has workers and keeps connections.
func eachWorker(t *testing.T, test func(t *testing.T, l language)) {
	for _, l := range languages {
		if l.worker {
			run(t, l, test)
		}
	}
}

func run(t *testing.T, l language, test func(t *testing.T, l language)) {
	t.Run(l.name, func(t *testing.T) {
		t.Parallel()
		for _, command := range []string{l.command, "curl"} {
			if _, err := exec.LookPath(command); err != nil {
				hosttest.Missing(t, command)
			}
		}
		test(t, l)
	})
}

// driver is a program that makes calls with a client.
type driver struct {
	t       *testing.T
	l       language
	in      io.WriteCloser
	answers chan string
	ended   chan struct{}

	mu    sync.Mutex
	began int              // attempts
	did   map[string][]int // attempts that the worker carried out, by delivery
}

// drive starts the driver of a language.
func drive(t *testing.T, l language, to at) *driver {
	t.Helper()
	cmd := exec.Command(l.command, l.args...)
	cmd.Env = append(append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "http_proxy=http://127.0.0.1:1"), to.env...)
	set := func(name, value string) { // JSON for the drivers with a constructor, the environment for bash
		if value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	switch l.name {
	case "bash":
		set("RECALL_SOCKET", to.socket)
		set("RECALL_URL", to.url)
		set("RECALL_TOKEN_FILE", to.tokenFile)
	default:
		options := map[string]string{"socket": to.socket, "url": to.url}
		if to.tokenFile != "" {
			options[map[string]string{"node": "tokenFile", "python": "token_file"}[l.name]] = to.tokenFile
		}
		text, err := json.Marshal(options)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Args = append(cmd.Args, string(text))
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log hosttest.LogBuffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &driver{t: t, l: l, in: in, answers: make(chan string), ended: make(chan struct{}), did: map[string][]int{}}
	go d.read(out)
	t.Cleanup(func() {
		_ = in.Close()
		<-d.ended
		if err := cmd.Wait(); err != nil || log.String() != "" {
			t.Errorf("the driver ended: %v\n%s", err, log.String())
		}
	})
	return d
}

func (d *driver) read(out io.Reader) {
	defer close(d.ended)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), `{"began"`) {
			d.mu.Lock()
			d.began++
			d.mu.Unlock()
			continue
		}
		var worker struct {
			Did     string
			Attempt int
		}
		if strings.HasPrefix(lines.Text(), `{"did"`) && json.Unmarshal(lines.Bytes(), &worker) == nil {
			d.mu.Lock()
			d.did[worker.Did] = append(d.did[worker.Did], worker.Attempt)
			d.mu.Unlock()
			continue
		}
		d.answers <- lines.Text()
	}
}

// command sends a line to the driver and returns the answer.
func (d *driver) command(line string) string {
	d.t.Helper()
	if _, err := io.WriteString(d.in, line+"\n"); err != nil {
		d.t.Fatal(err)
	}
	select {
	case answer := <-d.answers:
		return answer
	case <-d.ended:
		d.t.Fatal("the driver has ended")
		return ""
	}
}

// do gives a command to a driver with a worker, and decodes its result.
func (d *driver) do(command string, result any) *problem {
	d.t.Helper()
	var answer struct {
		Result json.RawMessage
		Error  *problem
	}
	text := d.command(command)
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		d.t.Fatalf("%s: %s: %v", command, text, err)
	}
	if answer.Error == nil && result != nil {
		if err := json.Unmarshal(answer.Result, result); err != nil {
			d.t.Fatalf("%s: %s: %v", command, answer.Result, err)
		}
	}
	return answer.Error
}

// methods are the names of calls in a language where they are not the path.
var methods = map[string]map[string]string{
	"jobs/start":   {"node": "startJob", "python": "start_job"},
	"jobs/preview": {"node": "previewJob", "python": "preview_job"},
	"jobs/status":  {"node": "jobStatus", "python": "job_status"},
	"jobs/list":    {"node": "listJobs", "python": "list_jobs"},
	"jobs/cancel":  {"node": "cancelJob", "python": "cancel_job"},
}

// call makes a call within a timeout in seconds, and decodes its response.
func (d *driver) call(name, request string, timeout int, result any) *problem {
	d.t.Helper()
	if method := methods[name][d.l.name]; method != "" {
		name = method
	}
	if d.l.worker {
		return d.do(fmt.Sprintf(`{"call":%q,"request":%s,"timeout":%d}`, name, request, timeout), result)
	}
	path := map[string]string{"take": "steps/take", "settle": "steps/settle"}[name]
	if path == "" {
		path = name
	}
	status, text, _ := strings.Cut(d.command(fmt.Sprintf("%s %d %s", path, timeout, request)), " ")
	if status != "0" {
		p := &problem{}
		if err := json.Unmarshal([]byte(text), p); err != nil { // not of the sidecar
			p.Detail = text
		}
		return p
	}
	if name == "ledger" {
		var page struct{ Entries json.RawMessage }
		if err := json.Unmarshal([]byte(text), &page); err != nil {
			d.t.Fatal(err)
		}
		text = string(page.Entries)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal([]byte(text), result); err != nil {
		d.t.Fatalf("%s: %s: %v", name, text, err)
	}
	return nil
}

// carriedOut returns how many deliveries the worker has carried out.
func (d *driver) carriedOut() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.did)
}
