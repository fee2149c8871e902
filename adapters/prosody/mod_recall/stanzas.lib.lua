-- What recalls look like in XMPP: Message Retraction (XEP-0424), Message Moderation (XEP-0425), each in both of their
-- namespaces, and corrections (XEP-0308).
local hashes = require "util.hashes";
local st = require "util.stanza";

local facts = module:require "facts";

local xmlns = {
	recall = "urn:recall:0"; -- ours, in stanza errors
	sid = "urn:xmpp:sid:0";
	fasten = "urn:xmpp:fasten:0";
	retract0 = "urn:xmpp:message-retract:0";
	retract1 = "urn:xmpp:message-retract:1";
	moderate0 = "urn:xmpp:message-moderate:0";
	moderate1 = "urn:xmpp:message-moderate:1";
	muc_user = "http://jabber.org/protocol/muc#user";
	occupant_id = "urn:xmpp:occupant-id:0";
};

local stanzas = { xmlns = xmlns };

-- known is an id as every parser of XML sees it: Prosody writes line breaks in attributes as they are, and for parsers
-- they are blanks.
local function known(id) return id and (id:gsub("[\t\r\n]", " ")); end

-- client_id is the id by which clients know a message, or nil.
function stanzas.client_id(stanza)
	local origin_id = stanza:get_child("origin-id", xmlns.sid);
	local id = origin_id and origin_id.attr.id;
	if not id or id == "" then id = stanza.attr.id; end
	return id ~= "" and known(id) or nil;
end

-- ids lists the ids by which clients may refer to a message: the one above, and its attribute.
function stanzas.ids(stanza)
	local list = { stanzas.client_id(stanza) };
	local id = known(stanza.attr.id);
	if id and id ~= "" and id ~= list[1] then list[#list + 1] = id; end
	return list;
end

-- stanza_id is the id that a room gave a message, or nil.
function stanzas.stanza_id(stanza, room)
	local tag = stanza:get_child_with_attr("stanza-id", xmlns.sid, "by", room);
	return tag and tag.attr.id;
end

-- replaces is the id of the message that this one corrects, or nil.
function stanzas.replaces(stanza)
	local replace = stanza:get_child("replace", "urn:xmpp:message-correct:0");
	return replace and known(replace.attr.id);
end

-- retracts is the id of the message that this one retracts: nil if it retracts none, empty if it names none or several.
function stanzas.retracts(stanza)
	local target;
	for _, tag in ipairs(stanza.tags) do
		local id = tag.attr.id or "";
		if tag.name == "retract" and tag.attr.xmlns == xmlns.retract1
			or tag.name == "apply-to" and tag.attr.xmlns == xmlns.fasten and tag:get_child("retract", xmlns.retract0) then
			target = (not target or target == id) and id or "";
		end
	end
	return known(target);
end

-- What only servers and rooms say: that a message was retracted, and who moderated it.
local function is_verdict(tag)
	local ns = tag.attr.xmlns;
	return (tag.name == "retracted" or tag.name == "moderated")
		and (ns == xmlns.retract0 or ns == xmlns.retract1 or ns == xmlns.moderate0 or ns == xmlns.moderate1);
end

-- strip removes from the message of a user what would make it look like a tombstone or like the notice of a room. An
-- error retracts nothing.
function stanzas.strip(stanza)
	local is_error = stanza.attr.type == "error";
	stanza:maptags(function (tag)
		local fastens = tag.name == "apply-to" and tag.attr.xmlns == xmlns.fasten;
		local retracts = tag.name == "retract" and tag.attr.xmlns == xmlns.retract1;
		if is_verdict(tag) or is_error and (fastens or retracts) then return nil; end
		if fastens or retracts then
			tag:maptags(function (inner) return not is_verdict(inner) and inner or nil; end);
		end
		return tag;
	end);
end

-- is_tombstone tells what is left of a recalled message. A message that shows something is none, whatever it says.
function stanzas.is_tombstone(stanza)
	return stanza:get_child("retracted", xmlns.retract1) ~= nil and not facts.shows(stanza);
end

-- family finds a message and its corrections among stanzas that are given to it in order, oldest first, and with the
-- keys that an archive has for them. from says who sent a stanza; a correction by somebody else is none. A correction
-- may have overtaken its message: it is found if the stanzas are given again, as collect does. Where the message itself
-- may be missing, sender is who sent it, and archived returns what the archives have of it and its corrections.
function stanzas.family(is_message, from, sender, archived)
	local ids = {};
	local function learn(stanza)
		sender = from(stanza);
		for _, own in ipairs(stanzas.ids(stanza)) do ids[own] = true; end
	end
	local function matches(stanza, key)
		local replaced = stanzas.replaces(stanza);
		if not is_message(stanza, key) then
			if not replaced or sender and from(stanza) ~= sender then return false; end
			if not ids[replaced] and archived then
				for _, s in ipairs(archived() or {}) do learn(s); end
				archived = nil; -- it is asked once
			end
			if not ids[replaced] or from(stanza) ~= sender then return false; end
		end
		learn(stanza);
		return true;
	end
	return matches;
end

-- collect lists, by key, what is left of a family in a store: iterate starts an iteration over keys and stanzas.
function stanzas.collect(matches, iterate)
	local found = {};
	for _ = 1, 2 do
		for key, s in iterate() do
			if matches(s, key) and not stanzas.is_tombstone(s) then found[key] = s; end
		end
	end
	return found;
end

-- notice is the retraction that clients get. m has its attributes; moderated has the moderator's nick.
function stanzas.notice(m, target, moderated, reason)
	if reason == "" then reason = nil; end
	local function because() if moderated and reason then m:text_tag("reason", reason); end end
	m:tag("apply-to", { xmlns = xmlns.fasten, id = target });
	if moderated then m:tag("moderated", { xmlns = xmlns.moderate0, by = moderated }); end
	m:tag("retract", { xmlns = xmlns.retract0 }):up();
	because();
	m:reset():tag("retract", { xmlns = xmlns.retract1, id = target });
	if moderated then m:tag("moderated", { xmlns = xmlns.moderate1, by = moderated }):up(); end
	because();
	return m:reset():tag("store", { xmlns = "urn:xmpp:hints" }):reset();
end

-- notice_id is the id of the notice of an event, the same each time.
function stanzas.notice_id(event) return "recall-"..hashes.sha256(event.key, true):sub(1, 40); end

-- tombstone is what remains of a message in an archive. recalled_at is as in the event.
function stanzas.tombstone(stanza, recalled_at, moderated, reason)
	local attr = stanza.attr;
	local t = st.message({ from = attr.from, to = attr.to, type = attr.type, id = attr.id });
	for name, space in pairs { ["origin-id"] = xmlns.sid, ["occupant-id"] = xmlns.occupant_id } do
		local tag = stanza:get_child(name, space);
		if tag then t:tag(name, { xmlns = space, id = tag.attr.id }):up(); end
	end
	if moderated then t:tag("moderated", { xmlns = xmlns.moderate0, by = moderated }); end
	t:tag("retracted", { xmlns = xmlns.retract0, stamp = recalled_at }):up();
	if moderated and reason and reason ~= "" then t:text_tag("reason", reason); end
	t:reset():tag("retracted", { xmlns = xmlns.retract1, id = attr.id, stamp = recalled_at });
	if moderated then t:tag("moderated", { xmlns = xmlns.moderate1, by = moderated }):up(); end
	if moderated and reason and reason ~= "" then t:text_tag("reason", reason); end
	return t:reset();
end

-- refuse answers a stanza with an error: type, condition, text, and code, that of Recall, with retry_at.
function stanzas.refuse(origin, stanza, err)
	local reply = st.error_reply(stanza, err.type or "wait", err.condition or "internal-server-error", err.text);
	if err.code then
		reply:get_child("error"):tag(err.code, { xmlns = xmlns.recall, ["retry-at"] = err.retry_at }):up();
	end
	origin.send(reply);
	return true;
end

return stanzas;
