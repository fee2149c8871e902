// What one user's page knows: conversations, messages, what is unread, what was recalled.
//
// Of a recalled message it keeps that there was one, and never its text. Messages and notices may come in any order
// and more than once, from the stream, the history and the list of recalls; the outcome is the same.

// timeOf is when a message was sent. Whoever never had it is only told when it was recalled.
export const timeOf = (m) => new Date(m.sent_at ?? m.recalled.recalled_at);

export const roomKey = (room) => `${room.type}/${room.id}`;

export class Model {
  constructor(me) {
    this.me = me;
    this.rooms = new Map(); // by key: {key, conversation, title, members, messages, before, reading}
    this.messages = new Map(); // by id
    this.recalled = new Set(); // ids, also of messages that never came
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
    if (known && payload.edited) this.edit({ ...payload, edit: payload.id, seq: payload.edited });
    if (known) return false;
    if (this.recalled.has(payload.id) && !payload.recalled) return false;
    return this.place({ ...payload, key: roomKey(payload.conversation) });
  }

  place(m) {
    const room = this.rooms.get(m.key ?? roomKey(m.conversation));
    if (!room) return false;
    m.key = room.key;
    if (m.recalled) this.recalled.add(m.id);
    this.messages.set(m.id, m);
    const at = room.messages.findLastIndex((o) => o.seq < m.seq);
    room.messages.splice(at + 1, 0, m);
    return true;
  }

  // edit gives a message its new text, unless it has a newer one.
  edit({ edit, text, seq }) {
    const m = this.messages.get(edit);
    if (!m || m.recalled || seq <= (m.edited ?? 0)) return;
    m.text = text;
    m.edited = seq;
  }

  // recall records a recall. It returns the message if this page had it until now.
  recall(notice) {
    if (this.unread.delete(notice.message_id)) this.save();
    this.recalled.add(notice.message_id);
    for (const other of this.messages.values()) if (other.quote === notice.message_id) delete other.quoted;
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
