// Notifications of the browser. One is closed when its message is recalled: its text must not stay on the screen.

import { byId } from './dom.js';
import { t } from './i18n.js';
import { summary } from './placeholder.js';

const shown = new Map(); // message id → Notification

export function notifyButton() {
  const button = byId('notify');
  if (!('Notification' in window)) {
    button.hidden = true;
    return;
  }
  const label = () => {
    const text = { granted: t('notifyOn'), denied: t('notifyOff') }[Notification.permission] ?? t('notify');
    button.setAttribute('aria-label', text);
    button.title = text;
    button.classList.toggle('on', Notification.permission === 'granted');
  };
  button.onclick = async () => {
    await Notification.requestPermission();
    label();
  };
  label();
}

export function notify(m, model, open) {
  if (!('Notification' in window) || Notification.permission !== 'granted') return;
  const n = new Notification(model.name(m.sender), { body: summary(m, model), tag: m.id });
  n.onclick = () => {
    window.focus();
    open();
    n.close();
  };
  n.onclose = () => shown.delete(m.id);
  shown.set(m.id, n);
}

export function withdraw(id) {
  shown.get(id)?.close();
  shown.delete(id);
}
