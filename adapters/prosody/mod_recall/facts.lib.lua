-- What Recall has to know of a message. Its content stays here.
local dt = require "util.datetime";
local hashes = require "util.hashes";
local now = require "util.time".now;

local max_id = 256; -- bytes of an id of Recall
local max_attachments = 100;

local places = module:shared("uploads"); -- of files, by host; see uploads

local facts = { max_id = max_id };

-- short is an id of Recall for a text of any length.
local function short(s) return #s <= max_id and s or "sha256:"..hashes.sha256(s, true); end
facts.short = short;

function facts.chat_key(sender, peer, id) return short(sender.."/"..peer.."/"..id); end
function facts.room_key(room, id) return short(room.."/"..id); end

-- pair is the conversation of two users, whoever writes. It is nil for addresses that are too long to be an id.
function facts.pair(a, b)
	local pair = a < b and a.." "..b or b.." "..a;
	return #pair <= max_id and pair or nil;
end

-- shows says whether clients show something for a message: chat states, receipts, markers and signalling are not
-- indexed.
function facts.shows(stanza)
	local t = stanza.attr.type;
	return t ~= "error" and t ~= "headline"
		and (stanza:get_child("body") or stanza:get_child("encryption", "urn:xmpp:eme:0")) ~= nil;
end

-- files lists the files of this server that some stanzas link to, wherever the link stands: body, out-of-band data,
-- references, stateless file sharing.
local function files(list)
	local attachments, seen, kind = {}, {}, nil;
	for _, stanza in ipairs(list) do
		local text = tostring(stanza);
		for host, place in pairs(places) do
			local base, at = place.base(), 1;
			while #attachments < max_attachments do
				local _, last = text:find(base, at, true);
				if not last then break; end
				at = last + 1;
				local slot = text:match("^[%w_-]+", at);
				if slot and not seen[host.."/"..slot] then
					seen[host.."/"..slot] = true;
					local key, owner, mime = place.find(slot);
					if key then
						attachments[#attachments + 1] = { key = key, owner = short(owner) };
						local class = (mime or ""):match("^(%a+)/");
						kind = kind or (class == "image" or class == "audio" or class == "video") and class or "file";
					end
				end
			end
		end
	end
	return attachments[1] and attachments, kind;
end
facts.files = files;

-- timestamp writes a time in seconds, with its fraction, as RFC 3339.
local function timestamp(t)
	local whole = math.floor(t);
	return (dt.datetime(whole):gsub("Z$", (".%06dZ"):format(math.floor((t - whole) * 1000000))));
end

-- message is what Recall has to know of a message and its corrections. when is nil for one that is sent now.
function facts.message(tenant, id, ref, conversation, sender, list, when)
	local attachments, kind = files(list);
	return {
		tenant = tenant, id = id, ref = ref, conversation = conversation, sender = short(sender),
		type = kind or list[1]:get_child("encryption", "urn:xmpp:eme:0") and "custom" or "text";
		sent_at = timestamp(when or now()), attachments = attachments or nil,
	};
end

return facts;
