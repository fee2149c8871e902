// A moderator removes everything that somebody sent to the conversation in the last hour: counts first, then progress.

import { post, Refused } from './api.js';
import { tell } from './dialogs.js';
import { byId, el } from './dom.js';
import { left, t } from './i18n.js';

const EVERY = 200; // ms between two looks at a job

// canSweep tells whether the user of a page may remove everything that the sender of a message sent.
export function canSweep(m, page) {
  return m.sender !== page.me && m.conversation.type !== 'single' && ['owner', 'admin'].includes(page.model.role(m.key, page.me));
}

// openSweep opens the dialog about the sender of a message.
export function openSweep(m, page) {
  const dialog = byId('sweep');
  const name = page.model.name(m.sender);
  const asked = { conversation: m.conversation, sender: m.sender };
  const closed = new AbortController();
  const on = (node, event, f) => node.addEventListener(event, f, { signal: closed.signal });
  const [reason, words, bar, start, stop, close] = ['reason', 'words', 'bar', 'start', 'stop', 'close'].map((id) => byId(`sweep-${id}`));
  byId('sweep-title').textContent = t('sweepTitle', { name });
  reason.value = '';
  reason.hidden = bar.hidden = stop.hidden = true;
  start.hidden = false;
  start.disabled = true;
  words.textContent = t('sweepCounting');
  byId('sweep-refused').replaceChildren();
  on(close, 'click', () => dialog.close());
  on(dialog, 'close', () => closed.abort());

  const failed = (error) => {
    if (closed.signal.aborted) return;
    dialog.close();
    tell(error instanceof Refused && error.status < 500 ? error.message : t('unavailable'));
  };
  let from;
  const preview = async () => {
    const { counts, from: since } = await post('/sweep/preview', { ...asked, from, reason: reason.value.trim() }, page.me);
    if (closed.signal.aborted) return;
    from = since;
    const n = counts.recalled;
    words.textContent = n ? t('sweepFound', { n, already: counts.already_recalled }) : t('sweepNone', { already: counts.already_recalled });
    refusals(counts);
    if (counts.denied?.reason_required) reason.hidden = false;
    start.textContent = t('sweepStart', { n });
    start.disabled = n === 0;
  };
  on(reason, 'change', () => preview().catch(failed));
  on(start, 'click', () => {
    const job = { job_id: crypto.randomUUID() };
    start.disabled = reason.hidden = true;
    on(stop, 'click', () => { stop.disabled = true; post('/sweep/cancel', job, page.me).catch(failed); });
    run({ ...asked, ...job, from, reason: reason.value.trim() }, job).catch(failed);
  });
  const run = async (request, job) => {
    let at = await post('/sweep/start', request, page.me);
    start.hidden = true;
    stop.hidden = bar.hidden = false;
    stop.disabled = false;
    stop.focus();
    while (at.state === 'running') {
      bar.max = Math.max(at.total, 1);
      bar.value = at.examined;
      words.textContent = at.waiting_until ? t('sweepWaits', { n: at.counts.recalled, time: left(Date.parse(at.waiting_until) - Date.parse(at.now)) }) : t('sweepRuns', { n: at.counts.recalled });
      await new Promise((resolve) => { setTimeout(resolve, EVERY); });
      if (closed.signal.aborted) return; // it goes on by itself
      // an upgrade or a crash of the plugin holds an answer back, and nothing more
      at = await post('/sweep/status', job, page.me);
    }
    bar.hidden = stop.hidden = true;
    words.textContent = t(at.state === 'done' ? 'sweepDone' : 'sweepStopped', { n: at.counts.recalled });
    refusals(at.counts);
    close.focus();
  };
  dialog.showModal();
  close.focus();
  preview().catch(failed);
}

// refusals lists what stays, by the code of the rule that said so.
function refusals(counts) {
  const rows = Object.entries(counts.denied ?? {}).sort().flatMap(([code, n]) => [el('dt', { text: code }), el('dd', { text: t('sweepStay', { n }) })]);
  byId('sweep-refused').replaceChildren(...rows);
}
