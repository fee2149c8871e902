"""A chat server in Python that can take messages back. It has one room and keeps its messages in memory."""
import os
import signal
import subprocess
import sys
import threading
import uuid
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, "sidecar/clients/python")
from recall import Recall, RecallError  # noqa: E402

DIR, PORT = os.environ.get("DATA", "data/python-chat"), int(os.environ.get("PORT", "8080"))
FILES = {
    "plugin.hcl": 'plugin { binary = "recall-plugin" }\nindex { path = "index" }\n',
    "sidecar.hcl": """plugin_file = "plugin.hcl"
run_dir = "run"
listen "unix" { path = "recall.sock" }
step "notify" { pull = true }
step "history" { pull = true }
"""}
TENANT, ROOM = "example", {"type": "group", "id": "room"}
texts = {}  # of the messages, by id
notices = {}  # what readers see instead of recalled messages, by id
recall = Recall(socket=f"{DIR}/recall.sock")


def build():
    os.makedirs(DIR, exist_ok=True)
    for binary, source in ("recall-plugin", "./plugin"), ("recall-sidecar", "./sidecar"):
        if not os.path.exists(f"{DIR}/{binary}"):
            print(f"Building {binary} with Go. The first build takes some minutes and about 1 GB of disk.", flush=True)
            try:
                subprocess.run(["go", "build", "-o", f"{DIR}/{binary}", source], check=True)
            except (FileNotFoundError, subprocess.CalledProcessError) as err:
                sys.exit(f"go build: {err}; Go is at https://go.dev/dl")


def start_sidecar():
    for name, text in FILES.items():
        with open(f"{DIR}/{name}", "w") as file:
            file.write(text)
    with open(f"{DIR}/sidecar.log", "w") as log:
        # In a session of its own: Ctrl-C reaches the chat alone, which ends the sidecar when its own work is done.
        return subprocess.Popen([f"{DIR}/recall-sidecar", "--config", f"{DIR}/sidecar.hcl"], stdout=log, stderr=log,
                                start_new_session=True)


# The steps of a recall. Each may be carried out more than once.
def notify(delivery):
    notices[delivery["event"]["message"]["id"]] = f"{delivery['event']['actor']['id']} recalled a message"


def history(delivery):
    texts.pop(delivery["event"]["message"]["id"], None)


def send(user, text):  # indexes a message before it is shown and acknowledged: whatever users see can be recalled
    id = str(uuid.uuid4())
    result = recall.index([{"tenant": TENANT, "id": id, "conversation": ROOM, "sender": user, "type": "text",
                            "sent_at": datetime.now(timezone.utc)}])["results"][0]
    if result["status"] == "invalid":
        return 400, f"{result['field']}: {result['problem']}"
    texts[id] = text  # nobody could recall it before this: nobody knew its id
    return 200, id


def take_back(id, user):  # a real server knows its users, and their roles in the conversation
    target = {"message_id": id, "conversation": ROOM, "role": "member"}
    result = recall.recall(TENANT, [target], {"id": user})["results"][0]
    return (403, result["text"]["en"]) if result["text"] else (200, "recalled")


class Handler(BaseHTTPRequestHandler):
    def do(self):
        url = urlsplit(self.path)
        form = parse_qs(url.query or self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        user, text = form.get("user", [""])[0], form.get("text", [""])[0]
        try:
            if self.command == "POST":
                status, answer = send(user, text)
            elif self.command == "DELETE":
                status, answer = take_back(url.path.rpartition("/")[2], user)
            else:
                status, answer = 200, "\n".join(f"{id} {text}" for id, text in {**texts, **notices}.items())
        except RecallError as err:
            status, answer = err.status or 503, str(err)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(f"{answer}\n".encode())

    do_GET = do_POST = do_DELETE = do


build()
server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
base, stop = f"http://127.0.0.1:{server.server_port}/messages", threading.Event()
signal.signal(signal.SIGTERM, signal.default_int_handler)
sidecar = start_sidecar()
worker = threading.Thread(target=recall.run, args=({"notify": notify, "history": history}, 16, stop))
try:
    worker.start()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"Listening on {base}\n"
          f"  curl -d user=ann -d 'text=wrong room' {base}   # send; prints the id\n"
          f"  curl {base}   # read\n"
          f"  curl -X DELETE '{base}/ID?user=ann'   # recall", flush=True)
    while worker.is_alive() and sidecar.poll() is None:
        worker.join(0.2)
    failure = f"The sidecar has ended, or refused a request: see {DIR}/sidecar.log"
except KeyboardInterrupt:
    failure = None
stop.set()
worker.join()
sidecar.terminate()
sidecar.wait()
sys.exit(failure)
