// The words of the page, in English and Chinese. {names} in curly brackets are put in by t.

const words = {
  en: {
    app: 'Recall', language: '中文', languageLabel: '切换到中文',
    who: 'Who are you?', whoLead: 'A small chat server whose messages can be taken back. Open it as several people, in tabs or side by side.',
    demoNote: 'Demo accounts without passwords: whoever reaches this address is whom they say they are. So it listens on this machine alone.',
    sideBySide: 'Ann and Ben, side by side', sideLead: 'Send as one, take it back, and watch the other.',
    continueAs: 'Continue as {name}', operator: 'Operator', operatorLead: 'The plugin behind it: state, rules, recalls. Kill it and see that nothing is lost.',
    conversations: 'Conversations', messages: 'Messages with {name}', switchUser: 'Switch user', single: 'Direct', group: 'Group', chatroom: 'Chatroom',
    members: '{n} members', you: 'You', youAre: 'Your role: {role}', owner: 'owner', admin: 'admin', member: 'member', system: 'the server',
    online: 'Online', offline: 'Offline', onlineSwitch: 'Online', connecting: 'Connecting…',
    offlineBanner: 'You are offline. What is sent meanwhile waits for you; what is recalled meanwhile never arrives.',
    notify: 'Notifications', notifyOn: 'Notifications are on', notifyOff: 'Notifications are blocked by the browser',
    unknownUser: 'There is no user “{user}” on this server', unknownLead: 'Check the address, or choose one of the demo users.', chooseUser: 'Choose a user',
    choose: 'Choose a conversation', empty: 'No messages yet. Say something.', earlier: 'Earlier messages',
    write: 'Write a message', send: 'Send', attach: 'Attach an image, a voice note or a file', remove: 'Remove', back: 'Back to the conversations',
    today: 'Today', yesterday: 'Yesterday', sending: 'Sending…', failed: 'Not sent', retry: 'Try again',
    image: 'Image', audio: 'Voice note', file: 'File', download: 'Download', loading: 'Loading…', notLoaded: 'It could not be loaded',
    tooLarge: '{name} is too large: a file has at most 8 MB.', select: 'Select', selected: '{n} selected', selectSome: 'Select the messages to recall', pick: 'Select the message by {name}', tooMany: 'At most {n} messages can be recalled at once.', someRefused: '{done} recalled, {refused} refused',
    menu: 'Message menu', menuOf: 'Menu of the message by {name}', reply: 'Reply',
    edit: 'Edit', editing: 'Editing your message', cancelEdit: 'Cancel the edit', edited: 'edited', forward: 'Forward', forwardTo: 'Forward to', forwarded: 'Forwarded',
    replyingTo: 'Replying to {name}', cancelReply: 'Cancel the reply', quoteGone: 'Message recalled', quoteUnknown: 'Message not loaded',
    recall: 'Recall', recallFor: 'Recall · {time} left', recallReason: 'Recall, with a reason…', checking: 'Asking whether it may be recalled…', whyNot: 'Why can’t it be recalled?',
    youRecalled: 'You recalled a message', recalledBy: '{actor} recalled a message', youRemoved: 'You removed a message of {sender}',
    removedBy: 'A message of {sender} was removed by {who}', removedYours: 'A message of yours was removed by {who}', removedUnknown: 'A message was removed by {who}', somebody: 'somebody', anAdmin: 'an admin', theOwner: 'the owner', theServer: 'the server', reedit: 'Re-edit',
    unread: '{n} unread', newMessage: '{name}: {text}', newElsewhere: 'New message from {name} in {room}', newOther: 'New message from {name}',
    reasonTitle: 'Why do you take it back?', reasonLead: 'The rules ask for a reason. It is kept in the ledger.', reasonLabel: 'Reason', cancel: 'Cancel', close: 'Close',
    refused: 'It can’t be recalled', wrong: 'That did not work', details: 'Which rule said so', rule: 'Rule', place: 'Place', code: 'Code', noRule: 'No rule allows it; what no rule allows is refused.',
    againIn: 'It is possible again in {time}.', againTooLate: 'When it is possible again, this message is too old.',
    already_recalled: 'This message is recalled already.', unavailable: 'The server could not answer. Nothing was changed; try again.',
    sweep: 'Remove what {name} sent…', sweepTitle: 'Everything that {name} sent here in the last hour', sweepCounting: 'Asking the rules…', sweepFound: '{n} can be removed; {already} are recalled already.', sweepNone: 'Nothing can be removed; {already} are recalled already.',
    sweepStay: '{n} stay', sweepStart: 'Remove {n}', sweepStop: 'Stop', sweepBar: 'Progress', sweepRuns: '{n} removed so far…', sweepWaits: '{n} removed so far. A limit of the rules is reached; it goes on in {time}.', sweepDone: '{n} removed.', sweepStopped: 'Stopped. {n} were removed, and stay so.',
    type_text: 'text', type_image: 'image', type_audio: 'voice note', type_video: 'video', type_file: 'file', type_location: 'location', type_custom: 'message', type_combine: 'messages', type_command: 'command',
    // the audit view
    audit: 'Audit', auditLead: 'For compliance: who recalled what, with the steps, filters, and a download. It shows texts only from the archive, and records who reads them.',
    filters: 'Filters', from: 'From', before: 'Before', anyone: 'anyone', anywhere: 'anywhere', anyRule: 'any rule', job: 'Job', anyJob: 'any, or none', stepsFilter: 'Steps', anySteps: 'any', stepsOpen: 'open', stepsFailed: 'failed, tried again',
    byWhom: 'Recalled by', sender: 'Sender', conversation: 'Conversation', show: 'Show', more: 'More', exportLines: 'Download as JSON lines', noneMatch: 'No recall matches.', listed: '{n} listed', andMore: '{n} listed, and more', lookedAt: 'Nothing in the part that was looked at. There is more.',
    archiveLead: 'The content is in the archive. Who reads it is recorded.', readArchive: 'Read the message', openFile: 'Open {name}', archivedEdit: 'Edited at {time}', olderEdits: 'Older edits are in the list of recalls.', keptUntil: 'Kept until {time}.', heldArchive: 'On hold: kept also after {time}.', hold: 'Hold', release: 'Release the hold',
    accesses: 'Accesses to the archive', accessesLead: 'recorded before anything is shown', noAccesses: 'Nobody has read the archive.', access_read: '{auditor} read message {id}', access_file: '{auditor} opened a file of message {id}', access_hold: '{auditor} put message {id} on hold', access_release: '{auditor} released message {id}',
    forgetTitle: 'Forget', forgetLead: 'choose a sender among the filters', forget: 'Forget the recalls of what {name} sent…', forgetYes: 'Forget', forgetAsk: 'This erases who recalled the messages of {name}, when and why, here and in the index. It cannot be undone. The messages stay recalled; the archive keeps its content until its retention ends.', forgetting: '{n} recalled messages are forgotten so far; {waiting} wait for open steps…', forgotten: '{n} recalled messages were forgotten.',
    restored: 'The index was restored: the list starts over.', emptyAudit: 'Recalls will be listed here.', failing: 'failed',
    // the operator's page
    plugin: 'Plugin', chat: 'Chat', nothingLost: 'Killing or upgrading the plugin loses nothing. Every answer it gave is on disk first; calls wait while it is away and are answered by the next process.',
    state: 'State', running: 'running', upgrading: 'upgrading', restarting: 'restarting', closed: 'closed', phase_failed: 'failed', pid: 'Process', version: 'Version', uptime: 'Up for',
    restarts: 'Restarts', upgrades: 'Upgrades', binary: 'Binary', lastError: 'Last error', kill: 'Kill the plugin', killed: 'Killed process {pid}. Calls wait; the next process answers them.', reload: 'Reload rules',
    back_again: 'Process {pid} answers now.', upgradeTo: 'Another binary', upgrade: 'Upgrade', upgradeHint: 'A file in {folder}', upgraded: 'Version {to} is in force. Calls were held for {ms} ms; none was lost.', notUpgraded: 'Not upgraded: {error}',
    rulesTitle: 'Rules in force', builtIn: 'built-in policy', rulesFrom: 'From {paths}', digest: 'Digest', loadedAt: 'In force since', permit: 'permit', forbid: 'forbid',
    lastReload: 'Last reload', reloadGood: 'The rule files are in force, without a complaint.', reloadNone: 'None yet.', reloadBad: 'Refused: the files have errors. The rules above stay in force.', reloadWarn: 'In force, with warnings.',
    recalls: 'Recalls', noRecalls: 'None yet. Take a message back in the chat.', by: '{actor} ({role}) took back a message of {sender} · {what} · {room}', ledger: 'Ledger', step: 'Step', outcome: 'Outcome', attempts: 'Attempts', at: 'At', reason: 'Reason',
    done: 'done', nothing_to_do: 'nothing to do', unsupported: 'not in this server', failedOutcome: 'failed, tried again', open: 'open', settled: 'settled', settling: 'under way',
    chartRecalls: 'Recalls', chartHeld: 'Held calls, longest wait', lastMinutes: 'last 10 minutes', chartRecallsSum: '{n} in the last 10 minutes', chartHeldSum: '{n} held, longest {ms} ms', 
    chartRecallsNone: 'No recalls in the last 10 minutes.', chartHeldNone: 'No call had to wait in the last 10 minutes.',
    waiting: 'waiting…', emptyState: 'The plugin’s process, version and restarts will be shown here.', emptyFolder: 'A file in the folder of the plugin',
    emptyRules: 'The rules that decide will be listed here.', emptyChart: 'Waiting for the first answer…',
    emptyExplained: 'The decision, and which parts of each rule hold, will be shown here.', emptyRecalls: 'Recalls and their ledgers will be listed here.',
    tryIt: 'Try the rules', tryLead: 'Pick a message and who would take it back. Nothing happens to the message.', message: 'Message', actor: 'Who asks', explain: 'Explain', noMessages: 'There is no message yet.', decides: 'decides', holds: 'holds', holdsNot: 'does not hold', permitted: 'permitted', refusedVerdict: 'refused', limitsNote: 'Limits on how often are not counted here.',
    ago_s: '{n} s', ago_m: '{n} min', ago_h: '{n} h', ago_d: '{n} d', off: 'The server does not answer.',
  },
  zh: {
    app: 'Recall', language: 'English', languageLabel: 'Switch to English',
    who: '你是谁？', whoLead: '一个可以撤回消息的小型聊天服务器。可用多个标签页或并排窗口，以不同的人登录。',
    demoNote: '演示账号没有密码：能访问这个地址的人，自称是谁就是谁。因此它只在本机监听。',
    sideBySide: 'Ann 和 Ben 并排', sideLead: '一边发送并撤回，一边看对方的屏幕。',
    continueAs: '以 {name} 继续', operator: '运维', operatorLead: '背后的插件：状态、规则、撤回记录。杀掉它，看看什么也不会丢。',
    conversations: '会话', messages: '与 {name} 的消息', switchUser: '切换用户', single: '单聊', group: '群聊', chatroom: '聊天室',
    members: '{n} 位成员', you: '你', youAre: '你在这里是{role}', owner: '群主', admin: '管理员', member: '成员', system: '服务器',
    online: '在线', offline: '离线', onlineSwitch: '在线', connecting: '正在连接…',
    offlineBanner: '你已离线。期间发来的消息会等你；期间撤回的消息永远不会到达。',
    notify: '通知', notifyOn: '通知已开启', notifyOff: '浏览器禁止了通知',
    unknownUser: '这台服务器上没有用户“{user}”', unknownLead: '请检查地址，或选择一个演示用户。', chooseUser: '选择用户',
    choose: '选择一个会话', empty: '还没有消息，说点什么吧。', earlier: '更早的消息',
    write: '输入消息', send: '发送', attach: '添加图片、语音或文件', remove: '移除', back: '返回会话列表',
    today: '今天', yesterday: '昨天', sending: '正在发送…', failed: '未发送', retry: '重试',
    image: '图片', audio: '语音', file: '文件', download: '下载', loading: '正在加载…', notLoaded: '无法加载',
    tooLarge: '{name} 太大：文件最大 8 MB。', select: '多选', selected: '已选 {n} 条', selectSome: '选择要撤回的消息', pick: '选择 {name} 的消息', tooMany: '一次最多撤回 {n} 条消息。', someRefused: '已撤回 {done} 条，{refused} 条被拒绝',
    menu: '消息菜单', menuOf: '{name} 的消息的菜单', reply: '回复',
    edit: '编辑', editing: '正在编辑你的消息', cancelEdit: '取消编辑', edited: '已编辑', forward: '转发', forwardTo: '转发给', forwarded: '转发的消息',
    replyingTo: '回复 {name}', cancelReply: '取消回复', quoteGone: '消息已撤回', quoteUnknown: '消息未加载',
    recall: '撤回', recallFor: '撤回 · 剩余 {time}', recallReason: '撤回（需填写原因）…', checking: '正在询问能否撤回…', whyNot: '为什么不能撤回？',
    youRecalled: '你撤回了一条消息', recalledBy: '{actor}撤回了一条消息', youRemoved: '你移除了 {sender} 的一条消息',
    removedBy: '{sender} 的一条消息被{who}移除', removedYours: '你的一条消息被{who}移除', removedUnknown: '一条消息被{who}移除', somebody: '某人', anAdmin: '管理员', theOwner: '群主', theServer: '服务器', reedit: '重新编辑',
    unread: '{n} 条未读', newMessage: '{name}：{text}', newElsewhere: '{name} 在 {room} 发来新消息', newOther: '{name} 发来新消息',
    reasonTitle: '为什么撤回？', reasonLead: '规则要求填写原因，它会记入账本。', reasonLabel: '原因', cancel: '取消', close: '关闭',
    refused: '不能撤回', wrong: '没有成功', details: '是哪条规则', rule: '规则', place: '位置', code: '代码', noRule: '没有规则允许；没有规则允许的一律拒绝。',
    againIn: '{time} 后可以再撤回。', againTooLate: '等到可以再撤回时，这条消息已超过时限。',
    already_recalled: '这条消息已经撤回。', unavailable: '服务器没能回答。什么都没有改变，请重试。',
    audit: '审计', auditLead: '合规人员查看谁撤回了什么，以及各步骤、筛选和下载。消息文字只来自归档，谁读取都会被记录。',
    filters: '筛选', from: '从', before: '早于', anyone: '任何人', anywhere: '任何会话', anyRule: '任何规则', job: '批量任务', anyJob: '任何', stepsFilter: '步骤', anySteps: '任何', stepsOpen: '未完成', stepsFailed: '失败，会重试',
    byWhom: '撤回者', sender: '发送者', conversation: '会话', show: '显示', more: '更多', exportLines: '下载为 JSON 行', noneMatch: '没有符合的撤回。', listed: '列出 {n} 条', andMore: '列出 {n} 条，还有更多', lookedAt: '已查看的部分没有符合的记录，还有更多。',
    archiveLead: '内容在归档中。谁读取都会被记录。', readArchive: '读取消息', openFile: '打开 {name}', archivedEdit: '{time} 编辑为', olderEdits: '更早的编辑在撤回列表中。', keptUntil: '保留到 {time}。', heldArchive: '已冻结：{time} 之后仍保留。', hold: '冻结', release: '解除冻结',
    accesses: '归档访问记录', accessesLead: '先记录，后显示', noAccesses: '还没有人读取归档。', access_read: '{auditor} 读取了消息 {id}', access_file: '{auditor} 打开了消息 {id} 的文件', access_hold: '{auditor} 冻结了消息 {id}', access_release: '{auditor} 解除了消息 {id} 的冻结',
    forgetTitle: '遗忘', forgetLead: '先在筛选中选择发送者', forget: '遗忘 {name} 所发消息的撤回记录…', forgetYes: '遗忘', forgetAsk: '这会在此处和索引中抹去谁、何时、为何撤回了 {name} 的消息，且无法恢复。消息仍是已撤回状态；归档内容保留到期限结束。', forgetting: '已遗忘 {n} 条撤回记录；{waiting} 条等待未完成的步骤…', forgotten: '已遗忘 {n} 条撤回记录。',
    restored: '索引已被恢复：列表重新开始。', emptyAudit: '这里会列出撤回记录。', failing: '失败',
    sweep: '移除 {name} 发送的内容…', sweepTitle: '{name} 最近一小时在这里发送的全部内容', sweepCounting: '正在询问规则…', sweepFound: '可移除 {n} 条；{already} 条已撤回。', sweepNone: '没有可移除的消息；{already} 条已撤回。',
    sweepStay: '{n} 条保留', sweepStart: '移除 {n} 条', sweepStop: '停止', sweepBar: '进度', sweepRuns: '已移除 {n} 条…', sweepWaits: '已移除 {n} 条。已达规则的次数限制，{time} 后继续。', sweepDone: '已移除 {n} 条。', sweepStopped: '已停止。已移除的 {n} 条不会恢复。',
    type_text: '文字', type_image: '图片', type_audio: '语音', type_video: '视频', type_file: '文件', type_location: '位置', type_custom: '消息', type_combine: '合并消息', type_command: '指令',
    plugin: '插件', chat: '聊天', nothingLost: '杀掉或升级插件不会丢失任何东西。它的每个回答都先写入磁盘；它不在时调用会等待，由下一个进程回答。',
    state: '状态', running: '运行中', upgrading: '升级中', restarting: '重启中', closed: '已关闭', phase_failed: '失败', pid: '进程', version: '版本', uptime: '已运行',
    restarts: '重启', upgrades: '升级', binary: '程序', lastError: '最近的错误', kill: '杀掉插件', killed: '已杀掉进程 {pid}。调用会等待，由下一个进程回答。', reload: '重新加载规则',
    back_again: '进程 {pid} 现在在回答。', upgradeTo: '另一个程序', upgrade: '升级', upgradeHint: '{folder} 中的文件', upgraded: '版本 {to} 已生效。调用等待了 {ms} 毫秒，无一丢失。', notUpgraded: '没有升级：{error}',
    rulesTitle: '生效的规则', builtIn: '内置策略', rulesFrom: '来自 {paths}', digest: '摘要', loadedAt: '生效时间', permit: '允许', forbid: '禁止',
    lastReload: '最近的加载', reloadGood: '规则文件已生效，没有问题。', reloadNone: '还没有。', reloadBad: '被拒绝：文件有错误。上面的规则继续生效。', reloadWarn: '已生效，但有警告。',
    recalls: '撤回记录', noRecalls: '还没有。去聊天里撤回一条消息。', by: '{actor}（{role}）撤回了 {sender} 的一条消息 · {what} · {room}', ledger: '账本', step: '步骤', outcome: '结果', attempts: '次数', at: '时间', reason: '原因',
    done: '完成', nothing_to_do: '无需处理', unsupported: '本服务器没有', failedOutcome: '失败，会重试', open: '未完成', settled: '已完成', settling: '进行中',
    chartRecalls: '撤回', chartHeld: '等待的调用，最长等待', lastMinutes: '最近 10 分钟', chartRecallsSum: '最近 10 分钟 {n} 次', chartHeldSum: '{n} 次等待，最长 {ms} 毫秒',
    chartRecallsNone: '最近 10 分钟没有撤回。', chartHeldNone: '最近 10 分钟没有调用需要等待。',
    waiting: '等待中…', emptyState: '这里会显示插件的进程、版本和重启次数。', emptyFolder: '插件所在文件夹中的文件',
    emptyRules: '这里会列出生效的规则。', emptyChart: '正在等待第一个回答…',
    emptyExplained: '这里会显示决定，以及每条规则的哪些部分成立。', emptyRecalls: '这里会列出撤回记录及其账本。',
    tryIt: '试试规则', tryLead: '选一条消息和撤回的人。消息不会有任何变化。', message: '消息', actor: '谁来撤回', explain: '解释', noMessages: '还没有消息。', decides: '决定', holds: '成立', holdsNot: '不成立', permitted: '允许', refusedVerdict: '拒绝', limitsNote: '这里不计次数限制。',
    ago_s: '{n} 秒', ago_m: '{n} 分钟', ago_h: '{n} 小时', ago_d: '{n} 天', off: '服务器没有回答。',
  },
};

const KEY = 'language';
let current = localStorage.getItem(KEY) || (navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en');
if (!words[current]) current = 'en';

// lang is the language tag of the page.
export const lang = () => (current === 'zh' ? 'zh-Hans' : 'en');

// t is a text of the page. A value that is put in is text like any other.
export function t(key, values = {}) {
  const text = words[current][key] ?? words.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

// pick is the text of the page's language, else of the first part of its tag, else the English one, else the first by tag.
export function pick(texts) {
  if (!texts) return '';
  const tag = lang();
  return texts[tag] ?? texts[tag.split('-')[0]] ?? texts.en ?? texts[Object.keys(texts).sort()[0]];
}

// has tells whether there is a text of that name.
export const has = (key) => key in words.en;

// translate puts the texts in place that the document names: data-t the content, data-t-label the label.
export function translate(root = document) {
  document.documentElement.lang = lang();
  for (const node of root.querySelectorAll('[data-t]')) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll('[data-t-label]')) {
    node.setAttribute('aria-label', t(node.dataset.tLabel));
    node.title = t(node.dataset.tLabel);
  }
  for (const node of root.querySelectorAll('[data-t-placeholder]')) node.placeholder = t(node.dataset.tPlaceholder);
}

// languageSwitch makes the button change the language, and calls changed after it.
export function languageSwitch(button, changed) {
  const show = () => {
    button.textContent = t('language');
    button.setAttribute('aria-label', t('languageLabel'));
    button.lang = current === 'zh' ? 'en' : 'zh-Hans';
    translate();
  };
  const set = (to) => {
    current = to;
    show();
    changed();
  };
  button.addEventListener('click', () => {
    localStorage.setItem(KEY, current === 'zh' ? 'en' : 'zh');
    set(current === 'zh' ? 'en' : 'zh');
  });
  addEventListener('storage', (e) => { // another tab, or the frame beside this one
    if (e.key === KEY && words[e.newValue] && e.newValue !== current) set(e.newValue);
  });
  show();
}

export const clockTime = (date) => new Intl.DateTimeFormat(lang(), { hour: 'numeric', minute: '2-digit' }).format(date);

// day is a heading over the messages of a day.
export function day(date) {
  const start = (d) => new Date(d.getFullYear(), d.getMonth(), d.getDate()).getTime();
  const days = Math.round((start(new Date()) - start(date)) / 86400e3);
  if (days === 0) return t('today');
  if (days === 1) return t('yesterday');
  return new Intl.DateTimeFormat(lang(), { year: 'numeric', month: 'long', day: 'numeric' }).format(date);
}

// left is what remains of a window, as on a kitchen clock.
export function left(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  if (s >= 2 * 86400) return t('ago_d', { n: Math.floor(s / 86400) });
  const two = (n) => String(n).padStart(2, '0');
  const clock = `${Math.floor(s / 60) % 60}:${two(s % 60)}`;
  return s >= 3600 ? `${Math.floor(s / 3600)}:${clock.padStart(5, '0')}` : clock;
}

// span is a length of time in one unit.
export function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return t('ago_s', { n: s });
  if (s < 3600) return t('ago_m', { n: Math.floor(s / 60) });
  if (s < 2 * 86400) return t('ago_h', { n: Math.floor(s / 3600) });
  return t('ago_d', { n: Math.floor(s / 86400) });
}

// missing lists the texts that one of the languages lacks.
export const missing = () => {
  const [en, zh] = [Object.keys(words.en), Object.keys(words.zh)];
  return [...en.filter((key) => !(key in words.zh)), ...zh.filter((key) => !(key in words.en))];
};
