// Two users beside each other, each in a page of their own.

import { el } from './dom.js';

const query = new URLSearchParams(location.search);
document.body.append(...['left', 'right'].map((side) => {
  const user = query.get(side) || '';
  return el('iframe', { src: '/chat?' + new URLSearchParams({ user }) + '#' + encodeURIComponent(query.get('room') || 'single/ann-ben'), title: user, 'data-side': side });
}));
