// The audit view: the recalls that match the filters, newest first, with the state of their steps.

import { archived, get, post } from './api.js';
import { byId, el } from './dom.js';
import { lang, languageSwitch, t } from './i18n.js';
import { recallItem } from './recalls.js';

const SHOWN = 50; // accesses to the archive
const AGAIN = 1000; // ms until the index is asked again whether it has forgotten a user

const user = new URLSearchParams(location.search).get('user') ?? '';
const form = byId('filters');
const names = new Map();

let choices = { users: [], rooms: [] };
let found = []; // entries: {event, steps}
let asked = ''; // the filters of what is listed
let next = '';
let more = false;
let asking = 0; // the newest question
let loaded = false; // a page was answered

// fill puts the choices into a select and keeps what was chosen.
function fill(name, first, options) {
  const select = form.elements[name];
  const chosen = select.value;
  select.replaceChildren(el('option', { value: '', text: t(first) }), ...options.map(([value, text]) => el('option', { value, text })));
  select.value = chosen;
}

function fillAll() {
  const users = choices.users.map(({ id, name }) => [id, name]);
  fill('actor', 'anyone', users);
  fill('sender', 'anyone', users);
  fill('conversation', 'anywhere', choices.rooms.map(({ conversation: c, title }) => [`${c.type}/${c.id}`, title]));
  fill('steps', 'anySteps', [['open', t('stepsOpen')], ['failed', t('stepsFailed')]]);
}

// query is the filters as a query; an empty one is left out.
function query() {
  const q = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (!value) continue;
    if (name === 'conversation') {
      const at = value.indexOf('/');
      q.set('type', value.slice(0, at));
      q.set('id', value.slice(at + 1));
    } else q.set(name, name === 'from' || name === 'before' ? new Date(value).toISOString() : value.trim());
  }
  return q;
}

const when = (text) => new Intl.DateTimeFormat(lang(), { dateStyle: 'medium', timeStyle: 'medium' }).format(new Date(text));

// inArchive is what the archive has of a recalled message: a button until it is read, since that is recorded.
function inArchive(event, content) {
  const id = event.message.id;
  const box = el('div', { class: 'archived' });
  const act = (button, work) => button.addEventListener('click', async () => {
    button.disabled = true;
    try {
      await work();
      say('');
    } catch (error) {
      say(error.message);
    }
    button.disabled = false;
    showAccesses();
  });
  const button = (key, values, work) => {
    const node = el('button', { type: 'button', text: t(key, values) });
    act(node, work);
    return node;
  };
  const read = async () => box.replaceWith(inArchive(event, await post('/archive/read', { message_id: id }, user)));
  if (!content) {
    box.append(el('p', { class: 'muted', text: t('archiveLead') }), button('readArchive', {}, read));
    return box;
  }
  box.append(el('p', { class: 'text', text: content.text }),
    ...content.files.map(({ key, name }) => button('openFile', { name }, async () => {
      const address = URL.createObjectURL(await archived(id, key, user));
      el('a', { href: address, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60e3);
    })),
    ...content.edits.flatMap(({ sent_at, text }) => [el('p', { class: 'muted', text: t('archivedEdit', { time: when(sent_at) }) }), el('p', { class: 'text edit', text })]),
    ...(content.more_edits ? [el('p', { class: 'muted', text: t('olderEdits') })] : []),
    el('p', { class: 'muted', text: t(content.held ? 'heldArchive' : 'keptUntil', { time: when(content.expires_at) }) }),
    button(content.held ? 'release' : 'hold', {}, async () => {
      const { held } = await post('/archive/hold', { message_id: id, hold: !content.held }, user);
      box.replaceWith(inArchive(event, { ...content, held }));
    }));
  return box;
}

// showAccesses lists who did what to the archive.
async function showAccesses() {
  const { accesses } = await get('/archive/accesses', user);
  byId('accesses').replaceChildren(...accesses.slice(0, SHOWN).map((x) => el('li', {}, el('span', { class: 'muted', text: when(x.at) }),
    el('span', { text: t(`access_${x.did}`, { auditor: x.auditor, id: x.message_id }) }))));
  byId('no-accesses').hidden = accesses.length > 0;
}

function show() {
  byId('recalls').replaceChildren(...found.map(({ event, steps }) => recallItem(event, steps, names, when(event.recalled_at), null,
    event.disposition === 'archive' && inArchive(event))));
  byId('more').hidden = !more;
  byId('count').textContent = found.length ? t(more ? 'andMore' : 'listed', { n: found.length }) : '';
  const none = byId('none');
  delete none.dataset.t;
  none.textContent = t(more ? 'lookedAt' : 'noneMatch');
  none.hidden = found.length > 0;
}

function say(text) {
  byId('off').textContent = text;
  byId('off').hidden = !text;
}

// link names the download of what the filters match.
function link() {
  byId('export').href = `/audit/export?${new URLSearchParams([...query(), ['user', user]])}`;
}

// list asks for a page: the first one of the filters, or the next.
async function list(first) {
  const mine = ++asking;
  if (first) asked = query().toString();
  const q = new URLSearchParams(asked);
  if (!first) q.set('after', next);
  try {
    const page = await get(`/audit/recalls?${q}`, user);
    if (mine !== asking) return; // a newer question was asked
    say(page.reset ? t('restored') : '');
    if (page.reset) {
      await list(true);
      say(t('restored'));
      return;
    }
    found = first ? page.entries : [...found, ...page.entries];
    ({ next, more } = page);
    loaded = true;
    show();
  } catch (error) {
    if (mine === asking) say(error.message);
  }
}

// offerForget names the sender of the filters in the button, or hides it.
function offerForget() {
  const id = form.elements.sender.value;
  byId('forget').hidden = !id || !byId('forget-ask').hidden;
  byId('forget').textContent = t('forget', { name: names.get(id) });
  byId('forget-text').textContent = t('forgetAsk', { name: names.get(id) });
}

function askForget(ask) {
  byId('forget-ask').hidden = !ask;
  form.elements.sender.disabled = ask; // what was asked about is what is forgotten
  offerForget();
}

// forget asks again until the index is done: a recall with an open step must be carried out first.
async function forget() {
  const id = form.elements.sender.value;
  const said = byId('forget-said');
  byId('forget-yes').disabled = true;
  try {
    for (;;) {
      const { done, recalled, waiting } = await post('/audit/forget', { user: id }, user);
      said.textContent = done ? t('forgotten', { n: recalled }) : t('forgetting', { n: recalled, waiting });
      if (done) break;
      await new Promise((resolve) => { setTimeout(resolve, AGAIN); });
    }
  } catch (error) {
    said.textContent = error.message;
  }
  byId('forget-yes').disabled = false;
  askForget(false);
  await list(true);
}

byId('forget').addEventListener('click', () => askForget(true));
byId('forget-no').addEventListener('click', () => askForget(false));
byId('forget-yes').addEventListener('click', forget);
form.elements.sender.addEventListener('input', offerForget);
form.addEventListener('submit', (e) => {
  e.preventDefault();
  list(true);
});
form.addEventListener('input', link);
byId('more').addEventListener('click', () => list(false));
languageSwitch(byId('language'), () => {
  fillAll();
  offerForget();
  if (!loaded) return;
  show();
  showAccesses();
});

try {
  choices = await get('/audit/choices', user);
  for (const { id, name } of choices.users) names.set(id, name);
  fillAll();
  link();
  await list(true);
  await showAccesses();
} catch (error) {
  say(error.message);
}
