// The menu of a message. Taking back is in it only while the server says that it may be, with the time that is left.

import { post, Refused } from './api.js';
import { askReason, explainRefusal, tell } from './dialogs.js';
import { byId, el, icon } from './dom.js';
import { left, t } from './i18n.js';
import { canSweep, openSweep } from './sweep.js';

let close = () => {};
let at; // the button of the menu that is open

// closeMenu closes the menu that is open, if any.
export const closeMenu = () => close();

// checkMenu closes the menu that is open if its message is not shown any more.
export function checkMenu() {
  if (at && !at.isConnected) close();
}

// openMenu opens the menu of a message at its button. page gives me, online(), reply(m), rewrite(m), forward(m),
// recalled(m, text), the model and the selection.
export function openMenu(button, m, page) {
  const already = button.getAttribute('aria-expanded') === 'true';
  closeMenu();
  if (already) return;
  const menu = byId('menu');
  const gone = new AbortController();
  let ticking;
  at = button;
  close = () => {
    close = () => {};
    at = undefined;
    clearInterval(ticking);
    gone.abort();
    menu.hidden = true;
    menu.replaceChildren();
    button.setAttribute('aria-expanded', 'false');
    if (button.isConnected && (menu.contains(document.activeElement) || document.activeElement === document.body)) button.focus();
  };
  const item = (name, picture, text, act) =>
    el('button', { type: 'button', role: 'menuitem', tabindex: '-1', 'data-item': name, onclick: () => { close(); button.focus(); act(); } }, icon(picture), el('span', { text }));
  const asked = el('div', { class: 'waiting muted', role: 'presentation', text: t('checking') });
  menu.replaceChildren(...[
    item('reply', 'reply', t('reply'), () => page.reply(m)),
    page.online() && m.sender === page.me && m.type === 'text' && !m.forward && item('edit', 'edit', t('edit'), () => page.rewrite(m)),
    page.online() && item('forward', 'forward', t('forward'), () => page.forward(m)),
    item('select', 'select', t('select'), () => page.selection.start(m)),
  ].filter(Boolean));
  menu.setAttribute('aria-label', t('menu'));
  if (page.online() && canSweep(m, page)) menu.append(item('sweep', 'recall', t('sweep', { name: page.model.name(m.sender) }), () => openSweep(m, page)));
  if (page.online()) menu.append(asked);
  button.setAttribute('aria-expanded', 'true');
  menu.hidden = false;
  place(menu, button);
  menu.querySelector('button').focus();

  const on = (node, event, f) => node.addEventListener(event, f, { signal: gone.signal });
  on(menu, 'keydown', (e) => keys(e, menu));
  on(document, 'pointerdown', (e) => { if (!menu.contains(e.target) && !button.contains(e.target)) close(); });
  on(window, 'resize', () => close());
  on(byId('log'), 'scroll', () => { // it stays with its message, as long as that is to be seen
    const seen = byId('log').getBoundingClientRect();
    const at = button.getBoundingClientRect();
    if (at.bottom < seen.top || at.top > seen.bottom) close();
    else place(menu, button);
  });
  if (!page.online()) return;

  const put = (node) => {
    (menu.querySelector('[data-slot]') || asked).replaceWith(node);
    node.dataset.slot = '';
    place(menu, button);
  };
  const answered = ({ result, reason, now }) => {
    if (gone.signal.aborted) return;
    const had = menu.contains(document.activeElement) && document.activeElement.dataset.slot !== undefined;
    if (result.status !== 'recalled') {
      put(item('why', 'info', t('whyNot'), () => explainRefusal(result, now)));
      if (had) menu.querySelector('[data-slot]').focus();
      return;
    }
    const until = result.until ? performance.now() + (Date.parse(result.until) - now) : Infinity;
    const node = item('recall', 'recall', '', () => takeBack(m, page, reason));
    node.classList.add('danger');
    const label = node.querySelector('span');
    const clock = el('span', { class: 'clock muted', 'aria-hidden': 'true' });
    node.append(clock);
    put(node);
    const tick = () => {
      const rest = until - performance.now();
      if (rest <= 0) {
        clearInterval(ticking);
        check(); // the server says that it is too late
        return;
      }
      label.textContent = reason ? t('recallReason') : t('recall');
      clock.textContent = until === Infinity ? '' : left(rest);
      node.setAttribute('aria-label', until === Infinity || reason ? label.textContent : t('recallFor', { time: left(rest) }));
    };
    ticking = setInterval(tick, 250);
    tick();
    if (had) node.focus();
    place(menu, button);
  };
  const failed = () => {
    if (gone.signal.aborted) return;
    asked.textContent = t('unavailable');
    put(asked);
  };
  const check = () => ask(m, page.me).then(answered, failed);
  check();
}

// ask asks the server whether the message may be taken back, and until when. Where a rule wants a reason it asks once more with
// one, since only then is it told until when.
async function ask(m, me) {
  const check = async (reason) => {
    const answer = await post('/check', { message_ids: [m.id], reason }, me);
    return { result: answer.results[0], now: Date.parse(answer.now) };
  };
  const plain = await check('');
  if (plain.result.code !== 'reason_required') return plain;
  const given = await check('?');
  return { ...given, reason: true };
}

async function takeBack(m, page, reasonNeeded) {
  const { text } = m; // the notice may be here before the answer
  let reason = '';
  if (reasonNeeded) {
    reason = await askReason();
    if (reason === null) return;
  }
  try {
    const answer = await post('/recall', { message_ids: [m.id], reason, recall_id: crypto.randomUUID() }, page.me);
    const result = answer.results[0];
    if (result.status === 'recalled') page.recalled(m, text);
    else explainRefusal(result, Date.parse(answer.now));
  } catch (error) {
    tell(error instanceof Refused && error.status < 500 ? error.message : t('unavailable'));
  }
}

// place puts the menu beside its button and inside the window.
function place(menu, button) {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const x = Math.min(Math.max(8, button.closest('.own') ? at.right - width : at.left), innerWidth - width - 8);
  const below = at.bottom + 4;
  const y = below + height > innerHeight - 8 ? Math.max(8, at.top - height - 4) : below;
  menu.style.left = `${x}px`;
  menu.style.top = `${y}px`;
}

function keys(e, menu) {
  const items = [...menu.querySelectorAll('[role=menuitem]')];
  const at = items.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[e.key];
  if (to !== undefined) {
    e.preventDefault();
    items.at(to % items.length).focus();
  } else if (e.key === 'Escape' || e.key === 'Tab') {
    e.preventDefault();
    e.stopPropagation();
    closeMenu();
  }
}
