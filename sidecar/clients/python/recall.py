"""The client of recall-sidecar for Python 3.9 and later. It is one file without dependencies: copy it.

    from recall import Recall, RecallError

    recall = Recall(socket="/run/recall/recall.sock")
    conversation = {"type": "group", "id": "g1"}
    recall.index(messages=[{"tenant": "acme", "id": "m1", "conversation": conversation, "sender": "ann",
                            "type": "text", "sent_at": "2026-11-03T09:30:00Z"}])
    answer = recall.recall(tenant="acme", actor={"id": "ann"},
                           targets=[{"message_id": "m1", "conversation": conversation, "role": "member"}])
    print(answer["results"][0]["status"])  # recalled

A call takes the fields of the request that recall.proto and docs/any-language.md describe, and returns its response. A
refusal by the rules is a result, not an error. A call that gets no answer, or any error but a 4xx, is repeated until
its timeout; 408 and 429 are repeated as well. That is safe: the sidecar applies nothing twice.

Many threads may use a Recall at a time; a server that forks makes one in each process. A datetime with a time zone may
stand for any time.
"""

from __future__ import annotations

import http.client
import json
import queue
import random
import socket as sockets
import threading
import time
import urllib.parse
import uuid
from datetime import datetime
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, TypedDict, Union

TIMEOUT = 30.0  # seconds, of a call
ATTEMPT_TIMEOUT = 60.0  # seconds, of one attempt: the longest wait of take, and as long for its settlements
FIRST_DELAY = 0.05  # seconds, before the second attempt; it doubles with each one
MAX_DELAY = 2.0
MAX_TAKE = 100  # deliveries in a response
MAX_SETTLE = 100  # outcomes in a request
POLL = "1s"  # wait of a take of run, which ends before the worker stops: its deliveries would be leased in vain
OUTCOMES = ("done", "nothing_to_do", "unsupported")

Time = Union[str, datetime]


class Conversation(TypedDict):
    type: str  # single, group or chatroom
    id: str


class Actor(TypedDict, total=False):
    id: str
    labels: List[str]


class Attachment(TypedDict, total=False):
    key: str
    owner: str


class Message(TypedDict, total=False):
    tenant: str
    id: str
    conversation: Conversation
    sender: str
    type: str
    sent_at: Time
    attachments: List[Attachment]
    labels: List[str]
    ref: str
    relations: List[Dict[str, str]]  # each with kind and message_id


class Amendment(TypedDict, total=False):
    tenant: str
    message_id: str
    conversation: Conversation
    attachments: List[Attachment]
    labels: List[str]
    ref: str
    clear: List[str]


class Target(TypedDict, total=False):
    message_id: str
    conversation: Conversation
    role: str  # member, admin, owner, system or none
    labels: List[str]
    message: Message


class Event(TypedDict, total=False):
    key: str
    tenant: str
    recall_id: str
    actor: Actor
    role: str
    ext: str
    reason: str
    recalled_at: str
    message: Message
    silent: bool
    placeholder: Dict[str, str]
    disposition: str
    retention: str
    attachments: List[Attachment]
    rule: Dict[str, Any]
    policy_digest: str
    related: List[Dict[str, Any]]
    more_related: bool
    cause: Dict[str, str]
    job_id: str


class JobFilter(TypedDict, total=False):
    """Which messages a job recalls: those that match every field. There is also the field "from"."""

    sender: str
    conversation: Conversation
    types: List[str]
    labels: List[str]
    before: str


class Job(TypedDict, total=False):
    request: Dict[str, Any]
    state: str  # running, done or canceled
    started_at: str
    ended_at: str
    examined: int
    total: int  # of them, an estimate
    counts: Dict[str, Any]  # {"recalled": int, "already_recalled": int, "denied": {code: int}}
    waiting_until: str
    error: str


class StepRecord(TypedDict, total=False):
    step: str
    node: str
    outcome: str
    attempts: int
    error: str
    changed_at: str


class LedgerEntry(TypedDict):
    event: Event
    steps: List[StepRecord]


class Delivery(TypedDict):
    id: str
    step: str
    attempt: int
    event: Event
    lease_until: str


class Settlement(TypedDict, total=False):
    id: str
    outcome: str  # done, nothing_to_do, unsupported or failed
    error: str


# Handler carries out one step. It returns an outcome; None means done. If it raises, the step has failed and is
# delivered again later. It should end before lease_left(delivery) is over: another worker may get the delivery then.
Handler = Callable[[Delivery], Optional[str]]


class RecallError(Exception):
    """Why a call has no result."""

    def __init__(self, status: int, code: str = "unavailable", detail: str = "",
                 errors: Sequence[Dict[str, str]] = (), request_id: str = "", retry_after: float = 0.0):
        super().__init__(f"recall: {code}: {detail}")
        self.status = status  # of HTTP; 0 if there was no response
        self.code = code  # the word for the error, such as invalid_argument: docs/any-language.md lists them
        self.detail = detail
        self.errors = list(errors)  # the fields that are wrong: {"field", "detail"}
        self.request_id = request_id  # finds the request in the log of the sidecar
        self.retry_after = retry_after  # how long to wait at least before another attempt, in seconds

    @property
    def temporary(self) -> bool:
        """Whether the same call may succeed later."""
        return self.status < 400 or self.status >= 500 or self.status in (408, 429)


class Recall:
    """A sidecar, by the path of its unix socket, or by a url such as http://127.0.0.1:8181 with a token.

    token_file is a file whose first line is the token; it is read for each request. connections is how many are open at
    a time; further calls wait for one. timeout of a call is in seconds.
    """

    def __init__(self, socket: str = "", url: str = "", token: str = "", token_file: str = "", connections: int = 64):
        if bool(socket) == bool(url):
            raise TypeError("Recall needs either socket or url")
        self._socket, self._token, self._token_file = socket, token, token_file
        self._base = urllib.parse.urlsplit(url or "http://localhost")
        self._free = threading.BoundedSemaphore(connections)
        self._idle: List[http.client.HTTPConnection] = []  # the one used last is at the end

    def index(self, messages: Sequence[Message], timeout: float = TIMEOUT) -> Dict[str, Any]:
        """Records messages that the server accepted: {"results": [{"message_id", "status", "field", "problem"}]}."""
        return self.call("index", {"messages": list(messages)}, timeout)

    def amend(self, amendments: Sequence[Amendment], timeout: float = TIMEOUT) -> Dict[str, Any]:
        """Changes facts of indexed messages. It returns results as index does."""
        return self.call("amend", {"amendments": list(amendments)}, timeout)

    def recall(self, tenant: str, targets: Sequence[Target], actor: Actor, recall_id: str = "",
               timeout: float = TIMEOUT, **more: Any) -> Dict[str, Any]:
        """Recalls messages: {"results": [{"message_id", "status", "code", "text", "recall_id", ...}], "now"}.

        With the same recall_id it is the same recall: set one to repeat the call after its timeout. more are ext,
        reason, requested_at, atomic and wait ("60s").
        """
        return self.call("recall", {"tenant": tenant, "targets": list(targets), "actor": actor,
                                    "recall_id": recall_id or str(uuid.uuid4()), **more}, timeout)

    def check(self, tenant: str, targets: Sequence[Target], actor: Actor, timeout: float = TIMEOUT,
              **more: Any) -> Dict[str, Any]:
        """Answers what recall would answer now."""
        return self.call("check", {"tenant": tenant, "targets": list(targets), "actor": actor, **more}, timeout)

    def explain(self, tenant: str, targets: Sequence[Target], actor: Actor, timeout: float = TIMEOUT,
                **more: Any) -> Dict[str, Any]:
        """Answers which rules decide, and why: {"results": [{"message_id", "result", "rules", ...}]}."""
        return self.call("explain", {"tenant": tenant, "targets": list(targets), "actor": actor, **more}, timeout)

    def status(self, tenant: str, ids: Sequence[str], timeout: float = TIMEOUT) -> Dict[str, Any]:
        """Says which messages are unknown, live or recalled: {"results": [{"message_id", "state", ...}]}."""
        return self.call("status", {"tenant": tenant, "ids": list(ids)}, timeout)

    def since(self, tenant: str, conversations: Sequence[Conversation] = (), after: str = "", limit: int = 0,
              timeout: float = TIMEOUT) -> Dict[str, Any]:
        """Answers one page of recalls after a cursor: {"events", "next", "more", "reset"}.

        If reset is true, the cursor is of no use: begin again without after.
        """
        return self.call("since", {"tenant": tenant, "conversations": list(conversations), "after": after,
                                   "limit": limit}, timeout)

    def list(self, tenant: str, after: str = "", limit: int = 0, timeout: float = TIMEOUT,
             **filter: Any) -> Dict[str, Any]:
        """Answers one page of the recalls that match, newest first: {"events", "next", "more", "reset"}.

        filter are from_, before, actor, sender, conversation, rule, job_id and steps ("open" or "failed"). Go on with
        after=next while more is true, also after a page without events.
        """
        if "from_" in filter:
            filter["from"] = filter.pop("from_")
        return self.call("list", {"tenant": tenant, "after": after, "limit": limit, **filter}, timeout)

    def ledger(self, tenant: str, recall_id: str, limit: int = 0, timeout: float = TIMEOUT) -> Iterator[LedgerEntry]:
        """Iterates over the messages of a recall with their steps. limit and timeout are those of a page.

        If the index was restored meanwhile, it raises an error with the code reset: begin again.
        """
        page: Dict[str, Any] = {"more": True, "next": ""}
        while page["more"]:
            page = self.call("ledger", {"tenant": tenant, "recall_id": recall_id, "after": page["next"],
                                        "limit": limit}, timeout)
            if page["reset"]:
                raise RecallError(200, "reset", "the index was restored or replaced: begin again")
            yield from page["entries"]

    def waits(self, tenant: str, after: str = "", limit: int = 0, timeout: float = TIMEOUT) -> Dict[str, Any]:
        """Answers one page of the recalls that came before their messages: {"waits", "next", "more"}.

        The state of each is waiting, refused or expired.
        """
        return self.call("waits", {"tenant": tenant, "after": after, "limit": limit}, timeout)

    def related(self, tenant: str, message_id: str, after: str = "", limit: int = 0,
                timeout: float = TIMEOUT) -> Dict[str, Any]:
        """Answers one page of the live messages that relate to a message: {"related", "next", "more"}."""
        return self.call("related", {"tenant": tenant, "message_id": message_id, "after": after, "limit": limit},
                         timeout)

    def start_job(self, tenant: str, filter: JobFilter, actor: Actor, job_id: str = "", timeout: float = TIMEOUT,
                  **more: Any) -> Job:
        """Starts a job that recalls every message that matches a filter.

        With the same job_id it is the same job: set one to repeat the call after its timeout. more are role,
        conversation_labels, reason, ext and until.
        """
        return self.call("jobs/start", {"tenant": tenant, "filter": filter, "actor": actor,
                                        "job_id": job_id or str(uuid.uuid4()), **more}, timeout)

    def preview_job(self, tenant: str, filter: JobFilter, actor: Actor, timeout: float = TIMEOUT,
                    progress: Optional[Callable[[Dict[str, Any]], None]] = None, **more: Any) -> Dict[str, Any]:
        """Counts what the rules would answer now for the messages that match: {"counts", "examined", "total"}.

        timeout is that of a page. progress is called with the sum so far after each page. more are as in start_job.
        """
        counts: Dict[str, Any] = {"recalled": 0, "already_recalled": 0, "denied": {}}
        total: Dict[str, Any] = {"counts": counts, "examined": 0, "total": 0}
        page: Dict[str, Any] = {"more": True, "next": ""}
        while page["more"]:
            page = self.call("jobs/preview", {"job": {"tenant": tenant, "filter": filter, "actor": actor, **more},
                                              "after": page["next"]}, timeout)
            if page["reset"]:
                raise RecallError(200, "reset", "the index was restored or replaced: begin again")
            counts["recalled"] += page["counts"]["recalled"]
            counts["already_recalled"] += page["counts"]["already_recalled"]
            for code, n in page["counts"]["denied"].items():
                counts["denied"][code] = counts["denied"].get(code, 0) + n
            total["examined"] += page["examined"]
            total["total"] = max(page["total"], total["examined"]) if page["more"] else total["examined"]
            if progress:
                progress(total)
        return total

    def job_status(self, tenant: str, job_id: str, timeout: float = TIMEOUT) -> Job:
        """Answers a job and how far it is."""
        return self.call("jobs/status", {"tenant": tenant, "job_id": job_id}, timeout)

    def list_jobs(self, tenant: str, state: str = "", after: str = "", limit: int = 0,
                  timeout: float = TIMEOUT) -> Dict[str, Any]:
        """Answers one page of the jobs of a tenant, newest first: {"jobs", "next", "more", "reset"}."""
        return self.call("jobs/list", {"tenant": tenant, "state": state, "after": after, "limit": limit}, timeout)

    def cancel_job(self, tenant: str, job_id: str, timeout: float = TIMEOUT) -> Job:
        """Ends a job. What it has recalled stays recalled."""
        return self.call("jobs/cancel", {"tenant": tenant, "job_id": job_id}, timeout)

    def take(self, steps: Sequence[str] = (), max: int = 0, wait: str = "", settle: Sequence[Settlement] = (),
             timeout: float = 2 * TIMEOUT) -> Dict[str, Any]:
        """Settles deliveries, and leases up to max others: {"deliveries": [...], "late": [ids]}."""
        return self.call("steps/take", {"steps": list(steps), "max": max, "wait": wait, "settle": list(settle)},
                         timeout)

    def settle(self, settle: Sequence[Settlement], timeout: float = TIMEOUT) -> Dict[str, Any]:
        """Reports outcomes of at most 100 deliveries. late are the ids of those that could not be settled."""
        return self.call("steps/settle", {"settle": list(settle)}, timeout)

    def run(self, handlers: Dict[str, Handler], parallel: int = 16, stop: Optional[threading.Event] = None) -> None:
        """Carries out steps, parallel at a time, until stop is set.

        It then waits for the handlers, at most until their leases end, and settles what they did. A handler that never
        ends keeps its place. run raises an error if the sidecar refuses a request, for instance for a step that
        sidecar.hcl does not have.
        """
        if not handlers:
            raise TypeError("run needs the handler of at least one step")
        _Worker(self, handlers, parallel, stop or threading.Event()).run()

    def close(self) -> None:
        """Closes the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def call(self, path: str, request: Dict[str, Any], timeout: float = TIMEOUT,
             stop: Optional[threading.Event] = None) -> Dict[str, Any]:
        """Makes any call of the sidecar, such as admin/state. If stop is set, it makes no other attempt."""
        body = json.dumps(request, default=_text_of).encode()
        end = time.monotonic() + timeout
        delay = FIRST_DELAY
        while True:
            try:
                return self._attempt(path, body, end)
            except RecallError as failed:
                pause = failed.retry_after + delay * (1 + random.random()) / 2
                if not failed.temporary or time.monotonic() + pause > end:
                    raise
                if (stop or threading.Event()).wait(pause):
                    raise
            delay = min(2 * delay, MAX_DELAY)

    def _attempt(self, path: str, body: bytes, end: float) -> Dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        token = self._token
        if self._token_file:
            with open(self._token_file, encoding="utf-8") as file:
                token = file.readline().strip()
        if token:
            headers["Authorization"] = "Bearer " + token
        if not self._free.acquire(timeout=max(0.0, end - time.monotonic())):
            raise RecallError(0, "deadline_exceeded", "no connection was free in time")
        try:
            while True:
                connection, reused = self._connection()
                left = min(max(end - time.monotonic(), 0.001), ATTEMPT_TIMEOUT)
                connection.timeout = left
                if connection.sock:
                    connection.sock.settimeout(left)
                try:
                    connection.request("POST", f"{self._base.path.rstrip('/')}/v1/{path}", body, headers)
                    response = connection.getresponse()
                    text = response.read()
                except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as err:
                    connection.close()
                    if reused and time.monotonic() < end:  # the pool had a connection that was closed meanwhile
                        continue
                    raise RecallError(0, detail=str(err)) from err
                except sockets.timeout as err:
                    connection.close()
                    raise RecallError(0, "deadline_exceeded", "no answer in time") from err
                except (OSError, http.client.HTTPException) as err:
                    connection.close()
                    raise RecallError(0, detail=str(err) or type(err).__name__) from err
                except BaseException:
                    connection.close()
                    raise
                if response.will_close:
                    connection.close()
                else:
                    self._idle.append(connection)
                return _result(response, text)
        finally:
            self._free.release()

    def _connection(self) -> Tuple[http.client.HTTPConnection, bool]:
        try:
            return self._idle.pop(), True
        except IndexError:
            pass
        host, port = self._base.hostname or "", self._base.port
        if self._socket:
            return _UnixConnection(self._socket), False
        if self._base.scheme == "https":
            return http.client.HTTPSConnection(host, port), False
        return http.client.HTTPConnection(host, port), False


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str):
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _result(response: http.client.HTTPResponse, text: bytes) -> Dict[str, Any]:
    """Returns the body of a response, or raises the error that it carries."""
    try:
        body = json.loads(text)
    except ValueError:  # of a proxy, perhaps
        body = None
    if response.status == 200 and isinstance(body, dict):
        return body
    if not isinstance(body, dict):
        body = {"code": "unknown", "detail": f"HTTP {response.status}: {text[:200].decode(errors='replace')}"}
    try:
        retry_after = float(response.headers.get("Retry-After", "0"))
    except ValueError:
        retry_after = 0.0
    raise RecallError(response.status, body.get("code", "unknown"), body.get("detail", ""), body.get("errors", ()),
                      body.get("request_id", ""), retry_after)


def _text_of(value: Any) -> str:
    if isinstance(value, datetime) and value.tzinfo:
        return value.isoformat()
    raise TypeError(f"{value!r} is neither JSON nor a datetime with a time zone")


def lease_left(delivery: Delivery) -> float:
    """Returns the seconds until the lease of a delivery ends."""
    return _time_of(delivery["lease_until"]).timestamp() - time.time()


def _time_of(text: str) -> datetime:
    """Reads a time of the sidecar; a datetime has six digits of its fraction of a second, and Python 3.9 wants them."""
    seconds, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{seconds}.{fraction:0<6.6}+00:00")


class _Worker:
    """What run does. The thread of run takes deliveries, and others carry them out."""

    def __init__(self, recall: Recall, handlers: Dict[str, Handler], parallel: int, stop: threading.Event):
        self.recall, self.handlers, self.parallel, self.stop = recall, handlers, parallel, stop
        self.due: queue.SimpleQueue[Optional[Delivery]] = queue.SimpleQueue()
        self.changed = threading.Condition()  # guards what follows
        self.busy = 0  # deliveries under way
        self.outcomes: List[Settlement] = []  # not reported yet
        self.polling = False  # a take is under way: outcomes do not wait for the next one
        self.reporting = False  # a thread reports outcomes
        self.failure: Optional[Exception] = None

    def run(self) -> None:
        for _ in range(self.parallel):
            threading.Thread(target=self.serve, daemon=True).start()
        last_lease = time.monotonic()
        while not self.stop.is_set() and not self.failure:
            with self.changed:
                if self.busy >= self.parallel:
                    self.changed.wait(1.0)  # and look at stop
                free = self.parallel - self.busy
                if free == 0:
                    continue
                self.polling = True
            try:
                answer = self.send(lambda settle: self.recall.call("steps/take", {
                    "steps": list(self.handlers), "max": min(free, MAX_TAKE), "wait": POLL, "settle": settle,
                }, 2 * TIMEOUT, self.stop))
            except Exception as err:
                answer = {"deliveries": []}
                refused = isinstance(err, RecallError) and not err.temporary
                if refused or not self.stop.is_set():
                    self.failure = self.failure or err
            with self.changed:
                self.polling = False
                self.busy += len(answer["deliveries"])
            for delivery in answer["deliveries"]:
                last_lease = max(last_lease, time.monotonic() + lease_left(delivery))
                self.due.put(delivery)
        with self.changed:
            self.changed.wait_for(lambda: self.busy == 0, max(0.0, last_lease - time.monotonic()))
            self.changed.wait_for(lambda: not self.reporting)
        for _ in range(self.parallel):
            self.due.put(None)
        while self.outcomes and not self.failure:
            self.send(self.recall.settle)
        if self.failure:
            raise self.failure

    def serve(self) -> None:
        while True:
            delivery = self.due.get()
            if delivery is None:
                return
            settlement: Settlement
            try:
                outcome = self.handlers[delivery["step"]](delivery) or "done"
                if outcome not in OUTCOMES:
                    raise TypeError(f"the handler returned {outcome}, not one of {', '.join(OUTCOMES)}")
                settlement = {"id": delivery["id"], "outcome": outcome}
            except BaseException as err:  # SystemExit too, which would end this thread
                settlement = {"id": delivery["id"], "outcome": "failed", "error": f"{type(err).__name__}: {err}"}
            with self.changed:
                self.busy -= 1
                self.outcomes.append(settlement)
                report = self.polling and not self.reporting
                self.reporting = self.reporting or report
                self.changed.notify_all()
            if report:
                self.report()

    def report(self) -> None:
        """Reports outcomes until there are none left. Those of the same moment go together."""
        while True:
            with self.changed:
                if not self.outcomes or self.failure:
                    self.reporting = False
                    self.changed.notify_all()
                    return
            try:
                self.send(self.recall.settle)
            except Exception as err:
                self.failure = self.failure or err

    def send(self, call: Callable[[List[Settlement]], Dict[str, Any]]) -> Dict[str, Any]:
        """Makes a call with outcomes until it succeeds, is refused, or the worker stops."""
        with self.changed:
            settle, self.outcomes = self.outcomes[:MAX_SETTLE], self.outcomes[MAX_SETTLE:]
        while True:
            try:
                return call(settle)
            except RecallError as err:
                if not err.temporary or self.stop.is_set():
                    with self.changed:
                        self.outcomes = settle + self.outcomes
                    raise
