// The dialogs of a recall: the reason that a rule asks for, and why it was refused.

import { byId, el } from './dom.js';
import { left, pick, t } from './i18n.js';

// askReason gives the reason that was written, or null.
export function askReason() {
  const dialog = byId('reason');
  const input = byId('reason-text');
  input.value = '';
  return new Promise((resolve) => {
    const done = new AbortController();
    const finish = (value) => {
      done.abort();
      dialog.close();
      resolve(value);
    };
    const ok = () => (input.value.trim() ? finish(input.value.trim()) : input.focus());
    const on = (node, event, f) => node.addEventListener(event, f, { signal: done.signal });
    on(byId('reason-ok'), 'click', ok);
    on(byId('reason-cancel'), 'click', () => finish(null));
    on(dialog, 'cancel', () => finish(null));
    on(input, 'keydown', (e) => {
      if (e.key === 'Enter' && !e.isComposing) {
        e.preventDefault();
        ok();
      }
    });
    dialog.showModal();
    input.focus();
  });
}

// askRoom gives the conversation that was chosen, or null.
export function askRoom(rooms) {
  const dialog = byId('forward');
  return new Promise((resolve) => {
    const done = new AbortController();
    const finish = (room) => {
      done.abort();
      dialog.close();
      resolve(room);
    };
    byId('forward-rooms').replaceChildren(...rooms.map((room) => el('button', { type: 'button', 'data-to': room.key, onclick: () => finish(room), text: room.title })));
    byId('forward-cancel').addEventListener('click', () => finish(null), { signal: done.signal });
    dialog.addEventListener('cancel', () => finish(null), { signal: done.signal });
    dialog.showModal();
  });
}

// refusalText is the text of a refusal, which comes with it: that of the rule, or the standard one.
export function refusalText(result, now) {
  const text = pick(result.text) || t(result.status);
  if (result.code !== 'rate_limited') return text;
  return `${text} ${result.retry_at ? t('againIn', { time: left(Date.parse(result.retry_at) - now) }) : t('againTooLate')}`;
}

// explainRefusal says why a message was not recalled; which rule said so is folded away.
export function explainRefusal(result, now) {
  const dialog = byId('refused');
  byId('refused-title').textContent = t('refused');
  byId('refused-words').textContent = refusalText(result, now);
  const details = byId('refused-details');
  details.open = false;
  details.hidden = result.status !== 'denied';
  const rule = result.rule || {};
  const rows = [];
  const row = (name, value) => rows.push(el('dt', { text: t(name) }), el('dd', {}, el('code', { text: value })));
  if (rule.name) row('rule', rule.name);
  if (rule.line) row('place', `${rule.file}:${rule.line}`);
  row('code', result.code || result.status);
  byId('refused-rule').replaceChildren(...rows);
  byId('refused-none').hidden = Boolean(rule.line);
  show(dialog, byId('refused-close'));
}

// tell says that something went wrong.
export function tell(text) {
  byId('refused-title').textContent = t('wrong');
  byId('refused-words').textContent = text;
  byId('refused-details').hidden = true;
  show(byId('refused'), byId('refused-close'));
}

function show(dialog, close) {
  close.onclick = () => dialog.close();
  if (!dialog.open) dialog.showModal();
  close.focus();
}
