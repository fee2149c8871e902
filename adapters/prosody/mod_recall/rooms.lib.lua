-- Messages of rooms, on a MUC component. Their ids are those that the archive of the room gave them.
local dt = require "util.datetime";
local jid = require "util.jid";
local st = require "util.stanza";

local await = module:require "index".await;
local erase = module:require "erase";
local facts = module:require "facts";
local judge = module:require "judge";
local lookup = module:require "lookup";
local stanzas = module:require "stanzas";
local streams = module:require "streams";

local slack = 5; -- seconds by which times of the archive and of Recall may differ

return function (module, recall)
	local mod_muc = module:depends("muc");
	local log = module:open_store(module:get_option_string("muc_log_store", "muc_log"), "archive");
	erase.prepare();
	module:hook("muc-disco#info", function (event)
		for _, name in ipairs { "retract0", "retract1", "moderate0", "moderate1" } do
			event.reply:tag("feature", { var = stanzas.xmlns[name] }):up();
		end
	end);

	local has_ids = module:get_option_boolean("muc_occupant_id", true);

	-- from is who wrote a message of the room: by the id that the room gave the occupant (XEP-0421), since somebody else
	-- can take a nick.
	local function from(stanza)
		local tag = stanza:get_child("occupant-id", stanzas.xmlns.occupant_id);
		return has_ids and tag and tag.attr.id or stanza.attr.from;
	end
	local function who(room, occupant) return has_ids and room:get_occupant_id(occupant) or occupant.nick; end

	local function archived(address, query)
		local found, err = log:find(jid.node(address), query);
		if not found and err and err ~= "item-not-found" then error("cannot read the archive of "..address..": "..err, 0); end
		return found or function () end;
	end

	-- original finds the message of an author with a client's id, or the one that it corrects. It returns the message
	-- with its corrections, its key and its time. The message may be a tombstone.
	local function original(address, author, id)
		local by_id = {};
		for key, s, when in archived(address) do
			if from(s) == author and (facts.shows(s) or stanzas.is_tombstone(s)) then
				local replaced = stanzas.replaces(s);
				local chain = replaced and by_id[replaced] or { key = key, when = when };
				chain[#chain + 1] = s;
				for _, known in ipairs(stanzas.ids(s)) do by_id[known] = chain; end
			end
		end
		return by_id[id];
	end

	-- root finds the message with a key of the archive, or the one that it corrects, as original does.
	local function root(address, key)
		local s, when = log:get(jid.node(address), key);
		if not s or not facts.shows(s) and not stanzas.is_tombstone(s) then return; end
		return stanzas.replaces(s) and original(address, from(s), stanzas.client_id(s)) or { s, key = key, when = when };
	end

	local function message(address, key, sender, list, when)
		return #address <= facts.max_id and facts.message(recall.sidecar.tenant, facts.room_key(address, key), key,
			{ type = "group", id = address }, sender, list, when) or nil;
	end

	-- author is the address of who wrote a message of the archive, if that is an occupant.
	local function author(room, s)
		for _, occupant in room:each_occupant() do
			if who(room, occupant) == from(s) then return occupant.bare_jid; end
		end
	end

	-- Recalls ----------------------------------------------------------------------------------------------------

	-- role is what somebody is in the room at this moment: by affiliation, and moderators count as admins.
	local function role(room, real)
		local affiliation = room:get_affiliation(real);
		if affiliation == "outcast" then return "none"; end
		if affiliation == "owner" or affiliation == "admin" then return affiliation; end
		local nick = room:get_occupant_jid(real);
		if nick and room:get_role(nick) == "moderator" then return "admin"; end
		return (nick or affiliation == "member") and "member" or "none";
	end

	local function request(origin, stanza, room, key, reason)
		local real = stanza.attr.from;
		if key == "" or #key > facts.max_id then return stanzas.refuse(origin, stanza, judge.not_found); end
		local id = facts.room_key(room.jid, key);
		return judge.look_up(recall, origin, stanza, { id }, function (known)
			local target = { message_id = id, conversation = { type = "group", id = room.jid }, role = role(room, real) };
			if not known then
				local found, err = lookup(jid.bare(real), root, room.jid, key);
				if err then
					stanzas.refuse(origin, stanza, err);
					return;
				end
				local sender = found and not stanzas.is_tombstone(found[1]) and author(room, found[1]);
				if found then target.message_id = facts.room_key(room.jid, found.key); end
				if sender then target.message = message(room.jid, found.key, sender, found, found.when); end
			end
			return judge.request(recall, origin, stanza, jid.bare(real), target, reason);
		end);
	end

	-- An occupant retracts their own message. The room has checked before (priority 50) that they may speak.
	module:hook("muc-occupant-groupchat", function (event)
		stanzas.strip(event.stanza);
		local target = stanzas.retracts(event.stanza);
		if target then return request(event.origin, event.stanza, event.room, target); end
	end, 41);

	local function moderate(event)
		local origin, stanza = event.origin, event.stanza;
		local tag = stanza.tags[1];
		local order = tag;
		if tag.name == "apply-to" then order = tag:get_child("moderate", stanzas.xmlns.moderate0); end
		if not order then return; end
		local room = mod_muc.get_room_from_jid(stanza.attr.to);
		if not room then return stanzas.refuse(origin, stanza, judge.not_found); end
		local xmlns = stanzas.xmlns;
		if not order:get_child("retract", xmlns.retract0) and not order:get_child("retract", xmlns.retract1) then
			return stanzas.refuse(origin, stanza, { type = "cancel", condition = "feature-not-implemented" });
		end
		return request(origin, stanza, room, tag.attr.id or "", order:get_child_text("reason"));
	end
	module:hook("iq-set/bare/"..stanzas.xmlns.fasten..":apply-to", moderate, 10);
	module:hook("iq-set/bare/"..stanzas.xmlns.moderate1..":moderate", moderate, 10);

	-- Messages ---------------------------------------------------------------------------------------------------

	local arrivals = setmetatable({}, { __mode = "k" }); -- by stanza: who sent it, and what it corrects

	local recent = require "util.cache".new(10000); -- keys of messages, by room, sender and client's id
	local function recent_key(room, sender, id) return facts.short(room.jid.." "..sender.." "..id); end

	local recalled = require "util.cache".new(10000); -- messages whose steps came while a correction waited

	local conflict = { type = "cancel", condition = "conflict", text = "This message was recalled." };

	-- Before the room archives it (priority 0 of muc-broadcast-message): a correction of a recalled message goes nowhere.
	module:hook("muc-occupant-groupchat", function (event)
		local origin, stanza, room = event.origin, event.stanza, event.room;
		local arrival = { origin = origin, real = stanza.attr.from };
		arrivals[stanza] = arrival;
		local replaced = facts.shows(stanza) and stanzas.replaces(stanza);
		if not replaced or not event.occupant then return; end
		local sender = who(room, event.occupant);
		local key = not facts.files { stanza } and recent:get(recent_key(room, sender, replaced));
		local found, err = key and { key = key }, nil;
		if not key then found, err = lookup(jid.bare(stanza.attr.from), original, room.jid, sender, replaced); end
		if err then return stanzas.refuse(origin, stanza, err); end
		if not found then return; end
		local id = facts.room_key(room.jid, found.key);
		local gone = found[1] and stanzas.is_tombstone(found[1]);
		local states = not gone and await(recall.index.state({ id }), origin) or {};
		if gone or states[id] == "recalled" or recalled:get(id) then
			return stanzas.refuse(origin, stanza, conflict);
		end
		arrival.corrects = found;
	end, 40);

	-- take_back removes a message that was refused after the room had archived it.
	local function take_back(room, key)
		log:delete(jid.node(room.jid), { key = key });
		local history = room._history or {};
		for i = #history, 1, -1 do
			if stanzas.stanza_id(history[i].stanza, room.jid) == key then table.remove(history, i); end
		end
	end

	-- After the room has archived it, which makes its id, and before anybody gets it.
	module:hook("muc-broadcast-message", function (event)
		local room, stanza = event.room, event.stanza;
		local arrival = arrivals[stanza];
		local key = arrival and facts.shows(stanza) and stanzas.stanza_id(stanza, room.jid);
		if not key then return; end
		local status, err;
		local sender = jid.bare(arrival.real);
		local chain = arrival.corrects;
		if not chain then
			local m = message(room.jid, key, sender, { stanza });
			if not m then return; end
			status, err = await(recall.index.put("index", m), arrival.origin);
		elseif facts.files { stanza } then -- a correction has no entry of its own: its files belong to the message
			chain[#chain + 1] = stanza;
			local m = message(room.jid, chain.key, sender, chain, chain.when);
			if not m then return; end
			status, err = await(recall.index.put("index", m), arrival.origin);
			if not err then
				status, err = await(recall.index.put("amend",
					{ tenant = m.tenant, message_id = m.id, attachments = m.attachments }), arrival.origin);
			end
		end
		if status == "recalled" then err = conflict; end
		if not err then
			for _, id in ipairs(stanzas.ids(stanza)) do
				recent:set(recent_key(room, from(stanza), id), chain and chain.key or key);
			end
			return;
		end
		take_back(room, key);
		stanza.attr.from = arrival.real;
		return stanzas.refuse(arrival.origin, stanza, err);
	end, -1);

	-- Steps ------------------------------------------------------------------------------------------------------

	local steps = {};

	-- matcher recognizes a message, and its corrections, among stanzas in their order.
	local function matcher(event, archived_too)
		local address, ref = event.message.conversation.id, event.message.ref;
		return stanzas.family(function (s, key)
			return (key or stanzas.stanza_id(s, address)) == ref; -- the archive does not keep the key in the stanza
		end, from, nil, archived_too and function ()
			local first = log:get(jid.node(address), ref);
			return first and (original(address, from(first), stanzas.client_id(first)) or { first });
		end);
	end

	-- moderator is the nick of who recalled the message of somebody else, or nil for an own one.
	local function moderator(event, room)
		if event.actor.id == event.message.sender then return; end
		if room then
			for nick, occupant in room:each_occupant() do
				if facts.short(occupant.bare_jid) == event.actor.id then return nick; end
			end
		end
		return event.message.conversation.id;
	end

	function steps.notify(delivery)
		local event = delivery.event;
		local address = event.message.conversation.id;
		local room = mod_muc.get_room_from_jid(address);
		if not room then return "nothing_to_do"; end
		local id = stanzas.notice_id(event);
		if recall.steps.may_have_run(delivery) then
			for _, s in archived(address, { start = dt.parse(event.recalled_at) - slack }) do
				if s.attr.id == id and stanzas.retracts(s) then return "done"; end
			end
		end
		local by = moderator(event, room);
		local first = not by and log:get(jid.node(address), event.message.ref);
		local notice = st.message { type = "groupchat", id = id, from = first and first.attr.from or address };
		room:broadcast_message(stanzas.notice(notice, event.message.ref, by, event.reason));
		return "done";
	end

	-- remaining lists what the archive still has of a recalled message, by key.
	local function remaining(event, start)
		local address = event.message.conversation.id;
		return stanzas.collect(matcher(event), function () return archived(address, { start = start }); end);
	end

	-- clean replaces a message by tombstones in the archive, and returns how many.
	local function clean(event, start)
		local address, n = event.message.conversation.id, 0;
		local by = moderator(event, mod_muc.get_room_from_jid(address));
		for key, s in pairs(remaining(event, start)) do
			assert(log:set(jid.node(address), key, stanzas.tombstone(s, event.recalled_at, by, event.reason)));
			n = n + 1;
		end
		if n > 0 and next(remaining(event, start)) then error("the archive of "..address.." still has the message", 0); end
		return n;
	end

	function steps.history(delivery)
		local event = delivery.event;
		recalled:set(event.message.id, true);
		local n = clean(event, dt.parse(event.message.sent_at) - slack);
		if n == 0 then n = clean(event); end -- the clock may have been set meanwhile
		return n > 0 and "done" or "nothing_to_do";
	end

	-- The room's own memory, of which newcomers get the last messages, and what clients have not acknowledged. Loading a
	-- room that was swapped to disk removes its memory there.
	function steps.roaming(delivery)
		local event, n = delivery.event, 0;
		recalled:set(event.message.id, true);
		local address = event.message.conversation.id;
		local room = mod_muc.get_room_from_jid(address);
		local matches, keep = matcher(event, true), {};
		for _, entry in ipairs(room and room._history or {}) do
			if matches(entry.stanza) then n = n + 1; else keep[#keep + 1] = entry; end
		end
		if n > 0 then room._history = keep; end
		n = n + streams.scrub_all(matches, event.recalled_at);
		return n > 0 and "done" or "nothing_to_do";
	end

	recall.steps.hosts[module.host] = steps;
end;
