// The try-it box: what would the rules say, and why?

import { get, post } from './api.js';
import { byId, el } from './dom.js';
import { clockTime, t } from './i18n.js';
import { typeName } from './placeholder.js';

export function tryIt(names, rulesList) {
  const message = byId('try-message');
  const actor = byId('try-actor');
  const fill = async () => {
    const chosen = message.value;
    const list = await get('/operator/messages');
    const options = list.map((m) => el('option', { value: m.id, text: `${clockTime(new Date(m.sent_at))} · ${names.get(m.sender) ?? m.sender} · ${typeName(m.type)} · ${m.conversation.type}/${m.conversation.id}` }));
    message.replaceChildren(...(options.length ? options : [el('option', { value: '', text: t('noMessages') })]));
    if (list.some((m) => m.id === chosen)) message.value = chosen;
  };
  actor.replaceChildren(...[...names].map(([id, name]) => el('option', { value: id, text: name })));
  message.addEventListener('focus', () => fill().catch(() => {}));
  fill().catch(() => {});
  byId('try').addEventListener('submit', async (e) => {
    e.preventDefault();
    const out = byId('explained');
    try {
      const x = await post('/operator/explain', { message_id: message.value, actor: actor.value, reason: byId('try-reason').value });
      out.replaceChildren(
        el('p', {}, el('span', { class: `pill ${x.permit ? 'good' : 'bad'}`, text: t(x.permit ? 'permitted' : 'refusedVerdict') }), ' ', el('span', { 'data-verdict': '', text: x.code ?? '' })),
        el('ol', { class: 'rules' }, ...rulesList(x.rules, true)), el('p', { class: 'muted small', text: t('limitsNote') }));
    } catch (error) {
      out.replaceChildren(el('p', { text: error.message }));
    }
  });
}
