// The try-it box: what would the rules say, and why?

import { get, post } from './api.js';
import { byId, el } from './dom.js';
import { clockTime, t } from './i18n.js';
import { typeName } from './placeholder.js';

export class TryIt {
  constructor(names, rulesList) {
    this.names = names;
    this.rulesList = rulesList;
    this.message = byId('try-message');
    this.actor = byId('try-actor');
    this.message.addEventListener('focus', () => this.fill().catch(() => {}));
    byId('try').addEventListener('submit', (e) => {
      e.preventDefault();
      this.explain();
    });
  }

  // ready tells whether there is a message to explain.
  ready() {
    return this.message.value !== '';
  }

  // refresh offers the users, and the messages once there are any. The list stays as it is until somebody opens it.
  async refresh() {
    if (this.actor.options.length === 0) this.actor.replaceChildren(...[...this.names].map(([id, name]) => el('option', { value: id, text: name })));
    if (!this.ready()) await this.fill();
  }

  async fill() {
    const chosen = this.message.value;
    const list = await get('/operator/messages');
    const options = list.map((m) => el('option', { value: m.id, text: `${clockTime(new Date(m.sent_at))} · ${this.names.get(m.sender) ?? m.sender} · ${typeName(m.type)} · ${m.conversation.type}/${m.conversation.id}` }));
    this.message.replaceChildren(...(options.length ? options : [el('option', { value: '', text: t('noMessages') })]));
    if (list.some((m) => m.id === chosen)) this.message.value = chosen;
  }

  async explain() {
    const out = byId('explained');
    try {
      const x = await post('/operator/explain', { message_id: this.message.value, actor: this.actor.value, reason: byId('try-reason').value });
      out.replaceChildren(
        el('p', {}, el('span', { class: `pill ${x.result.status === 'recalled' ? 'good' : 'bad'}`, text: t(x.result.status === 'recalled' ? 'permitted' : 'refusedVerdict') }), ' ', el('span', { 'data-verdict': '', text: x.result.code ?? '' })),
        el('ol', { class: 'rules' }, ...this.rulesList(x.rules, true)), el('p', { class: 'muted small', text: t('limitsNote') }));
    } catch (error) {
      out.replaceChildren(el('p', { text: error.message }));
    }
  }
}
