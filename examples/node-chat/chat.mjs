// A chat server in Node.js that can take messages back. It has one room and keeps its messages in memory.
//
//   node examples/node-chat/chat.mjs
import { spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, openSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { text as read } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { Recall } from '../../sidecar/clients/node/recall.mjs'

process.chdir(fileURLToPath(new URL('../..', import.meta.url)))
const dir = process.env.DATA ?? 'data/node-chat'
const tenant = 'example'
const room = { type: 'group', id: 'room' }
const texts = new Map() // of the messages, by id
const notices = new Map() // what readers see instead of recalled messages, by id
const recall = new Recall({ socket: `${dir}/recall.sock` })

function build() {
  mkdirSync(dir, { recursive: true })
  for (const [binary, source] of [['recall-plugin', './plugin'], ['recall-sidecar', './sidecar']]) {
    if (existsSync(`${dir}/${binary}`)) continue
    console.log(`Building ${binary} with Go. The first build takes some minutes and about 1 GB of disk.`)
    const { status, error } = spawnSync('go', ['build', '-o', `${dir}/${binary}`, source], { stdio: 'inherit' })
    if (error) console.error(`go build: ${error.message}; Go is at https://go.dev/dl`)
    if (status !== 0) process.exit(1)
  }
}

function startSidecar() {
  writeFileSync(`${dir}/plugin.hcl`, `plugin { binary = "recall-plugin" }
index { path = "index" }
`)
  writeFileSync(`${dir}/sidecar.hcl`, `plugin_file = "plugin.hcl"
run_dir = "run"
listen "unix" { path = "recall.sock" }
step "notify" { pull = true }
step "history" { pull = true }
`)
  const log = openSync(`${dir}/sidecar.log`, 'w')
  // Ctrl-C in a terminal reaches the chat alone, which ends the sidecar when its own work is done.
  const options = { stdio: ['ignore', log, log], detached: true }
  return spawn(`${dir}/recall-sidecar`, ['--config', `${dir}/sidecar.hcl`], options)
}

// The steps of a recall. Each may be carried out more than once.
const steps = {
  notify({ event }) { notices.set(event.message.id, `${event.actor.id} recalled a message`) },
  history({ event }) { texts.delete(event.message.id) },
}

const routes = {
  // A message is indexed before it is shown and acknowledged: whatever users see can be recalled.
  async 'POST messages'(request) {
    const form = new URLSearchParams(await read(request))
    const id = randomUUID()
    const message = { tenant, id, conversation: room, sender: form.get('user'), type: 'text', sent_at: new Date() }
    const { results: [result] } = await recall.index({ messages: [message] })
    if (result.status === 'invalid') return [400, `${result.field}: ${result.problem}`]
    texts.set(id, form.get('text')) // nobody could recall it before this: nobody knew its id
    return [200, id]
  },
  async 'GET messages'() { return [200, [...new Map([...texts, ...notices])].map((one) => one.join(' ')).join('\n')] },
  // A real server knows its users, and their roles in the conversation.
  async 'DELETE messages'(request, id, user) {
    const target = { message_id: id, conversation: room, role: 'member' }
    const { results: [result] } = await recall.recall({ tenant, actor: { id: user }, targets: [target] })
    return result.text.en ? [403, result.text.en] : [200, 'recalled']
  },
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://localhost')
  const [, path, id] = url.pathname.split('/')
  const route = routes[`${request.method} ${path}`] ?? (async () => [404, 'not found'])
  const answer = route(request, id, url.searchParams.get('user'))
  const [status, text] = await answer.catch((err) => [err.status || 503, err.message])
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(text + '\n')
})

build()
server.listen(Number(process.env.PORT ?? 8080), '127.0.0.1')
await once(server, 'listening')
const base = `http://127.0.0.1:${server.address().port}/messages`
const stopping = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => stopping.abort())
const fail = (text) => { console.error(text); process.exitCode = 1; stopping.abort() }
const sidecar = startSidecar()
sidecar.on('exit', () => stopping.signal.aborted || fail(`The sidecar has ended: see ${dir}/sidecar.log`))
console.log(`Listening on ${base}
  curl -d user=ann -d 'text=wrong room' ${base}   # send; prints the id
  curl ${base}   # read
  curl -X DELETE '${base}/ID?user=ann'   # recall`)
await recall.run(steps, { signal: stopping.signal }).catch((err) => fail(err.message))
server.close().closeAllConnections()
if (sidecar.kill('SIGTERM')) await once(sidecar, 'exit')
recall.close()
