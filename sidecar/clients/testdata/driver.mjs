// The driver of the tests for the Node.js client. Its argument has the options of Recall as JSON. Each line of its
// input is a command, which it answers with a line. Lines with began or did say what its worker does.
import { createInterface } from 'node:readline'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Recall, RecallError } from '../node/recall.mjs'

const recall = new Recall(JSON.parse(process.argv[2]))
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')
const failed = new Set() // steps of events that the worker has let fail
let worker, stopWorker, stopped, crowd, endCrowd

async function call({ call, request, timeout, parallel = 1 }) {
  const options = timeout && { timeout: 1000 * timeout }
  const one = async () => {
    if (call !== 'ledger') return recall[call](request, options)
    const entries = []
    for await (const entry of recall.ledger(request, options)) entries.push(entry)
    return entries
  }
  const all = await Promise.all(Array.from({ length: parallel }, one))
  return all[0]
}

// handle carries out a step in slow ms; it fails in the first attempt of every n-th delivery. The first attempts of all
// take until their leases end with first hang, until the worker is stopped with first stop, and never end with stuck.
let count = 0
const handle = ({ fail: n, slow = 1, first }) => async (delivery, signal) => {
  const key = delivery.event.key + ':' + delivery.step
  say({ began: key })
  if (first === 'stuck') await new Promise(() => {})
  if (first === 'hang' && delivery.attempt === 1) {
    await new Promise((resolve) => signal.addEventListener('abort', resolve))
    throw signal.reason
  }
  if (first === 'stop') await stopped
  if (++count % n === 0 && !failed.has(key)) {
    failed.add(key)
    throw new Error('this step fails once')
  }
  await sleep(slow)
  say({ did: key, attempt: delivery.attempt })
}

// user sends, checks and recalls messages until signal aborts.
async function user(signal, total) {
  const conversation = { type: 'group', id: 'g1' }
  while (!signal.aborted) {
    const id = randomUUID()
    const target = { message_id: id, conversation, role: 'member' }
    const request = { tenant: 'acme', actor: { id: 'ann' }, targets: [target] }
    const message = { tenant: 'acme', id, conversation, sender: 'ann', type: 'text', sent_at: new Date() }
    try {
      const words = [(await recall.index({ messages: [message] })).results[0].status]
      words.push((await recall.check(request)).results[0].status)
      const [result] = (await recall.recall(request)).results
      total.recalls.push(result.recall_id)
      words.push(result.status, (await recall.status({ tenant: 'acme', ids: [id] })).results[0].state)
      if (!/^(indexed|unchanged),recalled,recalled,recalled$/.test(words)) total.failures.push(`${id}: ${words}`)
    } catch (err) {
      total.failures.push(`${id}: ${err}`)
    }
    await sleep(100)
  }
}

const commands = {
  call,
  run({ run, parallel, ...how }) {
    stopWorker = new AbortController()
    stopped = new Promise((resolve) => stopWorker.signal.addEventListener('abort', resolve))
    const handlers = Object.fromEntries(run.map((step) => [step, handle(how)]))
    worker = recall.run(handlers, { parallel, signal: stopWorker.signal })
    worker.catch(() => {})
  },
  stop() {
    stopWorker.abort()
    return worker
  },
  crowd({ crowd: users }) {
    endCrowd = new AbortController()
    const total = { recalls: [], failures: [] }
    crowd = Promise.all(Array.from({ length: users }, () => user(endCrowd.signal, total))).then(() => total)
  },
  end() {
    endCrowd.abort()
    return crowd
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  try {
    say({ result: await commands[Object.keys(command)[0]](command) ?? null })
  } catch (err) {
    if (!(err instanceof RecallError)) throw err
    const { status, code, detail, errors, request_id } = err
    say({ error: { status, code, detail, errors, request_id } })
  }
}
recall.close()
process.exit() // although a worker may still run
