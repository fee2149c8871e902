// Attachments: read with the user's right to them, shown from memory, forgotten when their message is recalled.

import { attachment } from './api.js';
import { el, icon } from './dom.js';
import { t } from './i18n.js';

export const MAX_BYTES = 8 << 20; // as the server has it

// The kinds that a browser shows. An attachment is given one of these types or none: what is in it decides nothing.
const shown = {
  png: 'image/png', jpg: 'image/jpeg', jpeg: 'image/jpeg', gif: 'image/gif', webp: 'image/webp',
  mp3: 'audio/mpeg', m4a: 'audio/mp4', ogg: 'audio/ogg', oga: 'audio/ogg', opus: 'audio/ogg', wav: 'audio/wav', weba: 'audio/webm', webm: 'audio/webm',
};
const typeOf = (name) => shown[name.split('.').pop().toLowerCase()] || 'application/octet-stream';

// kindOf is the type of the message that a file is sent as.
export function kindOf(file) {
  const type = typeOf(file.name).split('/')[0];
  return type === 'image' || type === 'audio' ? type : 'file';
}

const urls = new Map(); // attachment key → promise of a blob: address

function address(key, name, user) {
  if (!urls.has(key)) {
    const made = attachment(key, user).then((blob) => URL.createObjectURL(new Blob([blob], { type: typeOf(name) })));
    made.catch(() => urls.delete(key)); // the next look tries again
    urls.set(key, made);
  }
  return urls.get(key);
}

// forget lets go of an attachment: from here on this page cannot show it either.
export function forget(key) {
  const made = urls.get(key);
  urls.delete(key);
  made?.then((url) => URL.revokeObjectURL(url), () => {});
}

// view shows an attachment of a message.
export function view(m, key, user) {
  const name = m.text || key;
  const box = el('div', { class: `attachment ${m.type}` });
  const failed = () => box.replaceChildren(el('span', { class: 'muted', text: t('notLoaded') }));
  if (m.type === 'file') {
    box.append(el('button', { type: 'button', class: 'file', title: t('download'), onclick: () => save(key, name, user).catch(failed) },
      icon('file'), el('span', { class: 'name', text: name }), el('span', { class: 'sr', text: t('download') })));
    return box;
  }
  const media = m.type === 'image'
    ? el('img', { alt: `${t('image')}: ${name}`, onerror: failed })
    : el('audio', { controls: true, preload: 'metadata', 'aria-label': `${t('audio')}: ${name}` });
  box.append(media);
  if (m.type === 'audio') box.append(el('span', { class: 'name muted', text: name }));
  address(key, name, user).then((url) => { media.src = url; }, failed);
  return box;
}

async function save(key, name, user) {
  const url = URL.createObjectURL(new Blob([await attachment(key, user)], { type: 'application/octet-stream' }));
  el('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
