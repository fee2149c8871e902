"""The driver of the tests for the Python client. Its argument has those of Recall as JSON. Each line of its input is a
command, which it answers with a line. Lines with began or did say what its worker does."""
import concurrent.futures
import json
import os
import sys
import threading
import time
import uuid
from datetime import datetime, timezone

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "python"))
from recall import Recall, RecallError, lease_left  # noqa: E402

recall = Recall(**json.loads(sys.argv[1]))
lock = threading.Lock()
failed = set()  # steps of events that the worker has let fail
pool = concurrent.futures.ThreadPoolExecutor(64)
state = {"count": 0}


def say(line):
    with lock:
        print(json.dumps(line), flush=True)


def call(call, request, timeout=None, parallel=1):
    more = {"timeout": timeout} if timeout else {}

    def one():
        answer = getattr(recall, call)(**request, **more)
        return list(answer) if call == "ledger" else answer

    return [f.result() for f in [pool.submit(one) for _ in range(parallel)]][0]


def handle(fail, slow=1, first=""):
    """Returns a handler that carries out a step in slow ms. It fails in the first attempt of every fail-th delivery.
    The first attempts of all take until their leases end with first hang, until the worker is stopped with first stop,
    and never end with stuck."""
    def handler(delivery):
        key = delivery["event"]["key"] + ":" + delivery["step"]
        say({"began": key})
        if first == "stuck":
            threading.Event().wait()
        if first == "hang" and delivery["attempt"] == 1:
            time.sleep(max(0, lease_left(delivery)))
            raise ValueError("the lease has ended")
        if first == "stop":
            state["stop"].wait()
        with lock:
            state["count"] += 1
            fails = state["count"] % fail == 0 and key not in failed
            if fails:
                failed.add(key)
        if fails:
            raise ValueError("this step fails once")
        time.sleep(slow / 1000)
        say({"did": key, "attempt": delivery["attempt"]})
    return handler


def user(end, total):
    """Sends, checks and recalls messages until end is set."""
    conversation = {"type": "group", "id": "g1"}
    while not end.is_set():
        id = str(uuid.uuid4())
        request = {"tenant": "acme", "actor": {"id": "ann"},
                   "targets": [{"message_id": id, "conversation": conversation, "role": "member"}]}
        try:
            words = [recall.index([{"tenant": "acme", "id": id, "conversation": conversation, "sender": "ann",
                                    "type": "text", "sent_at": datetime.now(timezone.utc)}])["results"][0]["status"]]
            words.append(recall.check(**request)["results"][0]["status"])
            result = recall.recall(**request)["results"][0]
            total["recalls"].append(result["recall_id"])
            words += [result["status"], recall.status("acme", [id])["results"][0]["state"]]
            if words[0] not in ("indexed", "unchanged") or words[1:] != ["recalled"] * 3:
                total["failures"].append(f"{id}: {words}")
        except RecallError as err:
            total["failures"].append(f"{id}: {err}")
        end.wait(0.1)


def run(run, parallel, **how):
    state["stop"] = threading.Event()
    state["worker"] = pool.submit(recall.run, {step: handle(**how) for step in run}, parallel, state["stop"])


def stop(stop):
    state["stop"].set()
    state["worker"].result()


def crowd(crowd):
    state["end"], state["total"] = threading.Event(), {"recalls": [], "failures": []}
    state["users"] = [pool.submit(user, state["end"], state["total"]) for _ in range(crowd)]


def end(end):
    state["end"].set()
    for one in state["users"]:
        one.result()
    return state["total"]


commands = {"call": call, "run": run, "stop": stop, "crowd": crowd, "end": end}
for text in sys.stdin:
    command = json.loads(text)
    try:
        say({"result": commands[next(iter(command))](**command)})
    except RecallError as err:
        say({"error": {"status": err.status, "code": err.code, "detail": err.detail, "errors": err.errors,
                       "request_id": err.request_id}})
recall.close()
sys.stdout.flush()
os._exit(0)  # although a worker may still run
