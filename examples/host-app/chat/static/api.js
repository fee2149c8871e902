// What the pages ask of the server.

// Refused is an answer that is not what was asked for; message is what the server says of it.
export class Refused extends Error {
  constructor(status, body) {
    super(body.errors?.[0]?.detail || body.detail || `HTTP ${status}`);
    this.status = status;
    this.field = body.errors?.[0]?.field;
  }
}

async function request(path, options, user) {
  const headers = { ...options.headers };
  if (user) headers['X-User'] = user;
  const answer = await fetch(path, { ...options, headers, cache: 'no-store' });
  if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

export const get = async (path, user) => (await request(path, {}, user)).json();

export const post = async (path, body, user) =>
  (await request(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }, user)).json();

// archived reads an attachment from the archive, which records that.
export const archived = async (id, key, user) => (await request('/archive/file', { method: 'POST',
  headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ message_id: id, key }) }, user)).blob();

const query = (values) => '?' + new URLSearchParams(values);

// upload stores a file for a conversation and gives the key under which messages name it.
export async function upload(file, room, user) {
  const path = '/attachments' + query({ type: room.type, id: room.id, name: file.name });
  const answer = await request(path, { method: 'POST', headers: { 'Content-Type': 'application/octet-stream' }, body: file }, user);
  return (await answer.json()).key;
}

// attachment reads a file. It is 410 when the message that it belonged to was recalled.
export const attachment = async (key, user) => (await request('/attachments' + query({ key }), {}, user)).blob();

export const history = (room, before, user) => get('/history' + query({ type: room.type, id: room.id, before, limit: 50 }), user);

// recallsAfter is every recall in the user's conversations after a cursor, and the cursor after them.
export async function recallsAfter(cursor, user) {
  const recalls = [];
  for (;;) {
    // Number.MAX_SAFE_INTEGER is behind the end of the roaming log: its messages come from the history here.
    const page = await get('/sync' + query({ after: Number.MAX_SAFE_INTEGER, recalls_after: cursor }), user);
    recalls.push(...page.recalls);
    cursor = page.recalls_after;
    if (!page.more) return { recalls, cursor };
  }
}

// listen follows the user's stream and calls on.hello, on.message, on.notice and on.lost. It reconnects until it is closed
// or the server does not know the user; then it calls on.unknown.
export function listen(user, on) {
  let source;
  let again;
  let closed = false;
  const open = () => {
    source = new EventSource('/stream' + query({ user }));
    source.addEventListener('hello', () => on.hello());
    source.addEventListener('message', (e) => on.message(JSON.parse(e.data)));
    source.addEventListener('notice', (e) => on.notice(JSON.parse(e.data)));
    source.addEventListener('replaced', () => source.close()); // by a newer page of this user: no fight over the places
    source.onerror = async () => {
      on.lost();
      if (source.readyState !== EventSource.CLOSED) return; // the browser reconnects
      // The browser does not say why it was refused; another request does.
      const refused = await get('/conversations', user).then(() => undefined, (error) => error);
      if (closed) return;
      if (refused?.status === 401) on.unknown();
      else again = setTimeout(open, 1000);
    };
  };
  open();
  return () => {
    closed = true;
    clearTimeout(again);
    source.close();
  };
}
