// Several messages of the open conversation, selected to be recalled in one request.

import { post, Refused } from './api.js';
import { askReason, tell } from './dialogs.js';
import { byId } from './dom.js';
import { t } from './i18n.js';

const MOST = 100; // messages that one request may name

export class Selection {
  constructor(page) {
    this.page = page;
    this.active = false;
    this.chosen = new Set(); // ids
    this.refusals = new Map(); // id → {result, now}: shown with the message until the next selection
    this.said = ''; // what became of the last request
    byId('list').addEventListener('change', (e) => { if (e.target.matches('.pick')) this.pick(e.target); });
    byId('list').addEventListener('click', (e) => { // anywhere on the message
      const box = this.active && !e.target.closest('.pick') && e.target.closest('li')?.querySelector('.pick');
      if (box) box.click();
    });
    document.addEventListener('keydown', (e) => { if (this.active && e.key === 'Escape' && !document.querySelector('dialog[open]')) this.end(); });
    byId('selection-cancel').addEventListener('click', () => this.end());
    byId('selection').addEventListener('submit', (e) => { e.preventDefault(); this.recall(); });
  }

  start(m) {
    this.active = true;
    this.refusals.clear();
    this.chosen = new Set([m.id]);
    this.said = '';
    this.page.show();
    const box = this.box(m.id);
    box.checked = true;
    this.page.messages.rove(box);
    box.focus();
  }

  end() {
    if (!this.active) return;
    const from = document.activeElement?.closest?.('#list > li')?.dataset.id;
    this.active = false;
    this.chosen.clear();
    for (const box of document.querySelectorAll('.pick:checked')) box.checked = false;
    this.page.show();
    (from && this.box(from)?.closest('li').querySelector('.more') || byId(matchMedia('(pointer: coarse)').matches ? 'log' : 'text')).focus(); // no keyboard on the screen unasked
  }

  box(id) {
    return byId('list').querySelector(`[data-id="${CSS.escape(id)}"] .pick`);
  }

  pick(box) {
    const { id } = box.closest('li').dataset;
    if (!box.checked) {
      this.chosen.delete(id);
    } else if (this.chosen.size < MOST) {
      this.chosen.add(id);
    } else {
      box.checked = false;
      tell(t('tooMany', { n: MOST }));
    }
    this.said = '';
    this.show();
  }

  // drop forgets a message that was recalled meanwhile.
  drop(id) {
    this.chosen.delete(id);
    this.refusals.delete(id);
  }

  show() {
    byId('list').classList.toggle('selecting', this.active);
    byId('selection').hidden = !this.active;
    byId('composer').hidden = this.active;
    const n = this.chosen.size;
    byId('selected').textContent = n ? t('selected', { n }) : this.said || t('selectSome');
    byId('selection-recall').disabled = !n || this.busy || !this.page.online();
  }

  async recall() {
    const { page } = this;
    const messages = [...this.chosen].map((id) => page.model.messages.get(id)).filter((m) => m && !m.recalled);
    if (this.busy || messages.length === 0 || !page.online()) return;
    const message_ids = messages.map((m) => m.id);
    const texts = new Map(messages.map((m) => [m.id, m.text])); // the notices may be here before the answer
    this.busy = true;
    this.show();
    try {
      let reason = '';
      const { results } = await post('/check', { message_ids }, page.me);
      if (results.some((r) => r.code === 'reason_required')) {
        reason = await askReason();
        if (reason === null) return;
      }
      this.took(messages, texts, await post('/recall', { message_ids, reason, recall_id: crypto.randomUUID() }, page.me));
    } catch (error) {
      tell(error instanceof Refused && error.status < 500 ? error.message : t('unavailable'));
    } finally {
      this.busy = false;
      page.show();
    }
  }

  // took shows the answer of each message: its placeholder, or why it was refused.
  took(messages, texts, { results, now }) {
    let done = 0;
    for (const result of results) {
      const m = messages.find(({ id }) => id === result.message_id);
      if (result.status === 'recalled') {
        done++;
        this.page.recalled(m, texts.get(m.id));
      } else if (!m.recalled) {
        this.refusals.set(m.id, { result, now: Date.parse(now) });
      }
      this.chosen.delete(m.id);
      const box = this.box(m.id);
      if (box) box.checked = false;
    }
    const refused = this.refusals.size;
    if (refused === 0) return void this.end();
    this.said = t('someRefused', { done, refused });
    this.page.announce(this.said);
  }
}
