// Who are you? The demo users, and the two other ways in.

import { get } from './api.js';
import { avatar, byId, el } from './dom.js';
import { languageSwitch, t } from './i18n.js';

const users = await get('/users');

function show() {
  byId('users').replaceChildren(...users.map(({ id, name }) =>
    el('li', {}, el('a', { href: '/chat?' + new URLSearchParams({ user: id }), 'aria-label': t('continueAs', { name }), 'data-user': id }, avatar(id, name), el('span', { text: name })))));
}

languageSwitch(byId('language'), show);
show();
