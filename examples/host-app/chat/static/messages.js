// The messages of the open conversation.

import { forget, view } from './attachments.js';
import { refusalText } from './dialogs.js';
import { avatar, byId, el, icon } from './dom.js';
import { clockTime, day, lang, t } from './i18n.js';
import { checkMenu, openMenu } from './menu.js';
import { timeOf } from './model.js';
import { placeholder, summary } from './placeholder.js';

const TOGETHER = 3 * 60e3; // messages of one sender within it stand together

export class Messages {
  constructor(page) {
    this.page = page;
    this.log = byId('log');
    this.list = byId('list');
    this.nodes = new Map(); // by what is shown: {signature, node}
    this.own = new Map(); // texts that this page took back, to edit again; nowhere else and for as long as the page lives
    this.log.addEventListener('keydown', (e) => this.keys(e));
    // Who is at the end stays there, whatever grows: a picture that has loaded, or what is being written below.
    this.atEnd = true;
    this.log.addEventListener('scroll', () => { this.atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 80; });
    const stay = new ResizeObserver(() => { if (this.atEnd) this.end(); });
    stay.observe(this.log);
    stay.observe(this.list);
    byId('earlier').addEventListener('click', () => page.earlier());
  }

  // show brings the list up to date with the model. Nodes of what did not change stay, so that nothing flickers, no voice note stops
  // and the focus is where it was.
  show(room, { toEnd = false } = {}) {
    const { page } = this;
    if (toEnd) this.atEnd = true;
    if (this.room !== room) {
      this.nodes.clear();
      this.list.replaceChildren();
      this.room = room;
    }
    byId('earlier').hidden = !room.before;
    const wanted = [];
    let before;
    let today; // the day under whose heading the list is
    for (const m of room.messages) {
      if (m.recalled?.silent) continue;
      const date = timeOf(m);
      if (!today || (m.sent_at && today !== date.toDateString())) { // a placeholder without the time stays where it is
        today = date.toDateString();
        wanted.push(this.node(`day ${today}`, lang() + day(date), () => el('li', { class: 'day', role: 'presentation' }, el('span', { text: day(date) }))));
        before = undefined;
      }
      const together = Boolean(before && !before.recalled && !m.recalled && before.sender === m.sender && date - timeOf(before) < TOGETHER);
      const quoted = m.quote && page.model.messages.get(m.quote);
      const quote = !m.quote ? '' : page.model.recalled.has(m.quote) ? 'gone' : quoted ? 'live' : 'unknown';
      const signature = JSON.stringify([lang(), m.recalled, together, quote, m.pending, this.own.has(m.id), m.text, m.edited, m.quoted, quoted?.text, page.selection.refusals.get(m.id)]);
      wanted.push(this.node(m.id, signature, () => (m.recalled ? this.placeholder(m) : this.message(m, room, together, quote, quoted))));
      before = m;
    }
    const focused = document.activeElement?.closest?.('#list > li')?.dataset.id;
    const keep = new Set(wanted);
    for (const [key, { node }] of this.nodes) if (!keep.has(node)) { node.remove(); this.nodes.delete(key); }
    for (const child of [...this.list.children]) if (!keep.has(child)) child.remove();
    wanted.forEach((node, i) => { if (this.list.children[i] !== node) this.list.insertBefore(node, this.list.children[i] ?? null); });
    this.page.selection.show();
    byId('empty').hidden = wanted.length > 0;
    checkMenu();
    if (focused && document.activeElement === document.body) this.refocus(focused);
    this.rove();
    if (this.atEnd) this.end();
  }

  end() {
    this.log.scrollTop = this.log.scrollHeight;
  }

  node(key, signature, make) {
    const old = this.nodes.get(key);
    if (old?.signature === signature) return old.node;
    const node = make();
    this.nodes.set(key, { signature, node });
    return node;
  }

  // refocus gives the focus that a message had to what stands in its place.
  refocus(id) {
    const node = this.nodes.get(id)?.node;
    const to = node?.querySelector(this.page.selection.active ? '.pick' : 'button') ?? byId(this.page.selection.active ? 'selection-cancel' : 'text');
    to.focus();
  }

  message(m, room, together, quote, quoted) {
    const { page } = this;
    const own = m.sender === page.me;
    const name = own ? t('you') : page.model.name(m.sender);
    const date = new Date(m.sent_at);
    const button = el('button', {
      type: 'button', class: 'more quiet', 'aria-haspopup': 'menu', 'aria-expanded': 'false', 'aria-label': t('menuOf', { name }), title: t('menu'), tabindex: '-1',
      onclick: () => openMenu(button, m, page),
    }, icon('more'));
    const bubble = el('div', { class: 'bubble', oncontextmenu: (e) => { e.preventDefault(); openMenu(button, m, page); } });
    if (quote) {
      const text = { gone: t('quoteGone'), unknown: m.quoted || t('quoteUnknown') }[quote];
      bubble.append(el('blockquote', { class: text ? 'quote muted' : 'quote' },
        !text && el('span', { class: 'by', text: quoted.sender === page.me ? t('you') : page.model.name(quoted.sender) }),
        el('span', { class: 'said', text: text ?? summary(quoted, page.model) })));
    }
    if (m.forward) bubble.append(el('div', { class: 'forwarded muted', text: t('forwarded') }));
    for (const key of m.attachments || []) bubble.append(view(m, key, page.me));
    if (m.type === 'text') bubble.append(el('p', { class: 'said', dir: 'auto', text: m.text === null ? t('loading') : m.text || '' }));
    const role = page.model.role(room.key, m.sender);
    const head = !own && !together && room.conversation.type !== 'single'
      && el('div', { class: 'by' }, el('span', { text: name }), (role === 'owner' || role === 'admin') && el('span', { class: 'role', text: t(role) }));
    const time = el('time', { datetime: m.sent_at, text: m.pending ? t(m.pending) : clockTime(date) });
    const retry = m.pending === 'failed' && el('button', { type: 'button', class: 'link', text: t('retry'), onclick: () => page.resend(m) });
    const cancel = m.pending && page.online() && el('button', { type: 'button', class: 'link cancel', text: t('recall'), onclick: () => page.cancel(m) });
    const refusal = page.selection.refusals.get(m.id);
    return el('li', { class: `message${own ? ' own' : ''}${together ? ' together' : ''}${m.pending ? ' pending' : ''}`, 'data-id': m.id },
      !m.pending && el('input', { type: 'checkbox', class: 'pick', tabindex: '-1', 'aria-label': t('pick', { name }) }),
      !own && room.conversation.type !== 'single' && (together ? el('span', { class: 'avatar none' }) : avatar(m.sender, page.model.name(m.sender))),
      el('div', { class: 'body' }, head || el('span', { class: 'sr', text: `${name}: ` }), el('div', { class: 'line' }, bubble, !m.pending && button), el('div', { class: 'meta muted' }, m.edited && el('span', { class: 'edited', text: t('edited') }), time, retry, cancel),
        refusal && el('p', { class: 'refusal', text: refusalText(refusal.result, refusal.now) })));
  }

  placeholder(m) {
    const text = this.own.get(m.id);
    return el('li', { class: 'placeholder', 'data-id': m.id },
      el('span', { text: placeholder(m, this.page.model) }),
      text !== undefined && el('span', { 'aria-hidden': 'true', text: ' · ' }),
      text !== undefined && el('button', { type: 'button', class: 'link', text: t('reedit'), onclick: () => this.page.edit(text) }));
  }

  // keep keeps the text of an own message that is being taken back, to edit it again.
  keep(m, text) {
    if (m.sender === this.page.me && m.type === 'text' && text) this.own.set(m.id, text);
  }

  forget(attachments) {
    for (const key of attachments || []) forget(key);
  }

  // buttons are the controls that the arrow keys reach: the menu buttons, or the boxes while messages are selected.
  buttons() {
    return [...this.list.querySelectorAll(this.page.selection.active ? '.pick' : '.more')];
  }

  // rove leaves one of them in the order of the Tab key: the one that is given, or else the one that was, or else the last.
  rove(to) {
    const all = this.buttons();
    to ??= all.find((b) => b.tabIndex === 0) ?? all.at(-1);
    for (const b of all) b.tabIndex = b === to ? 0 : -1;
  }

  keys(e) {
    const all = this.buttons();
    const at = all.indexOf(document.activeElement);
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: all.length - 1 }[e.key];
    if (at < 0 || to === undefined || !all[to]) return;
    e.preventDefault();
    this.rove(all[to]);
    all[to].focus();
    all[to].scrollIntoView({ block: 'nearest' });
  }
}
