// The page of the cluster: a user on each chat server, the state of every process, and buttons to kill and stop them.

import { get, post } from './api.js';
import { byId, el } from './dom.js';

const EVERY = 500;
const LOOKS = { running: 'good', ended: 'bad', failed: 'bad' };
const NAMES = { ann: 'Ann', ben: 'Ben', cleo: 'Cleo' };

// Control is a process: its state and its buttons.
class Control {
  constructor(heading, title, to) {
    this.to = to;
    this.pill = el('span', { class: 'pill', text: 'starting' });
    this.kill = this.button('kill');
    this.stop = this.button('stop');
    this.start = this.button('start');
    this.row = el('div', { class: 'row', 'data-of': to }, el(heading, { text: title }), this.pill, this.kill, this.stop, this.start);
  }

  button(what) {
    const node = el('button', { type: 'button', 'data-do': what, text: what, class: what === 'kill' ? 'danger' : '' });
    node.addEventListener('click', async () => {
      node.disabled = true;
      try {
        await post('/do', { what: node.dataset.do, to: this.to });
        byId('said').textContent = '';
      } catch (error) {
        byId('said').textContent = `${this.to}: ${error.message}`;
      }
      await show();
    });
    return node;
  }

  // show shows a state. A process that does not run may be started, if it can be; one that is stopped goes on.
  show(status, { canStart = true, enabled = true, words = status } = {}) {
    this.pill.textContent = words;
    this.pill.className = `pill ${LOOKS[status] ?? ''}`;
    const next = status === 'stopped' ? 'continue' : 'stop';
    if (this.stop.dataset.do !== next) Object.assign(this.stop, { textContent: next }).dataset.do = next;
    this.kill.disabled = this.stop.disabled = !enabled || status === 'ended';
    this.start.hidden = !canStart;
    this.start.disabled = status !== 'ended';
  }
}

// Node is a chat server with its plugin, and the page of its user.
class Node {
  constructor({ name, user }) {
    this.server = new Control('h2', `${NAMES[user]} on server ${name}`, name);
    this.plugin = new Control('h3', 'its plugin', `plugin-${name}`);
    this.facts = el('p', { class: 'facts' });
    this.pane = el('p', { class: 'empty', text: 'The server is starting.' });
    this.node = el('section', { class: 'node', 'data-node': name, 'aria-label': `Server ${name}` }, this.server.row, this.plugin.row, this.facts, this.pane);
  }

  show({ name, user, url, status, why, fresh, held, plugin }) {
    this.server.show(status);
    const phase = held ? 'stopped' : !fresh ? status === 'running' ? 'starting' : status : plugin.phase;
    this.plugin.show(phase, { canStart: false, enabled: fresh && (plugin.pid ?? 0) > 0, words: phase });
    this.facts.textContent = why || facts(plugin, fresh);
    // The page of a user connects again by itself. One that was never loaded cannot.
    if (fresh && this.pane.tagName !== 'IFRAME') {
      const frame = el('iframe', { src: `${url}/chat?${new URLSearchParams({ user })}#${encodeURIComponent('group/team')}`, title: `${NAMES[user]} on ${name}` });
      this.pane.replaceWith(frame);
      this.pane = frame;
    }
  }
}

// facts says in words what a plugin knows of its cluster.
function facts(plugin, fresh) {
  const c = plugin?.cluster;
  if (!c) return '';
  const members = c.members.map((m) => (m.gone ? `${m.node} (gone)` : m.node)).join(', ');
  const lag = c.lag ? `, ${c.lag} behind` : '';
  return `${fresh ? '' : 'When last heard: '}${c.connected ? 'connected' : 'not connected'}, entry ${c.position} of the log${lag}. Members: ${members}. Restarts: ${plugin.restarts}.`;
}

const nodes = new Map();
const servers = new Map();

async function show() {
  let state;
  try {
    state = await get('/state');
    byId('off').hidden = true;
  } catch {
    byId('off').hidden = false;
    return;
  }
  for (const server of state.servers) {
    if (!servers.has(server.name)) {
      servers.set(server.name, new Control('h2', `JetStream ${server.name}`, server.name));
      byId('servers').append(servers.get(server.name).row);
    }
    servers.get(server.name).show(server.status, { words: server.leader ? `${server.status}, leader` : server.status });
  }
  for (const node of state.nodes) {
    if (!nodes.has(node.name)) {
      nodes.set(node.name, new Node(node));
      byId('nodes').append(nodes.get(node.name).node);
    }
    nodes.get(node.name).show(node);
  }
}

for (;;) {
  await show();
  await new Promise((resolve) => { setTimeout(resolve, EVERY); });
}
