// The list of recalls as they happen, each with its ledger.

import { get } from './api.js';
import { el } from './dom.js';
import { clockTime, lang, t } from './i18n.js';
import { typeName } from './placeholder.js';

const KEPT = 50; // entries that are shown

export class Recalls {
  constructor(list) {
    this.list = list;
    this.after = '';
    this.entries = []; // newest first: {event, steps, node}
    this.times = [];
  }

  empty() {
    return this.entries.length === 0;
  }

  moments() {
    return this.times.map((at) => ({ at, value: 1 }));
  }

  // forget draws everything anew, in another language.
  forget() {
    for (const entry of this.entries) entry.drawn = '';
  }

  // refresh asks for new recalls, and for the ledger of those that have open steps.
  async refresh(names) {
    for (let more = true; more;) {
      const page = await get(`/operator/recalls?after=${encodeURIComponent(this.after)}`);
      for (const event of page.events || []) {
        this.times.push(Date.parse(event.recalled_at));
        this.entries.unshift({ event, steps: [], settled: false });
      }
      this.after = page.next;
      more = page.more;
    }
    this.times = this.times.slice(-2000);
    this.entries = this.entries.slice(0, KEPT);
    const open = new Set(this.entries.filter((e) => !e.settled).map((e) => e.event.recall_id));
    for (const id of open) {
      const ledger = await get('/operator/ledger?' + new URLSearchParams({ recall_id: id }));
      for (const { event, steps } of ledger.entries) {
        const entry = this.entries.find((e) => e.event.message.id === event.message.id && e.event.recall_id === id);
        if (!entry) continue;
        entry.steps = steps;
        entry.settled = isSettled(steps);
      }
    }
    for (const entry of this.entries) this.draw(entry, names);
    const nodes = this.entries.map((e) => e.node);
    if (nodes.length !== this.list.children.length || nodes.some((n, i) => this.list.children[i] !== n)) this.list.replaceChildren(...nodes);
  }

  draw(entry, names) {
    const drawn = JSON.stringify([lang(), entry.steps]);
    if (entry.drawn === drawn) return;
    entry.drawn = drawn;
    const open = entry.node?.querySelector('details').open;
    const focused = entry.node?.contains(document.activeElement);
    const node = recallItem(entry.event, entry.steps, names, clockTime(new Date(entry.event.recalled_at)), open);
    entry.node?.replaceWith(node);
    entry.node = node;
    if (focused) node.querySelector('summary').focus();
  }
}

const outcomes = { done: 'done', nothing_to_do: 'nothing_to_do', unsupported: 'unsupported', failed: 'failedOutcome' };
const time = (text) => (text ? new Intl.DateTimeFormat(lang(), { timeStyle: 'medium' }).format(new Date(text)) : '');

// isSettled tells whether no step is open.
const isSettled = (steps) => steps.every((s) => s.outcome && s.outcome !== 'failed');

// state is a pill with the state of the steps.
function state(steps) {
  if (steps.some((s) => s.outcome === 'failed')) return el('span', { class: 'pill bad', text: t('failing') });
  return isSettled(steps) ? el('span', { class: 'pill good', text: t('settled') }) : el('span', { class: 'pill warn', text: t('settling') });
}

// recallItem is a recall as an item of a list, with its ledger to unfold. when is the time as it is shown; more comes
// before the ledger.
export function recallItem(event, steps, names, when, open, more) {
  const name = (id) => names.get(id) ?? id;
  const { message, actor, role, rule } = event;
  return el('li', { 'data-recall': event.recall_id, 'data-message': message.id }, el('details', { open: open || null },
    el('summary', {},
      el('span', { class: 'muted', text: when }),
      el('span', { class: 'words', text: t('by', { actor: name(actor.id), role: t(role || 'member'), what: typeName(message.type), sender: name(message.sender), room: `${message.conversation.type}/${message.conversation.id}` }) }),
      el('code', { class: 'muted', text: rule.line ? `${rule.name} · ${rule.file}:${rule.line}` : rule.name || '' }),
      state(steps)),
    event.reason && el('p', { class: 'muted', text: `${t('reason')}: ${event.reason}` }),
    more,
    el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('ledger') }, el('table', {},
      el('thead', {}, el('tr', {}, ...['step', 'outcome', 'attempts', 'at'].map((h) => el('th', { scope: 'col', text: t(h) })))),
      el('tbody', {}, ...steps.map((s) => el('tr', {}, el('td', {}, el('code', { text: s.step })),
        el('td', { text: t(outcomes[s.outcome] ?? 'open') + (s.error ? `: ${s.error}` : '') }), el('td', { text: String(s.attempts) }),
        el('td', { class: 'muted', text: time(s.changed_at) }))))))));
}
