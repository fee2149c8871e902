// The words that stand where a recalled message was.

import { has, pick, t } from './i18n.js';

// placeholder is the text for one viewer: the rules' own where they have one, else the page's.
export function placeholder(m, model) {
  const { actor, role, placeholder: texts } = m.recalled;
  const named = (user) => (user === model.me ? t('you') : model.name(user));
  const text = pick(texts);
  if (text) { // whoever never had the message does not learn who sent it, nor of what type it was
    const values = { actor: named(actor), sender: m.sender ? named(m.sender) : t('somebody'), role: t(role || 'member'), type: typeName(m.type || 'custom') };
    return text.replace(/\{(actor|sender|role|type)\}/g, (_, name) => values[name]);
  }
  if (!m.sender) return role === 'system' ? t('removedUnknown', { who: t('theServer') }) : t('recalledBy', { actor: model.name(actor) });
  if (actor === m.sender) return actor === model.me ? t('youRecalled') : t('recalledBy', { actor: model.name(actor) });
  if (actor === model.me) return t('youRemoved', { sender: model.name(m.sender) });
  const who = { owner: 'theOwner', admin: 'anAdmin', system: 'theServer' }[role];
  return t(m.sender === model.me ? 'removedYours' : 'removedBy', { sender: model.name(m.sender), who: who ? t(who) : model.name(actor) });
}

export const typeName = (type) => (has(`type_${type}`) ? t(`type_${type}`) : type);

// summary is one line about a message: for the list, a quote, a notification.
export function summary(m, model) {
  if (m.recalled) return placeholder(m, model);
  if (m.type === 'text') return m.text || '';
  const kind = { image: 'image', audio: 'audio' }[m.type] || 'file';
  return m.type === 'file' ? `${t(kind)} · ${m.text || ''}` : t(kind);
}
