// The chat of one user: what the server tells goes into the model, and what the model says is shown.

import { history, listen, post, recallsAfter, Refused, upload, get } from './api.js';
import { Composer } from './composer.js';
import { askRoom, explainRefusal, tell } from './dialogs.js';
import { avatar, byId, icon } from './dom.js';
import { languageSwitch, t } from './i18n.js';
import { closeMenu } from './menu.js';
import { Messages } from './messages.js';
import { Model, roomKey } from './model.js';
import { notify, notifyButton, withdraw } from './notifications.js';
import { showRooms } from './rooms.js';
import { summary } from './placeholder.js';
import { Selection } from './selection.js';

class Page {
  constructor(me) {
    this.me = me;
    this.model = new Model(me);
    this.connected = false;
    this.cursor = ''; // of the recalls
    this.messages = new Messages(this);
    this.composer = new Composer(this);
    this.selection = new Selection(this);
    this.room = null;
    for (const node of document.querySelectorAll('[data-icon]')) node.append(icon(node.dataset.icon));
    languageSwitch(byId('language'), () => this.show());
    byId('online').addEventListener('change', () => (byId('online').checked ? this.connect() : this.disconnect()));
    byId('back').addEventListener('click', () => { location.hash = ''; });
    addEventListener('hashchange', () => this.open());
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.read(); });
    addEventListener('focus', () => this.read());
    this.connect();
  }

  online() {
    return this.connected;
  }

  connect() {
    this.leave = listen(this.me, {
      hello: () => this.catchUp().catch(() => this.status(false)),
      message: (m) => this.arrived(m),
      notice: (n) => this.recall(n),
      lost: () => this.status(false),
      unknown: () => this.unknown(),
    });
    this.status(false);
  }

  // unknown says that the address names a user whom the server does not have.
  unknown() {
    byId('unknown-title').textContent = t('unknownUser', { user: this.me });
    byId('app').hidden = true;
    byId('unknown').hidden = false;
    byId('unknown-link').focus();
    document.body.dataset.online = 'no';
  }

  disconnect() {
    this.leave();
    this.status(false);
  }

  status(connected) {
    this.connected = connected;
    const wanted = byId('online').checked;
    document.body.dataset.online = connected ? 'yes' : wanted ? 'soon' : 'no';
    byId('status').textContent = connected ? t('online') : wanted ? t('connecting') : t('offline');
    byId('offline').hidden = wanted;
    if (!connected) closeMenu();
    this.composer.enable();
    this.selection.show();
  }

  // catchUp brings the page up to date: what was recalled first, so that nothing recalled is shown even for a moment. What
  // waited for the user comes by the stream beside it.
  async catchUp() {
    const { recalls, cursor } = await recallsAfter(this.cursor, this.me);
    this.model.setRooms(await get('/conversations', this.me));
    for (const notice of recalls) this.recall(notice, true);
    this.cursor = cursor;
    await Promise.all([...this.model.rooms.values()].map((room) => this.page(room, 0)));
    for (const room of this.model.rooms.values()) this.mend(room);
    this.status(true);
    if (this.room) this.show();
    else this.open();
  }

  // page reads the messages before a sequence number, or the newest. It returns from which one on they are.
  async page(room, before) {
    const oldest = before ? before === room.before : !room.asked;
    const page = await history(room.conversation, before, this.me);
    for (const m of page.messages) {
      if (m.recalled) this.recall(m.recalled, true);
      this.model.add(m);
    }
    if (oldest) room.before = page.before;
    room.asked = true;
    return page.before ?? 0;
  }

  // refresh reads the newest page again: the placeholder of a message that this page never had is in it. The server sets
  // the placeholder before it sends the notice. It also reads the messages whose text is to be read again. Notices that
  // come meanwhile share the next reading.
  refresh(room) {
    room.next ??= (room.reading ?? Promise.resolve()).then(async () => {
      room.reading = room.next;
      room.next = undefined;
      await this.reread(room).catch(() => {}); // the next catch-up reads it
      this.show();
    });
  }

  async reread(room) {
    const stale = this.model.stale(room);
    for (const m of stale) delete m.stale; // another notice may come meanwhile
    try {
      let from = await this.page(room, 0);
      for (const m of stale) if (m.seq < from) from = await this.page(room, m.seq + 1);
    } catch (error) {
      for (const m of stale) m.stale = true;
      throw error;
    }
    this.mend(room);
  }

  // mend reads the texts again of which an edit was recalled.
  mend(room) {
    if (this.model.stale(room).length) this.refresh(room);
  }

  async earlier() {
    const { room } = this;
    const log = byId('log');
    const below = log.scrollHeight - log.scrollTop;
    this.messages.atEnd = false;
    await this.page(room, room.before).catch(() => tell(t('unavailable')));
    this.mend(room);
    if (this.room !== room) return;
    this.show();
    log.scrollTop = log.scrollHeight - below;
  }

  // arrived is a message by the stream: it was not here before, whatever the history has said meanwhile.
  arrived(payload) {
    if (this.model.recalled.has(payload.id)) return;
    if (payload.edit) {
      this.model.edit(payload);
      this.show();
      return;
    }
    const known = this.model.messages.get(payload.id);
    if (known?.pending) this.settle(known, payload);
    else if (!this.model.add(payload) && !known) return void this.catchUp().catch(() => {}); // a conversation that is new here
    const m = this.model.messages.get(payload.id);
    if (m.sender !== this.me) {
      const room = this.model.rooms.get(m.key);
      const name = this.model.name(m.sender);
      if (this.reading(m.key)) {
        this.announce(t('newMessage', { name, text: summary(m, this.model) }), m.id);
      } else {
        this.model.markUnread(m.id);
        this.announce(room.conversation.type === 'single' ? t('newOther', { name }) : t('newElsewhere', { name, room: room.title }), m.id);
        notify(m, this.model, () => { location.hash = encodeURIComponent(m.key); });
      }
    }
    this.show({ toEnd: m.sender === this.me && this.room?.key === m.key });
  }

  reading(key) {
    return this.room?.key === key && !document.hidden;
  }

  // recall takes a message out of everything that this page shows of it.
  recall(notice, quietly) {
    const attachments = this.model.messages.get(notice.message_id)?.attachments;
    withdraw(notice.message_id);
    this.selection.drop(notice.message_id);
    if (this.composer.editing?.version === notice.message_id) this.composer.leaveEdit();
    const m = this.model.recall(notice);
    const live = byId('live');
    if (live.dataset.of === notice.message_id) live.textContent = '';
    if (!m) {
      const room = this.model.rooms.get(roomKey(notice.conversation));
      if (quietly) return;
      if (room && !notice.silent && !this.model.messages.has(notice.message_id)) this.refresh(room);
      else if (room) this.mend(room);
      this.show(); // others may have quoted it, or shown it as their text
      return;
    }
    this.messages.forget(attachments);
    if (this.composer.quote === m) this.composer.context();
    if (quietly) return;
    if (!notice.silent && this.room?.key === m.key) this.announce(summary(m, this.model));
    this.show();
  }

  // recalled is called when this page's own request to take a message back was granted; the notice comes by the stream.
  recalled(m, text) {
    this.messages.keep(m, text);
    if (m.recalled) this.show(); // it was faster
  }

  announce(text, of) {
    const live = byId('live');
    live.textContent = text;
    live.dataset.of = of ?? '';
  }

  open() {
    closeMenu();
    const room = this.model.rooms.get(decodeURIComponent(location.hash.slice(1)));
    const changed = room !== this.room;
    this.room = room ?? null;
    document.body.classList.toggle('in-room', Boolean(room));
    if (!room) byId('log').replaceChildren(...byId('log').children);
    if (changed) this.composer.clear();
    if (changed) this.selection.end();
    this.read();
    this.show({ toEnd: true });
    if (changed && room && !matchMedia('(pointer: coarse)').matches) byId('text').focus();
  }

  read() {
    if (!this.room || document.hidden) return;
    this.model.markRead(this.room.key);
    this.show();
  }

  show(options) {
    byId('me-name').textContent = this.model.name(this.me);
    byId('me-avatar').replaceChildren(avatar(this.me, this.model.name(this.me)));
    notifyButton();
    showRooms(this);
    const n = this.model.unread.size;
    document.title = `${n ? `(${n}) ` : ''}${this.model.name(this.me)} · Recall`;
    byId('room').hidden = !this.room;
    byId('choose').hidden = Boolean(this.room);
    this.status(this.connected);
    if (!this.room) return;
    const { room } = this;
    byId('title').textContent = room.title;
    byId('room').setAttribute('aria-label', t('messages', { name: room.title }));
    const role = this.model.role(room.key, this.me);
    const parts = [t(room.conversation.type)];
    if (room.conversation.type !== 'single') parts.push(t('members', { n: room.members.length }), t('youAre', { role: t(role) }));
    byId('subtitle').textContent = parts.join(' · ');
    byId('room-avatar').replaceChildren(avatar(room.other ?? room.key, room.title));
    this.messages.show(room, options);
    this.composer.context();
  }

  reply(m) {
    this.composer.reply(m);
  }

  edit(text) {
    this.composer.edit(text);
  }

  // cancel recalls a message of which this page does not know whether the server has it. If it arrives after its recall,
  // nobody gets it.
  async cancel(m) {
    try {
      const target = { message_id: m.id, conversation: m.conversation };
      const answer = await post('/recall', { targets: [target], recall_id: crypto.randomUUID(), wait: '3600s' }, this.me);
      const result = answer.results[0];
      if (!['waiting', 'recalled'].includes(result.status)) return explainRefusal(result, Date.parse(answer.now));
      const role = this.model.role(m.key, this.me);
      this.recall({ recall_id: result.recall_id, actor: this.me, role, message_id: m.id, conversation: m.conversation, recalled_at: answer.now });
    } catch (error) {
      tell(error instanceof Refused && error.status < 500 ? error.message : t('unavailable'));
    }
  }

  rewrite(m) {
    this.composer.rewrite(m);
  }

  async sendEdit(m, text) {
    try {
      this.model.edit(await post('/messages', { id: crypto.randomUUID(), conversation: m.conversation, type: m.type, text, edit: m.id }, this.me));
    } catch (error) {
      if (m.recalled) return;
      tell(error instanceof Refused && error.status < 500 ? error.message : t('unavailable'));
      this.composer.edit(text);
    }
    this.show();
  }

  async forward(m) {
    const room = await askRoom([...this.model.rooms.values()]);
    if (!room) return;
    try {
      await post('/messages', { id: crypto.randomUUID(), conversation: room.conversation, forward: m.id }, this.me);
    } catch (error) {
      tell(error instanceof Refused && error.status < 500 ? error.message : t('unavailable'));
    }
  }

  // A message that is being sent is shown at once, at the end, under the id that it will have: a repeated attempt is the same message.
  draft(type, text, quote) {
    const { room } = this;
    const seq = Math.max(0, ...room.messages.map((m) => m.seq)) + 0.5;
    const m = { id: crypto.randomUUID(), seq, sender: this.me, type, text, quote, sent_at: new Date().toISOString(), conversation: room.conversation, pending: 'sending' };
    this.model.place(m);
    this.show({ toEnd: true });
    return m;
  }

  sendText(text, quote) {
    this.resend(this.draft('text', text, quote));
  }

  async sendFile(file, kind, quote) {
    const m = this.draft(kind, file.name, quote);
    m.upload = file;
    await this.resend(m);
  }

  async resend(m) {
    m.pending = 'sending';
    this.show();
    try {
      if (m.upload) {
        m.attachments = [await upload(m.upload, m.conversation, this.me)];
        delete m.upload;
      }
      const sent = await post('/messages', { id: m.id, conversation: m.conversation, type: m.type, text: m.text, quote: m.quote, attachments: m.attachments }, this.me);
      this.settle(m, sent);
    } catch (error) {
      if (m.recalled || !m.pending) return; // the stream has brought it: it arrived
      m.pending = 'failed';
      if (error instanceof Refused && error.status < 500) tell(error.message);
    }
    this.show({ toEnd: this.room?.key === m.key });
  }

  // settle gives a message that was being sent its place.
  settle(m, sent) {
    if (m.recalled) return;
    delete m.pending;
    Object.assign(m, { seq: sent.seq, sent_at: sent.sent_at, attachments: sent.attachments });
    this.model.rooms.get(m.key).messages.sort((a, b) => a.seq - b.seq);
  }
}

const me = new URLSearchParams(location.search).get('user');
if (me) new Page(me);
else location.replace('/');
