// The client of recall-sidecar for Node.js 18 and later. It is one file without dependencies: copy it.
//
//   import { Recall, RecallError } from './recall.mjs'
//
//   const recall = new Recall({ socket: '/run/recall/recall.sock' })
//   const conversation = { type: 'group', id: 'g1' }
//   await recall.index({ messages: [{ tenant: 'acme', id: 'm1', conversation, sender: 'ann', type: 'text',
//     sent_at: new Date() }] })
//   const { results } = await recall.recall({ tenant: 'acme', actor: { id: 'ann' },
//     targets: [{ message_id: 'm1', conversation, role: 'member' }] })
//   console.log(results[0].status) // recalled
//
// A call takes the request that recall.proto and docs/any-language.md describe, and resolves to its response. A refusal
// by the rules is a result, not an error. A call that gets no answer, or any error but a 4xx, is repeated until its
// timeout; 408 and 429 are repeated as well. That is safe: the sidecar applies nothing twice.

import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import http from 'node:http'
import https from 'node:https'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'

const TIMEOUT = 30_000 // ms, of a call
const ATTEMPT_TIMEOUT = 60_000 // ms, of one attempt: the longest wait of take, and as long for its settlements
const FIRST_DELAY = 50 // ms, before the second attempt; it doubles with each one
const MAX_DELAY = 2_000 // ms
const MAX_SETTLE = 100 // outcomes in a request
const MAX_TAKE = 100 // deliveries in a response
const POLL = '1s' // wait of a take of run, which ends before the worker stops: its deliveries would be leased in vain
const GRACE = 2_000 // ms, for that take
const OUTCOMES = ['done', 'nothing_to_do', 'unsupported']

/**
 * @typedef {{ type: 'single'|'group'|'chatroom', id: string }} Conversation
 * @typedef {{ id: string, labels?: string[] }} Actor
 * @typedef {{ key: string, owner?: string }} Attachment
 * @typedef {{ tenant: string, id: string, conversation: Conversation, sender: string, type: string,
 *   sent_at: string|Date, attachments?: Attachment[], labels?: string[], ref?: string, relations?: Relation[]
 *   }} Message
 * @typedef {{ kind: 'edit'|'quote'|'forward'|'reply'|'thread', message_id: string }} Relation
 * @typedef {{ kind: string, message_id: string, conversation: Conversation, ref: string }} Related
 * @typedef {{ message_id: string, status: string, field: string, problem: string, related: Related[] }} IndexResult
 * @typedef {{ tenant: string, message_id: string, conversation?: Conversation, attachments?: Attachment[],
 *   labels?: string[], ref?: string, clear?: string[] }} Amendment
 * @typedef {{ message_id: string, conversation?: Conversation, role?: 'member'|'admin'|'owner'|'system'|'none',
 *   labels?: string[], message?: Message }} Target
 * @typedef {{ tenant: string, targets: Target[], actor: Actor, recall_id?: string, ext?: string, reason?: string,
 *   requested_at?: string|Date, atomic?: boolean, wait?: string }} RecallRequest wait is as in '60s'
 * @typedef {{ name: string, file: string, line: number }} Rule
 * @typedef {{ message_id: string, status: 'recalled'|'already_recalled'|'denied'|'not_found'|'aborted'|'waiting',
 *   code: string, text: Record<string, string>, rule?: Rule, recall_id: string, recalled_by: string, role: string,
 *   recalled_at?: string, until?: string, retry_at?: string, with: string[] }} RecallResult
 * @typedef {{ key: string, tenant: string, recall_id: string, actor: Actor, role: string, ext: string, reason: string,
 *   recalled_at: string, message: Message, silent: boolean, placeholder: Record<string, string>, disposition: string,
 *   retention?: string, attachments: Attachment[], rule?: Rule, policy_digest: string, related: Related[],
 *   more_related: boolean, job_id: string, cause?: Relation }} Event
 * @typedef {{ tenant: string, message_id: string, recall_id: string, actor: Actor, role: string,
 *   conversation?: Conversation, labels: string[], ext: string, reason: string, requested_at: string, until: string,
 *   state: 'waiting'|'refused'|'expired', code: string, rule?: Rule, ended_at?: string }} Waiting
 * @typedef {{ events: Event[], next: string, more: boolean, reset: boolean }} EventPage
 * @typedef {{ sender?: string, conversation?: Conversation, types?: string[], labels?: string[], from?: string|Date,
 *   before?: string|Date }} JobFilter which messages a job recalls: those that match every field
 * @typedef {{ tenant: string, job_id?: string, filter: JobFilter, actor: Actor, role?: string,
 *   conversation_labels?: string[], reason?: string, ext?: string, until?: string|Date }} JobRequest
 * @typedef {{ recalled: number, already_recalled: number, denied: Record<string, number> }} JobCounts
 * @typedef {{ request: JobRequest, state: 'running'|'done'|'canceled', started_at: string, ended_at?: string,
 *   examined: number, total: number, counts: JobCounts, waiting_until?: string, error: string }} Job
 * @typedef {{ counts: JobCounts, examined: number, total: number }} JobPreview
 * @typedef {{ step: string, node: string, outcome: string, attempts: number, error: string, changed_at?: string
 *   }} StepRecord
 * @typedef {{ event: Event, steps: StepRecord[] }} LedgerEntry
 * @typedef {{ id: string, step: string, attempt: number, event: Event, lease_until: string }} Delivery
 * @typedef {'done'|'nothing_to_do'|'unsupported'} Outcome
 * @typedef {{ id: string, outcome: Outcome|'failed', error?: string }} Settlement
 * @typedef {{ timeout?: number, signal?: AbortSignal }} CallOptions timeout is in ms: when the call is given up
 * @typedef {(delivery: Delivery, signal: AbortSignal) => Promise<Outcome|void>|Outcome|void} Handler carries out one
 *   step. It returns an outcome; nothing means done. If it throws, the step has failed and is delivered again later.
 *   signal aborts when the lease of the delivery ends: another worker may get it then.
 */

/** Why a call has no result. */
export class RecallError extends Error {
  /**
   * @param {number} status of HTTP; 0 if there was no response
   * @param {{ code?: string, detail?: string, errors?: { field: string, detail: string }[],
   *   request_id?: string }} problem
   * @param {unknown} [cause]
   */
  constructor(status, { code = 'unavailable', detail = '', errors = [], request_id = '' }, cause) {
    super(`recall: ${code}: ${detail}`, { cause })
    this.name = 'RecallError'
    this.status = status
    /** The word for the error, such as invalid_argument: docs/any-language.md lists them. */
    this.code = code
    this.detail = detail
    /** The fields that are wrong. */
    this.errors = errors
    /** Finds the request in the log of the sidecar. */
    this.request_id = request_id
    /** How long to wait at least before another attempt, in ms. */
    this.retryAfter = 0
  }

  /** Whether the same call may succeed later. */
  get temporary() {
    return this.status < 400 || this.status >= 500 || this.status === 408 || this.status === 429
  }
}

export class Recall {
  #agent
  #target
  #prefix
  #request
  #token
  #tokenFile

  /**
   * @param {object} to a sidecar: socket, or url with token or tokenFile
   * @param {string} [to.socket] path of a unix socket
   * @param {string} [to.url] such as http://127.0.0.1:8181
   * @param {string} [to.token]
   * @param {string} [to.tokenFile] whose first line is the token; read for each request
   * @param {number} [to.connections] at a time, default 64; further calls wait for one
   */
  constructor({ socket, url, token, tokenFile, connections = 64 }) {
    if (!socket === !url) throw new TypeError('Recall needs either socket or url')
    const base = new URL(url || 'http://localhost')
    const { Agent, request } = base.protocol === 'https:' ? https : http
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections })
    this.#request = request
    const host = base.hostname.replace(/^\[|\]$/g, '')
    this.#target = socket ? { socketPath: socket, host } : { host, port: base.port }
    this.#prefix = base.pathname.replace(/\/$/, '')
    this.#token = token
    this.#tokenFile = tokenFile
  }

  /** Records messages that the server accepted. @param {{ messages: Message[] }} request @param {CallOptions} [options]
   * @returns {Promise<{ results: IndexResult[] }>} */
  index(request, options) { return this.call('index', request, options) }

  /** Changes facts of indexed messages. @param {{ amendments: Amendment[] }} request @param {CallOptions} [options]
   * @returns {Promise<{ results: IndexResult[] }>} */
  amend(request, options) { return this.call('amend', request, options) }

  /** Recalls messages. With the same recall_id it is the same recall: set one to repeat the call after its timeout.
   * @param {RecallRequest} request @param {CallOptions} [options]
   * @returns {Promise<{ results: RecallResult[], now: string }>} */
  recall(request, options) {
    return this.call('recall', { ...request, recall_id: request.recall_id || randomUUID() }, options)
  }

  /** Answers what recall would answer now. @param {RecallRequest} request @param {CallOptions} [options]
   * @returns {Promise<{ results: RecallResult[], now: string }>} */
  check(request, options) { return this.call('check', request, options) }

  /** Answers which rules decide, and why. @param {RecallRequest} request @param {CallOptions} [options]
   * @returns {Promise<{ results: object[] }>} */
  explain(request, options) { return this.call('explain', request, options) }

  /** Says which messages are unknown, live or recalled. @param {{ tenant: string, ids: string[] }} request
   * @param {CallOptions} [options]
   * @returns {Promise<{ results: { message_id: string, state: 'unknown'|'live'|'recalled', message?: Message,
   *   recall_id: string, recalled_at?: string }[] }>} */
  status(request, options) { return this.call('status', request, options) }

  /** Answers one page of recalls after a cursor. If reset is true, the cursor is of no use: begin again without after.
   * @param {{ tenant: string, conversations?: Conversation[], after?: string, limit?: number }} request
   * @param {CallOptions} [options] @returns {Promise<EventPage>} */
  since(request, options) { return this.call('since', request, options) }

  /** Answers one page of the recalls that match every field, newest first. Go on with after = next while more is true,
   * also after a page without events.
   * @param {{ tenant: string, from?: string|Date, before?: string|Date, actor?: string, sender?: string,
   *   conversation?: Conversation, rule?: string, job_id?: string, steps?: 'open'|'failed', after?: string,
   *   limit?: number }} request
   * @param {CallOptions} [options] @returns {Promise<EventPage>} */
  list(request, options) { return this.call('list', request, options) }

  /** Iterates over the messages of a recall with their steps. If the index was restored meanwhile, it throws an error
   * with the code reset: begin again. @param {{ tenant: string, recall_id: string, limit?: number }} request limit is
   * that of a page @param {CallOptions} [options] for each page @returns {AsyncGenerator<LedgerEntry, void>} */
  async *ledger(request, options) {
    for (let page = { more: true, next: '' }; page.more;) {
      page = await this.call('ledger', { ...request, after: page.next }, options)
      if (page.reset) {
        throw new RecallError(200, { code: 'reset', detail: 'the index was restored or replaced: begin again' })
      }
      yield* page.entries
    }
  }

  /** Answers one page of the recalls that came before their messages, and those that were refused or expired.
   * @param {{ tenant: string, after?: string, limit?: number }} request @param {CallOptions} [options]
   * @returns {Promise<{ waits: Waiting[], next: string, more: boolean }>} */
  waits(request, options) { return this.call('waits', request, options) }

  /** Answers one page of the live messages that relate to a message.
   * @param {{ tenant: string, message_id: string, after?: string, limit?: number }} request
   * @param {CallOptions} [options] @returns {Promise<{ related: Related[], next: string, more: boolean }>} */
  related(request, options) { return this.call('related', request, options) }

  /** Starts a job that recalls every message that matches a filter. With the same job_id it is the same job: set one to
   * repeat the call after its timeout. @param {JobRequest} request @param {CallOptions} [options]
   * @returns {Promise<Job>} */
  startJob(request, options) {
    return this.call('jobs/start', { ...request, job_id: request.job_id || randomUUID() }, options)
  }

  /** Counts what the rules would answer now for the messages that match. @param {JobRequest} request
   * @param {CallOptions & { progress?: (soFar: JobPreview) => void }} [options] timeout is that of a page; progress is
   * called after each page @returns {Promise<JobPreview>} */
  async previewJob(request, { progress, ...options } = {}) {
    const sum = { counts: { recalled: 0, already_recalled: 0, denied: {} }, examined: 0, total: 0 }
    for (let page = { more: true, next: '' }; page.more;) {
      page = await this.call('jobs/preview', { job: request, after: page.next }, options)
      if (page.reset) {
        throw new RecallError(200, { code: 'reset', detail: 'the index was restored or replaced: begin again' })
      }
      sum.counts.recalled += page.counts.recalled
      sum.counts.already_recalled += page.counts.already_recalled
      for (const [code, n] of Object.entries(page.counts.denied)) {
        sum.counts.denied[code] = (sum.counts.denied[code] ?? 0) + n
      }
      sum.examined += page.examined
      sum.total = page.more ? Math.max(page.total, sum.examined) : sum.examined
      progress?.(sum)
    }
    return sum
  }

  /** Answers a job and how far it is. @param {{ tenant: string, job_id: string }} request @param {CallOptions} [options]
   * @returns {Promise<Job>} */
  jobStatus(request, options) { return this.call('jobs/status', request, options) }

  /** Answers one page of the jobs of a tenant, newest first. @param {{ tenant: string, state?: Job['state'],
   *   after?: string, limit?: number }} request @param {CallOptions} [options]
   * @returns {Promise<{ jobs: Job[], next: string, more: boolean, reset: boolean }>} */
  listJobs(request, options) { return this.call('jobs/list', request, options) }

  /** Ends a job. What it has recalled stays recalled. @param {{ tenant: string, job_id: string }} request
   * @param {CallOptions} [options] @returns {Promise<Job>} */
  cancelJob(request, options) { return this.call('jobs/cancel', request, options) }

  /** Settles deliveries, and leases up to max others. @param {{ steps?: string[], max?: number, wait?: string,
   *   settle?: Settlement[] }} request @param {CallOptions} [options] the default of timeout is 60 s
   * @returns {Promise<{ deliveries: Delivery[], late: string[] }>} */
  take(request, options) { return this.call('steps/take', request, { timeout: 2 * TIMEOUT, ...options }) }

  /** Reports outcomes of deliveries. late are the ids of those that could not be settled.
   * @param {{ settle: Settlement[] }} request at most 100 @param {CallOptions} [options]
   * @returns {Promise<{ late: string[] }>} */
  settle(request, options) { return this.call('steps/settle', request, options) }

  /** Closes the idle connections. */
  close() { this.#agent.destroy() }

  /**
   * Carries out steps until signal aborts. It then waits for the handlers, at most until their leases end, and settles
   * what they did. A handler that never ends keeps its place. run rejects if the sidecar refuses a request, for
   * instance for a step that sidecar.hcl does not have.
   *
   * @param {Record<string, Handler>} handlers by step
   * @param {object} [options]
   * @param {number} [options.parallel] handlers at a time, default 16
   * @param {AbortSignal} [options.signal] stops the worker
   */
  async run(handlers, { parallel = 16, signal = new AbortController().signal } = {}) {
    const steps = Object.keys(handlers)
    if (steps.length === 0) throw new TypeError('run needs the handler of at least one step')
    const running = new Set() // promises of the deliveries under way
    let outcomes = [] // not reported yet
    let polling = false // a take is under way: outcomes do not wait for the next one
    let reporting // the promise of a settle under way
    let failure
    let lastLease = 0
    const stopped = new AbortController() // the last poll has had its time
    const stop = new Promise((resolve) => signal.addEventListener('abort', resolve))
    stop.then(() => setTimeout(() => stopped.abort(), GRACE).unref())

    // send makes a call with outcomes until it succeeds, is refused, or the worker stops.
    const send = async (call) => {
      const settle = outcomes.splice(0, MAX_SETTLE)
      for (;;) {
        try {
          return await call(settle)
        } catch (err) {
          if (err.temporary && !signal.aborted) continue
          outcomes.unshift(...settle)
          throw err
        }
      }
    }
    const report = () => {
      reporting ??= (async () => {
        while (outcomes.length > 0) await send((settle) => this.settle({ settle }))
      })().catch((err) => { failure ??= err }).finally(() => { reporting = undefined })
      return reporting
    }
    const carryOut = async (delivery) => {
      const lease = new AbortController()
      const left = Date.parse(delivery.lease_until) - Date.now()
      const timer = setTimeout(() => lease.abort(new Error('the lease of the delivery has ended')), left)
      let settlement
      try {
        const outcome = (await handlers[delivery.step](delivery, lease.signal)) ?? 'done'
        if (!OUTCOMES.includes(outcome)) throw new TypeError(`the handler returned ${outcome}, not one of ${OUTCOMES}`)
        settlement = { id: delivery.id, outcome }
      } catch (err) {
        settlement = { id: delivery.id, outcome: 'failed', error: String(err) }
      }
      clearTimeout(timer)
      outcomes.push(settlement)
      if (polling) report()
    }

    while (!signal.aborted && !failure) {
      if (running.size >= parallel) await Promise.race([...running, stop])
      await nextTurn() // handlers that end together are settled together
      if (signal.aborted) break
      polling = true
      let deliveries = []
      try {
        const request = { steps, max: Math.min(MAX_TAKE, parallel - running.size), wait: POLL }
        const answer = await send((settle) => this.take({ ...request, settle }, { signal: stopped.signal }))
        deliveries = answer.deliveries
      } catch (err) {
        const refused = err instanceof RecallError && !err.temporary
        if (refused || !signal.aborted) failure ??= err
      }
      polling = false
      for (const delivery of deliveries) {
        lastLease = Math.max(lastLease, Date.parse(delivery.lease_until))
        const one = carryOut(delivery).finally(() => running.delete(one))
        running.add(one)
      }
    }
    const leases = sleep(Math.max(0, lastLease - Date.now()), undefined, { ref: false })
    if (running.size > 0) await Promise.race([Promise.all(running), leases])
    while (!failure && (reporting || outcomes.length > 0)) await report()
    if (failure) throw failure
  }

  /** Makes any call of the sidecar, such as admin/state.
   * @param {string} path after /v1/ @param {object} request @param {CallOptions} [options] @returns {Promise<any>} */
  async call(path, request, { timeout = TIMEOUT, signal } = {}) {
    const body = Buffer.from(JSON.stringify(request))
    const end = performance.now() + timeout
    for (let delay = FIRST_DELAY; ; delay = Math.min(2 * delay, MAX_DELAY)) {
      let failed
      do {
        signal?.throwIfAborted()
        try {
          return await this.#attempt(path, body, Math.min(end - performance.now(), ATTEMPT_TIMEOUT), signal)
        } catch (err) {
          if (!(err instanceof RecallError) || !err.temporary) throw err
          failed = err
        }
      } while (failed.cause?.idle && performance.now() < end) // the pool had a connection that was closed meanwhile
      const pause = failed.retryAfter + delay * (1 + Math.random()) / 2
      if (performance.now() + pause > end) throw failed
      await sleep(pause, undefined, { signal })
    }
  }

  async #attempt(path, body, timeout, signal) {
    const headers = { 'content-type': 'application/json', 'content-length': body.length }
    const token = this.#tokenFile ? (await readFile(this.#tokenFile, 'utf8')).split('\n')[0].trim() : this.#token
    if (token) headers.authorization = `Bearer ${token}`
    return new Promise((resolve, reject) => {
      const request = this.#request({
        ...this.#target, agent: this.#agent, method: 'POST', path: `${this.#prefix}/v1/${path}`, headers,
      })
      let answered = false
      const end = (error) => { // a request that waits for a connection emits no error
        reject(error)
        request.destroy()
      }
      const timer = setTimeout(() => {
        end(new RecallError(0, { code: 'deadline_exceeded', detail: 'no answer in time' }))
      }, timeout)
      const abort = () => end(signal.reason)
      signal?.addEventListener('abort', abort)
      const broken = (err) => {
        err.idle = request.reusedSocket && !answered && ['ECONNRESET', 'EPIPE'].includes(err.code)
        reject(new RecallError(0, { detail: err.message || err.code }, err))
      }
      request.on('error', broken)
      request.on('close', () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', abort)
      })
      request.on('response', (response) => {
        answered = true
        const parts = []
        response.on('data', (part) => parts.push(part))
        response.on('error', broken)
        response.on('end', () => {
          try {
            resolve(result(response, Buffer.concat(parts).toString()))
          } catch (err) {
            reject(err)
          }
        })
      })
      request.end(body)
    })
  }
}

// result returns the body of a response, or throws the error that it carries.
function result({ statusCode: status, headers }, text) {
  let body
  try {
    body = JSON.parse(text)
  } catch { // of a proxy, perhaps
    body = undefined
  }
  if (status === 200 && body) return body
  const error = new RecallError(status, body ?? { code: 'unknown', detail: `HTTP ${status}: ${text.slice(0, 200)}` })
  error.retryAfter = 1000 * (Number(headers['retry-after']) || 0)
  throw error
}
