// What one user's page knows: conversations, messages, what is unread, what was recalled.
//
// Of a recalled message it keeps that there was one, and never its text. Messages and notices may come in any order
// and more than once, from the stream, the history and the list of recalls; the outcome is the same.
//
// An edit may be recalled alone. The message that showed it then has no text (null) and is stale, until the history is
// read again: it has the text before.

// timeOf is when a message was sent. Whoever never had it is only told when it was recalled.
export const timeOf = (m) => new Date(m.sent_at ?? m.recalled.recalled_at);

export const roomKey = (room) => `${room.type}/${room.id}`;

export class Model {
  constructor(me) {
    this.me = me;
    this.rooms = new Map(); // by key: {key, conversation, title, members, messages, before, reading}
    this.messages = new Map(); // by id
    this.recalled = new Set(); // ids, also of messages that never came
    this.early = new Map(); // edits by id, of messages that are not here yet
    this.names = new Map();
    this.storage = `page/${me}`;
    this.unread = new Set(JSON.parse(sessionStorage.getItem(this.storage) || '[]')); // ids
  }

  setRooms(list) {
    for (const { conversation, title, members } of list) {
      const key = roomKey(conversation);
      for (const m of members) this.names.set(m.user, m.name);
      const other = conversation.type === 'single' ? members.find((m) => m.user !== this.me) : null;
      const room = this.rooms.get(key) || { key, messages: [], before: 0 };
      Object.assign(room, { conversation, members, title: other ? other.name : title, other: other?.user });
      this.rooms.set(key, room);
    }
  }

  name(user) {
    return this.names.get(user) ?? user;
  }

  role(key, user) {
    return this.rooms.get(key)?.members.find((m) => m.user === user)?.role;
  }

  // add takes a message, or the placeholder of one, and tells whether it is new here.
  add(payload) {
    const known = this.messages.get(payload.id);
    if (known) this.say(known, payload);
    if (known) return false;
    if (this.recalled.has(payload.id) && !payload.recalled) return false;
    return this.place({ ...payload, key: roomKey(payload.conversation) });
  }

  place(m) {
    const room = this.rooms.get(m.key ?? roomKey(m.conversation));
    if (!room) return false;
    m.key = room.key;
    if (m.recalled) this.recalled.add(m.id);
    if (this.recalled.has(m.version)) this.unsay(m);
    if (this.recalled.has(m.quote) || this.recalled.has(m.quoted_edit)) delete m.quoted;
    this.messages.set(m.id, m);
    for (const e of [...this.early.values()]) if (e.edit === m.id) this.edit(e);
    const at = room.messages.findLastIndex((o) => o.seq < m.seq);
    room.messages.splice(at + 1, 0, m);
    return true;
  }

  // edit takes an edit, which gives its message a new text.
  edit(payload) {
    const { id, edit, text, seq } = payload;
    const m = this.messages.get(edit);
    if (m) this.say(m, { text, edited: seq, version: id });
    if (m || this.recalled.has(edit) || this.recalled.has(id)) this.early.delete(id);
    else this.early.set(id, payload);
  }

  // say gives a message the text of a version, unless that was recalled, or the message has the text of a newer one.
  say(m, { text, edited = 0, version }) {
    if (m.recalled || m.pending || this.recalled.has(version)) return;
    if (m.text !== null && edited <= (m.edited ?? 0)) return;
    m.text = text ?? '';
    m.edited = edited || undefined;
    m.version = version;
  }

  // unsay takes from a message the text of an edit that was recalled.
  unsay(m) {
    m.text = null;
    m.stale = true;
    delete m.edited;
    delete m.version;
  }

  // stale lists the messages of a conversation whose text is to be read again, newest first.
  stale(room) {
    return room.messages.filter((m) => m.stale && !m.recalled).reverse();
  }

  // recall records a recall. It returns the message if this page had it until now.
  recall(notice) {
    if (this.unread.delete(notice.message_id)) this.save();
    this.recalled.add(notice.message_id);
    for (const e of [...this.early.values()]) if (this.recalled.has(e.id) || this.recalled.has(e.edit)) this.early.delete(e.id);
    for (const other of this.messages.values()) {
      if (other.quote === notice.message_id || other.quoted_edit === notice.message_id) delete other.quoted;
      if (other.version === notice.message_id) this.unsay(other);
    }
    const m = this.messages.get(notice.message_id);
    if (!m || m.recalled) return undefined;
    const { id, seq, sender, type, sent_at, key, conversation } = m;
    for (const field of Object.keys(m)) delete m[field];
    return Object.assign(m, { id, seq, sender, type, sent_at, key, conversation, recalled: notice });
  }

  markUnread(id) {
    this.unread.add(id);
    this.save();
  }

  markRead(key) {
    for (const id of [...this.unread]) if (this.messages.get(id)?.key === key) this.unread.delete(id);
    this.save();
  }

  unreadIn(key) {
    let n = 0;
    for (const id of this.unread) if (this.messages.get(id)?.key === key) n++;
    return n;
  }

  // last is the newest message of a conversation that something is to be shown of.
  last(key) {
    return this.rooms.get(key).messages.findLast((m) => !m.recalled?.silent);
  }

  save() {
    sessionStorage.setItem(this.storage, JSON.stringify([...this.unread]));
  }
}
