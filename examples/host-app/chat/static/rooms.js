// The list of conversations: what was said last, and how much is unread.

import { avatar, byId, el } from './dom.js';
import { clockTime, lang, t } from './i18n.js';
import { timeOf } from './model.js';
import { summary } from './placeholder.js';

const nodes = new Map(); // by conversation: {signature, node}

export function showRooms(page) {
  const { model } = page;
  const rooms = [...model.rooms.values()];
  const newest = (room) => { const m = model.last(room.key); return m ? timeOf(m).getTime() : 0; };
  rooms.sort((a, b) => newest(b) - newest(a) || (a.key < b.key ? -1 : 1));
  const list = byId('rooms');
  rooms.forEach((room, i) => {
    const last = model.last(room.key);
    const unread = model.unreadIn(room.key);
    const preview = last ? summary(last, model) : '';
    const from = last && !last.recalled && (last.sender === page.me ? t('you') : room.conversation.type !== 'single' && model.name(last.sender));
    const signature = JSON.stringify([lang(), unread, last?.id, preview, page.room?.key === room.key]);
    let entry = nodes.get(room.key);
    if (entry?.signature !== signature) {
      const link = el('a', { href: `#${encodeURIComponent(room.key)}`, class: 'entry', 'data-room': room.key, 'aria-current': page.room?.key === room.key ? 'true' : null },
        avatar(room.other ?? room.key, room.title),
        el('span', { class: 'what' },
          el('span', { class: 'top' }, el('span', { class: 'title', text: room.title }), last && el('time', { class: 'muted', text: clockTime(timeOf(last)) })),
          el('span', { class: 'top' },
            el('span', { class: `preview muted${last?.recalled ? ' gone' : ''}`, dir: 'auto', text: (from ? `${from}: ` : '') + (preview || t(room.conversation.type)) }),
            unread > 0 && el('span', { class: 'badge' }, el('span', { 'aria-hidden': 'true', text: unread > 99 ? '99+' : String(unread) }), el('span', { class: 'sr', text: t('unread', { n: unread }) })))));
      const had = entry?.node.contains(document.activeElement);
      const node = el('li', {}, link);
      entry?.node.replaceWith(node);
      entry = { signature, node };
      nodes.set(room.key, entry);
      if (had) link.focus();
    }
    if (list.children[i] !== entry.node) list.insertBefore(entry.node, list.children[i] ?? null);
  });
}
