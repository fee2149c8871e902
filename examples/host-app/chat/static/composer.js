// Where a message is written: its text, what it answers, what is attached.

import { kindOf, MAX_BYTES } from './attachments.js';
import { tell } from './dialogs.js';
import { byId, el, icon } from './dom.js';
import { t } from './i18n.js';
import { summary } from './placeholder.js';

export class Composer {
  constructor(page) {
    this.page = page;
    this.text = byId('text');
    this.quote = null;
    this.editing = null; // the message that gets a new text
    this.file = null;
    byId('composer').addEventListener('submit', (e) => { e.preventDefault(); this.submit(); });
    this.text.addEventListener('input', () => this.grow());
    this.text.addEventListener('keydown', (e) => {
      this.shift = e.shiftKey;
      if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) { e.preventDefault(); this.submit(); }
      if (e.key === 'Escape') this.reply(null);
      if (e.key === 'ArrowUp' && !this.text.value) { // from an empty line up to the last message
        const last = page.messages.buttons().at(-1);
        if (last) { e.preventDefault(); last.focus(); }
      }
    });
    this.text.addEventListener('beforeinput', (e) => { // an on-screen keyboard may tell of its Enter by this alone
      if (e.inputType === 'insertLineBreak' && !this.shift) { e.preventDefault(); this.submit(); }
    });
    this.text.addEventListener('paste', (e) => { if (e.clipboardData.files[0]) this.attach(e.clipboardData.files[0]); });
    byId('attach').addEventListener('click', () => byId('file').click());
    byId('file').addEventListener('change', () => { this.attach(byId('file').files[0]); byId('file').value = ''; });
    const log = byId('room');
    log.addEventListener('dragover', (e) => e.preventDefault());
    log.addEventListener('drop', (e) => { e.preventDefault(); this.attach(e.dataTransfer.files[0]); });
  }

  grow() {
    this.text.style.height = 'auto';
    this.text.style.height = `${Math.min(Math.max(this.text.scrollHeight + 2, 40), 140)}px`;
    this.enable();
  }

  enable() {
    const online = this.page.online();
    byId('send').disabled = !online || !(this.text.value.trim() || this.file);
    byId('attach').disabled = !online;
  }

  reply(m) {
    this.leaveEdit();
    this.quote = m;
    this.context();
    this.text.focus();
  }

  // rewrite begins to give an own message a new text.
  rewrite(m) {
    this.quote = this.file = null;
    this.editing = m;
    this.text.value = m.text ?? '';
    this.context();
    this.grow();
    this.text.focus();
  }

  leaveEdit() {
    if (!this.editing) return;
    this.editing = null;
    this.text.value = '';
    this.grow();
  }

  attach(file) {
    if (!file || !this.page.online()) return;
    if (file.size > MAX_BYTES) return tell(t('tooLarge', { name: file.name }));
    this.file = file;
    this.context();
    this.text.focus();
  }

  // context shows above the text what goes with it: a quote, a file. The quote of a message that was recalled meanwhile goes.
  context() {
    const strips = [];
    const strip = (label, what, body, undo) => strips.push(el('div', { class: 'strip' }, body,
      el('span', { class: 'what' }, el('span', { class: 'by', text: label }), el('span', { class: 'said', text: what })),
      el('button', { type: 'button', class: 'quiet', 'aria-label': undo, title: undo, onclick: () => { if (body) this.file = null; else this.reply(null); this.context(); this.text.focus(); } }, icon('close'))));
    if (this.quote?.recalled) this.quote = null;
    if (this.editing?.recalled) this.leaveEdit();
    if (this.editing) strip(t('editing'), summary(this.editing, this.page.model), null, t('cancelEdit'));
    if (this.quote) strip(t('replyingTo', { name: this.quote.sender === this.page.me ? t('you') : this.page.model.name(this.quote.sender) }), summary(this.quote, this.page.model), null, t('cancelReply'));
    if (this.preview) URL.revokeObjectURL(this.preview);
    this.preview = null;
    if (this.file) {
      const kind = kindOf(this.file);
      let picture = icon({ image: 'image', audio: 'voice' }[kind] || 'file');
      if (kind === 'image') {
        this.preview = URL.createObjectURL(this.file);
        picture = el('img', { src: this.preview, alt: '' });
      }
      strip(t(kind), this.file.name, picture, t('remove'));
    }
    byId('context').replaceChildren(...strips);
    this.enable();
  }

  submit() {
    const text = this.text.value.trim();
    if (!this.page.online() || !(text || this.file)) return;
    const { file, editing } = this;
    const quote = this.quote?.id;
    this.text.value = '';
    this.file = this.quote = this.editing = null;
    this.context();
    this.grow();
    this.text.focus();
    if (editing) return void this.page.sendEdit(editing, text);
    if (file) this.page.sendFile(file, kindOf(file), quote);
    if (text) this.page.sendText(text, file ? undefined : quote);
  }

  // edit puts a text back, behind what is written already.
  edit(text) {
    this.text.value = this.text.value.trim() ? `${this.text.value.trimEnd()}\n${text}` : text;
    this.grow();
    this.text.focus();
    this.text.setSelectionRange(this.text.value.length, this.text.value.length);
  }

  clear() {
    this.text.value = '';
    this.file = this.quote = this.editing = null;
    this.context();
    this.grow();
  }
}
