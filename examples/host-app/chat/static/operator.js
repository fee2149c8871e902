// The operator's page: how the plugin is, and what may be done to it.

import { get, post } from './api.js';
import { bars, recent } from './charts.js';
import { byId, el } from './dom.js';
import { languageSwitch, span, t } from './i18n.js';
import { lastReload, rulesList, showRules } from './rules.js';
import { Recalls } from './recalls.js';
import { TryIt } from './tryit.js';

const EVERY = 1000;

let seen; // the last answer about the state
let offset = 0; // of the server's clock
let reachable = false; // the last question was answered
const busy = new Set(); // buttons whose work is under way
const recalls = new Recalls(byId('recalls'));
const names = new Map();
const box = new TryIt(names, rulesList);

function facts(list) {
  return list.filter(([, value]) => value !== undefined && value !== '')
    .flatMap(([name, value]) => [el('dt', { text: t(name) }), el('dd', {}, value)]);
}

function showState() {
  const p = seen.plugin;
  const pill = byId('phase');
  delete pill.dataset.t;
  pill.textContent = t(p.phase === 'failed' ? 'phase_failed' : p.phase) + (p.step ? ` · ${p.step}` : '');
  pill.className = `pill ${{ running: 'good', upgrading: 'warn', restarting: 'warn' }[p.phase] ?? 'bad'}`;
  byId('state').replaceChildren(...facts([
    ['pid', p.pid ? String(p.pid) : ''], ['version', p.version], ['uptime', p.phase === 'running' ? span(Date.now() + offset - Date.parse(p.since)) : ''],
    ['restarts', String(p.restarts)], ['upgrades', String(p.upgrades)], ['binary', el('code', { text: p.binary })], ['lastError', p.error],
  ]));
  delete byId('folder').dataset.t;
  byId('folder').textContent = t('upgradeHint', { folder: p.binary.replace(/[^/]*$/, '') });
  if (!byId('binary').value) byId('binary').value = p.binary.split('/').pop();
}

function showCharts() {
  const now = Date.now() + offset;
  const held = recent(seen.held.map(({ at, ms }) => ({ at: Date.parse(at), value: ms })), now);
  bars(byId('chart-held'), held, now, Math.max, t('chartHeldSum', { n: held.length, ms: Math.round(Math.max(0, ...held.map((h) => h.value))) }), t('chartHeldNone'));
  const taken = recent(recalls.moments(), now);
  bars(byId('chart-recalls'), taken, now, (a, b) => a + b, t('chartRecallsSum', { n: taken.length }), t('chartRecallsNone'));
}

// enable lets the buttons be used while the server answers.
function enable() {
  for (const button of document.querySelectorAll('#kill, #reload, #upgrade button, #explain')) {
    button.disabled = !reachable || busy.has(button) || (button.id === 'explain' && !box.ready());
  }
}

let asking; // the question about what comes from the plugin, which may keep it waiting

// ask asks once more about the state of the plugin, and about what the plugin has recorded.
async function ask() {
  try {
    if (names.size === 0) for (const { id, name } of await get('/users')) names.set(id, name);
    seen = await get('/operator/state');
    offset = Date.parse(seen.now) - Date.now();
    reachable = true;
  } catch {
    reachable = false;
  }
  byId('off').hidden = reachable;
  enable();
  if (!reachable) return;
  for (const node of document.querySelectorAll('.empty')) node.hidden = true;
  showState();
  asking ??= askPlugin().finally(() => { asking = undefined; }); // one at a time: two would list a recall twice
}

async function askPlugin() {
  const none = byId('no-recalls');
  try {
    await recalls.refresh(names);
    none.dataset.t = 'noRecalls';
    none.textContent = t('noRecalls');
  } catch (error) {
    none.textContent = error.message;
  }
  none.hidden = !recalls.empty();
  showCharts();
  await showRules(seen.plugin);
  await box.refresh().catch(() => {}); // the next time
  enable();
}

// follow asks again and again.
async function follow() {
  for (;;) {
    await ask();
    await new Promise((done) => setTimeout(done, EVERY));
  }
}

const say = (text) => { byId('said').textContent = text; };

async function act(button, work) {
  busy.add(button);
  enable();
  try {
    await work();
  } catch (error) {
    say(error.message);
  }
  busy.delete(button);
  await ask();
}

byId('kill').addEventListener('click', () => act(byId('kill'), async () => {
  const { pid } = await post('/operator/kill', {});
  say(t('killed', { pid }));
  for (;;) { // until the next one answers; the state says so
    const { plugin } = await get('/operator/state');
    if (plugin.pid && plugin.pid !== pid && plugin.phase === 'running') {
      say(`${t('killed', { pid })} ${t('back_again', { pid: plugin.pid })}`);
      return;
    }
    if (plugin.phase === 'failed') return;
    await new Promise((done) => setTimeout(done, 100));
  }
}));

byId('upgrade').addEventListener('submit', (e) => {
  e.preventDefault();
  act(e.submitter, async () => {
    try {
      const report = await post('/operator/upgrade', { path: byId('binary').value.trim() });
      say(t('upgraded', { to: report.to.version, ms: (report.held / 1e6).toFixed(0) }));
    } catch (error) {
      say(t('notUpgraded', { error: error.message }));
    }
  });
});

byId('reload').addEventListener('click', () => act(byId('reload'), async () => {
  lastReload(await post('/operator/reload', {}));
}));

languageSwitch(byId('language'), () => {
  recalls.forget();
  if (seen) ask();
});
follow();
