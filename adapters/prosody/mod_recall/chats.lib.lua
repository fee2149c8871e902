-- Messages between two users, on a VirtualHost.
local dt = require "util.datetime";
local jid = require "util.jid";
local new_id = require "util.id".medium;
local st = require "util.stanza";

local await = module:require "index".await;
local erase = module:require "erase";
local facts = module:require "facts";
local judge = module:require "judge";
local lookup = module:require "lookup";
local stanzas = module:require "stanzas";
local streams = module:require "streams";

local max_ids = 1000; -- that one call may ask for
local slack = 5; -- seconds by which times of the archive and of Recall may differ

local function is_room_host(host) return prosody.hosts[host] and prosody.hosts[host].modules.muc ~= nil; end

-- A private message of a room: it comes from, or goes to, an occupant. The room knows who that is, and nobody else.
local function is_private(stanza, occupant)
	return jid.resource(occupant)
		and (is_room_host(jid.host(occupant)) or stanza:get_child("x", stanzas.xmlns.muc_user)) and true or false;
end

return function (module, recall)
	local archive = module:open_store(module:get_option_string("archive_store", "archive"), "archive");
	local offline = module:open_store("offline", "archive");
	erase.prepare();
	module:add_feature(stanzas.xmlns.retract0);
	module:add_feature(stanzas.xmlns.retract1);

	local function here(address) return jid.host(address) == module.host; end

	-- archived iterates over what the archive of a user has of a conversation: key, stanza, time.
	local function archived(owner, with, start)
		if not here(owner) then return function () end; end
		local found, err = archive:find(jid.node(owner), { with = with, start = start });
		if not found and err and err ~= "item-not-found" then error("cannot read the archive of "..owner..": "..err, 0); end
		return found or function () end;
	end

	local function from(stanza) return jid.bare(stanza.attr.from or ""); end

	-- original finds the message with a client's id in the archives, or the one that it corrects. It returns the message
	-- with its corrections, its time and its sender. The message may be a tombstone. It is by author, if that is given.
	local function original(sender, peer, id, author)
		for _, owner in ipairs { sender, peer } do
			local by_id, hit = {}, nil; -- by sender and id: the message with its corrections
			for _, s, when in archived(owner, owner == sender and peer or sender) do
				if facts.shows(s) or stanzas.is_tombstone(s) then
					local key = from(s).."/";
					local replaced = stanzas.replaces(s);
					local chain = replaced and by_id[key..replaced];
					chain = chain or { when = when, sender = from(s) };
					chain[#chain + 1] = s;
					for _, known in ipairs(stanzas.ids(s)) do
						by_id[key..known] = chain;
						if known == id and (not author or author == chain.sender) then hit = chain; end
					end
				end
			end
			if hit then return hit; end
		end
	end

	local function message(sender, peer, list, when)
		local id = stanzas.client_id(list[1]);
		local pair = facts.pair(sender, peer);
		return id and #id <= facts.max_id and pair and facts.message(recall.sidecar.tenant,
			facts.chat_key(sender, peer, id), id, { type = "single", id = pair }, sender, list, when) or nil;
	end

	-- Retractions ------------------------------------------------------------------------------------------------

	local function retract(origin, stanza, sender, peer, target)
		local pair = facts.pair(sender, peer);
		if target == "" or #target > facts.max_id or not pair then
			return stanzas.refuse(origin, stanza, judge.not_found);
		end
		-- Whose message is it? Most often the sender's own.
		local ids = { facts.chat_key(sender, peer, target), facts.chat_key(peer, sender, target) };
		return judge.look_up(recall, origin, stanza, ids, function (known)
			local t = { message_id = known, conversation = { type = "single", id = pair }, role = "member" };
			if not known then
				local found, err = lookup(sender, original, sender, peer, target);
				if err then
					stanzas.refuse(origin, stanza, err);
					return;
				end
				local other = found and (found.sender == sender and peer or sender);
				t.message = found and not stanzas.is_tombstone(found[1]) and message(found.sender, other, found, found.when) or nil;
				local id = found and stanzas.client_id(found[1]);
				if not id then
					stanzas.refuse(origin, stanza, judge.not_found);
					return;
				end
				t.message_id = facts.chat_key(found.sender, other, id);
			end
			return judge.request(recall, origin, stanza, sender, t);
		end);
	end

	-- Messages ---------------------------------------------------------------------------------------------------

	-- Recalled messages whose steps came while a correction waited for its answer.
	local recalled = require "util.cache".new(10000);

	local conflict = { type = "cancel", condition = "conflict", text = "This message was recalled." };

	-- correct judges a correction: the message that it corrects must not have been recalled. The correction is no message
	-- of its own, so that it goes with that message and does not extend its window.
	local function correct(origin, stanza, sender, peer)
		local key = facts.chat_key(sender, peer, stanzas.replaces(stanza));
		local state = await(recall.index.state({ key }), origin);
		state = state and state[key];
		if state == "recalled" or recalled:get(key) then return stanzas.refuse(origin, stanza, conflict); end
		local attachments = facts.files { stanza };
		if state == "live" and not attachments then return; end
		local found, too_many = lookup(sender, original, sender, peer, stanzas.replaces(stanza), sender);
		if too_many then return stanzas.refuse(origin, stanza, too_many); end
		if found and stanzas.is_tombstone(found[1]) then
			return stanzas.refuse(origin, stanza, conflict);
		end
		local chain = found or {};
		chain[#chain + 1] = stanza;
		local m = message(sender, peer, chain, chain.when);
		if not m then return; end -- its message is older than mod_recall, and has no id that Recall takes
		local status, err = await(recall.index.put("index", m), origin);
		if err then return stanzas.refuse(origin, stanza, err); end
		if status == "recalled" or recalled:get(m.id) then return stanzas.refuse(origin, stanza, conflict); end
		if attachments and found then
			status, err = await(recall.index.put("amend",
				{ tenant = m.tenant, message_id = m.id, attachments = m.attachments }), origin);
			if status == "recalled" then err = conflict; end
			if err then return stanzas.refuse(origin, stanza, err); end
		end
	end

	local function between_users(sender, peer)
		return not is_room_host(jid.host(peer)) and jid.node(peer) and jid.node(sender);
	end

	-- far is the address of who is not the user of this host: it may be that of an occupant of a room.
	local function on_retraction(origin, stanza, sender, peer, far)
		local target = stanzas.retracts(stanza);
		if not target then return; end
		if is_private(stanza, far) then
			return stanzas.refuse(origin, stanza, { type = "cancel", condition = "item-not-found",
				text = "Private messages of rooms can't be recalled.", code = "not_found" });
		end
		if between_users(sender, peer) then return retract(origin, stanza, sender, peer, target); end
	end

	local function on_message(origin, stanza, sender, peer, far)
		if is_private(stanza, far) or not between_users(sender, peer) or not facts.shows(stanza) then return; end
		if not stanzas.client_id(stanza) then stanza.attr.id = new_id(); end
		if #stanzas.client_id(stanza) > facts.max_id then
			return stanzas.refuse(origin, stanza, { type = "modify", condition = "bad-request",
				text = ("The id of the message has more than %d bytes."):format(facts.max_id) });
		end
		local m = message(sender, peer, { stanza });
		if not m then return; end -- addresses that are too long: see the README
		if stanzas.replaces(stanza) then return correct(origin, stanza, sender, peer); end
		local status, err = await(recall.index.put("index", m), origin);
		if status == "recalled" then err = conflict; end
		return err and stanzas.refuse(origin, stanza, err) or nil;
	end

	-- Messages of users of this host.
	local function outgoing(handle)
		return function (event)
			local origin, stanza = event.origin, event.stanza;
			if origin.recall then return; end -- our own notice
			stanzas.strip(stanza);
			local sender = jid.bare(stanza.attr.from or origin.full_jid);
			local peer = jid.bare(stanza.attr.to or sender);
			local host = prosody.hosts[jid.host(peer)];
			-- No user of this server is a room. Elsewhere, a room judges what it gets.
			if stanza.attr.type == "groupchat" and not (host and host.type == "local") then return; end
			return handle(origin, stanza, sender, peer, stanza.attr.to or peer);
		end;
	end

	-- Messages of other servers and of external components do not pass pre-message.
	local function incoming(handle)
		return function (event)
			local origin, stanza = event.origin, event.stanza;
			local component = origin.type == "component" and origin.conn; -- a room is a component without a connection
			if not component and origin.type ~= "s2sin" and origin.type ~= "s2sin_unauthed" then return; end
			if stanza.attr.type == "groupchat" then return; end -- of a room elsewhere
			stanzas.strip(stanza);
			local sender = stanza.attr.from;
			return handle(origin, stanza, jid.bare(sender), jid.bare(stanza.attr.to), sender);
		end;
	end

	-- Retractions come before mod_blocklist (priority 100): a user who blocks somebody can still take back what they sent
	-- to them. Messages come before the archive (priority 0), so that nothing is archived, delivered or kept that Recall
	-- does not know.
	for _, kind in ipairs { "bare", "full" } do
		module:hook("pre-message/"..kind, outgoing(on_retraction), 110);
		module:hook("pre-message/"..kind, outgoing(on_message), 10);
		module:hook("message/"..kind, incoming(on_retraction), 110);
		module:hook("message/"..kind, incoming(on_message), 10);
	end

	-- What waited for a user while its recall was not carried out yet is not delivered.
	module:hook("message/offline/broadcast", function (event)
		local user = event.origin.username;
		local address = user.."@"..module.host;
		local pages, page = {}, { keys = {}, ids = {} };
		for key, s in offline:find(user) or function () end do
			local id = stanzas.replaces(s) or stanzas.client_id(s);
			if id and facts.shows(s) then
				if #page.ids % max_ids == 0 then
					page = { keys = {}, ids = {} };
					pages[#pages + 1] = page;
				end
				page.keys[#page.keys + 1] = key;
				page.ids[#page.ids + 1] = facts.chat_key(from(s), address, id);
			end
		end
		for _, p in ipairs(pages) do
			local states = await(recall.index.state(p.ids), event.origin) or {};
			for i, id in ipairs(p.ids) do
				if states[id] == "recalled" then offline:delete(user, { key = p.keys[i] }); end
			end
		end
	end, 1);

	-- Steps ------------------------------------------------------------------------------------------------------

	local steps = {};

	local function parties(event)
		local a, b = event.message.conversation.id:match("^(%S+) (%S+)$");
		local sender = event.message.sender;
		return sender, sender == a and b or a;
	end

	-- matcher recognizes a message, and its corrections, among stanzas in their order. Ids are unique only among the
	-- messages from one user to another one. archived_too is true where the message itself may be missing.
	local function matcher(event, archived_too)
		local sender, peer = parties(event);
		local ref = event.message.ref;
		local function direction(s)
			return from(s).." "..jid.bare(s.attr.to or s.attr.from or "");
		end
		local way = sender.." "..peer;
		return stanzas.family(function (s)
			return stanzas.client_id(s) == ref and direction(s) == way;
		end, direction, way, archived_too and function ()
			return original(sender, peer, ref, sender) or { st.message { id = ref, from = sender, to = peer } };
		end);
	end

	function steps.notify(delivery)
		local event = delivery.event;
		local sender, peer = parties(event);
		local owner = here(sender) and sender or not recall.steps.hosts[jid.host(sender)] and here(peer) and peer;
		if not owner then return "nothing_to_do"; end -- the host of the sender does it
		local id = stanzas.notice_id(event);
		if recall.steps.may_have_run(delivery) then
			for _, s in archived(owner, owner == sender and peer or sender, dt.parse(event.recalled_at) - slack) do
				if s.attr.id == id and stanzas.retracts(s) then return "done"; end
			end
		end
		local notice = stanzas.notice(st.message { type = "chat", id = id, from = sender, to = peer }, event.message.ref);
		if owner == sender then
			-- As if the sender had sent it: archives, offline store, all resources of the peer, carbons to all of the sender's.
			prosody.core_post_stanza({ type = "c2s", recall = true, username = jid.node(sender), host = module.host,
				full_jid = sender.."/recall", send = function () end, log = module._log, priority = 0 }, notice, true);
		else
			module:send(notice);
		end
		return "done";
	end

	-- remaining lists what an archive still has of a recalled message, by key.
	local function remaining(event, owner, with, start)
		return stanzas.collect(matcher(event), function () return archived(owner, with, start); end);
	end

	-- clean replaces a message by tombstones in an archive, and returns how many.
	local function clean(event, owner, with, start)
		local found, n = remaining(event, owner, with, start), 0;
		for key, s in pairs(found) do
			assert(archive:set(jid.node(owner), key, stanzas.tombstone(s, event.recalled_at)));
			n = n + 1;
		end
		if n > 0 and next(remaining(event, owner, with, start)) then
			error("the archive of "..owner.." still has the message", 0);
		end
		return n;
	end

	function steps.history(delivery)
		local event, n = delivery.event, 0;
		recalled:set(event.message.id, true);
		local sender, peer = parties(event);
		for owner, with in pairs { [sender] = peer, [peer] = sender } do
			local start = dt.parse(event.message.sent_at) - slack;
			local cleaned = clean(event, owner, with, start);
			if cleaned == 0 then cleaned = clean(event, owner, with); end -- the clock may have been set meanwhile
			n = n + cleaned;
		end
		return n > 0 and "done" or "nothing_to_do";
	end

	function steps.offline(delivery)
		local event = delivery.event;
		local _, peer = parties(event);
		if not here(peer) then return "nothing_to_do"; end
		local function keys()
			return stanzas.collect(matcher(event, true), function ()
				return offline:find(jid.node(peer)) or function () end;
			end);
		end
		local found = keys();
		for key in pairs(found) do assert(offline:delete(jid.node(peer), { key = key })); end
		if next(found) and next(keys()) then error("the offline messages of "..peer.." still have the message", 0); end
		return next(found) and "done" or "nothing_to_do";
	end

	function steps.roaming(delivery)
		local event = delivery.event;
		recalled:set(event.message.id, true);
		local n = streams.scrub_all(matcher(event, true), event.recalled_at);
		return n > 0 and "done" or "nothing_to_do";
	end

	recall.steps.hosts[module.host] = steps;
end;
