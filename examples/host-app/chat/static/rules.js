// Which rules are in force, and what became of the last change of their files.

import { get } from './api.js';
import { byId, el } from './dom.js';
import { lang, t } from './i18n.js';

let rules = [];
let problem = '';
let shown = '';
let asked;
let known; // what the state said of the rules last
let reloaded; // what a reload by hand has said since

// rulesList draws rules with their places, and what of each held where that is known.
export function rulesList(list, parts) {
  return (list || []).map((r) => el('li', { class: parts && r.decides ? 'decides' : '' },
    el('span', { class: `pill ${r.kind === 'forbid' ? 'bad' : 'good'}`, text: t(r.kind) }), el('strong', { text: r.name }),
    parts && el('span', { class: 'muted', text: r.decides ? t('decides') : t(r.matched ? 'holds' : 'holdsNot') }),
    el('code', { class: 'place', text: `${r.file}:${r.line}` }),
    parts && el('ul', { class: 'parts' }, ...(r.conditions || []).map((p) => el('li', {},
      el('span', { class: p.holds ? 'held' : 'not', 'aria-hidden': 'true', text: p.holds ? '✓' : '✗' }), el('span', {}, el('code', { text: p.text }),
        p.value && el('span', { class: 'muted', text: ` ${p.field ? `${p.field} = ` : ''}${p.value}` })))))));
}

// lastReload takes note of what a reload by hand has said.
export function lastReload(diagnostics) {
  reloaded = diagnostics;
}

// showRules asks for the rules where others have come into force since.
export async function showRules(plugin) {
  const state = plugin.rules;
  const version = state?.digest ?? plugin.pid;
  if (asked !== version) {
    try {
      ({ rules } = await get('/operator/rules'));
      problem = '';
    } catch (error) {
      problem = error.message;
    }
    asked = version;
  }
  if (known !== JSON.stringify(state)) {
    known = JSON.stringify(state);
    reloaded = undefined;
  }
  const signature = JSON.stringify([lang(), rules, problem, state, reloaded]);
  if (signature === shown) return;
  shown = signature;
  byId('rules').replaceChildren(...rulesList(rules));
  byId('reload').hidden = !state;
  byId('rules-from').textContent = state?.paths?.length ? t('rulesFrom', { paths: state.paths.join(', ') }) : t('builtIn');
  const rows = [];
  const row = (name, node) => rows.push(el('dt', { text: t(name) }), el('dd', {}, node));
  if (state?.digest) row('digest', el('code', { text: state.digest.slice(0, 16) }));
  if (state?.loaded_at) row('loadedAt', new Intl.DateTimeFormat(lang(), { dateStyle: 'medium', timeStyle: 'medium' }).format(new Date(state.loaded_at)));
  byId('rules-facts').replaceChildren(...rows);
  const found = reloaded ?? [...(state?.refused || []), ...(state?.warnings || [])];
  const refused = found.filter((d) => d.severity === 'error');
  const warnings = found.filter((d) => d.severity !== 'error');
  const words = refused.length ? 'reloadBad' : warnings.length ? 'reloadWarn' : state ? 'reloadGood' : null;
  byId('last-reload').replaceChildren(...(words ? [el('h3', { text: t('lastReload') }), el('p', { role: 'status', class: refused.length ? '' : 'muted', text: t(words) }), diagnostics([...refused, ...warnings])] : []));
  if (problem) byId('last-reload').append(el('p', { class: 'muted', text: problem }));
}

function diagnostics(list) {
  return el('ul', { class: 'diagnostics' }, ...list.map((d) => el('li', { class: d.severity },
    el('div', {}, el('strong', { text: d.summary }), ' ', d.file && el('code', { text: `${d.file}:${d.line}:${d.column}` })),
    d.detail && el('div', { class: 'muted', text: d.detail }), d.source && el('div', {}, el('code', { text: d.source.trim() })))));
}
