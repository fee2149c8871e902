// Two users beside each other, each in a page of their own.

import { get } from './api.js';
import { avatar, el } from './dom.js';

const query = new URLSearchParams(location.search);
const names = new Map((await get('/users')).map(({ id, name }) => [id, name]));

document.body.append(...[['left', 'ann'], ['right', 'ben']].map(([side, otherwise]) => {
  const user = query.get(side) || otherwise;
  const name = names.get(user) ?? user;
  const address = '/chat?' + new URLSearchParams({ user }) + '#' + encodeURIComponent(query.get('room') || 'single/ann-ben');
  return el('figure', {}, el('figcaption', {}, avatar(user, name), el('span', { text: name })), el('iframe', { src: address, title: name, 'data-side': side }));
}));
