-- Stream management (XEP-0198) keeps what a client has not acknowledged, to send it again when the client comes back.
local st = require "util.stanza";

local stanzas = module:require "stanzas";

-- Where a message may be inside of another one: carbons and results of an archive.
local wrappers = { "{urn:xmpp:carbons:2}received/", "{urn:xmpp:carbons:2}sent/", "{urn:xmpp:mam:2}result/" };

local function inner(stanza)
	for _, wrapper in ipairs(wrappers) do
		local found = stanza:find(wrapper.."{urn:xmpp:forward:0}forwarded/{jabber:client}message");
		if found then return found; end
	end
	return stanza;
end

-- scrub empties the messages for which matches is true in what a session keeps, and returns how many there were.
local function scrub(session, matches, recalled_at)
	local queue, n = session.outgoing_stanza_queue, 0;
	if not queue then return n; end
	for _, stanza in queue:resume() do
		local m = st.is_stanza(stanza) and stanza.name == "message" and inner(stanza);
		if m and not stanzas.is_tombstone(m) and matches(m) then
			m:maptags(function () return nil; end);
			m:tag("retracted", { xmlns = stanzas.xmlns.retract1, stamp = recalled_at }):up();
			n = n + 1;
		end
	end
	return n;
end

-- scrub_all does so for all sessions of this server, twice: a correction may have overtaken its message.
local function scrub_all(matches, recalled_at)
	local n = 0;
	for _ = 1, 2 do
		for _, session in pairs(prosody.full_sessions) do
			n = n + scrub(session, matches, recalled_at);
		end
	end
	return n;
end

return { scrub_all = scrub_all };
