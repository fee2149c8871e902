// The audit view: the recalls that match the filters, newest first, with the state of their steps.

import { get } from './api.js';
import { byId, el } from './dom.js';
import { lang, languageSwitch, t } from './i18n.js';
import { recallItem } from './recalls.js';

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

function show() {
  const when = new Intl.DateTimeFormat(lang(), { dateStyle: 'medium', timeStyle: 'medium' });
  byId('recalls').replaceChildren(...found.map(({ event, steps }) => recallItem(event, steps, names, when.format(new Date(event.recalled_at)))));
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

form.addEventListener('submit', (e) => {
  e.preventDefault();
  list(true);
});
form.addEventListener('input', link);
byId('more').addEventListener('click', () => list(false));
languageSwitch(byId('language'), () => {
  fillAll();
  if (loaded) show();
});

try {
  choices = await get('/audit/choices', user);
  for (const { id, name } of choices.users) names.set(id, name);
  fillAll();
  link();
  await list(true);
} catch (error) {
  say(error.message);
}
