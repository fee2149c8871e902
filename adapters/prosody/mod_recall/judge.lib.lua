-- Asks Recall whether somebody may recall a message, and answers with a stanza error if not.
local new_id = require "util.id".medium;
local st = require "util.stanza";

local facts = module:require "facts";
local stanzas = module:require "stanzas";

local timeout = 5; -- seconds
local max_reason = 1024; -- bytes that Recall takes

-- The error condition for each code of Recall. The code of a rule of the operator is a policy-violation.
local conditions = {
	forbidden = { "auth", "forbidden" };
	window_expired = { "cancel", "not-allowed" };
	type_not_recallable = { "cancel", "not-acceptable" };
	reason_required = { "modify", "not-acceptable" };
	rate_limited = { "wait", "resource-constraint" };
	recall_id_used = { "modify", "conflict" };
};

-- sentence picks the text in the language of the stanza, else the English one.
local function sentence(texts, language)
	language = (language or "en"):lower();
	if language:match("^zh") then language = "zh-hans"; end
	local best;
	for tag, text in pairs(texts or {}) do
		if tag:lower() == language then return text; end
		if tag:lower() == language:match("^%a+") or tag == "en" and not best then best = text; end
	end
	return best;
end

local judge = {};

judge.unavailable = { type = "wait", condition = "remote-server-timeout",
	text = "The message may not be recalled yet. Try again later." };
judge.not_found = { type = "cancel", condition = "item-not-found", text = "This message does not exist any more.",
	code = "not_found" };

local function refusal(result, language)
	local text = sentence(result.text, language);
	if result.status == "not_found" then
		return { type = "cancel", condition = "item-not-found", text = text or judge.not_found.text, code = "not_found" };
	end
	local condition = conditions[result.code] or { "cancel", "policy-violation" };
	return { type = condition[1], condition = condition[2], text = text, code = result.code, retry_at = result.retry_at };
end

-- look_up asks which of some messages Recall knows, and calls decide with the first of their ids, or nil. It returns
-- true: the stanza is answered.
function judge.look_up(recall, origin, stanza, ids, decide)
	if recall.index.is_away() then return stanzas.refuse(origin, stanza, judge.unavailable); end
	recall.sidecar.call("status", { tenant = recall.sidecar.tenant, ids = ids }, timeout):next(function (answer)
		for i, id in ipairs(ids) do
			if answer.results[i].state ~= "unknown" then return decide(id); end
		end
		return decide();
	end, function (err)
		module:log("warn", "A recall was not decided: %s", err.text);
		stanzas.refuse(origin, stanza, judge.unavailable);
	end):catch(function (err)
		module:log("error", "A recall failed: %s", err);
		stanzas.refuse(origin, stanza, judge.unavailable);
	end);
	return true;
end

-- request asks for the recall of one target, and answers the stanza: with an error, if the message is not recalled.
function judge.request(recall, origin, stanza, actor, target, reason)
	if reason and #reason > max_reason then
		stanzas.refuse(origin, stanza, { type = "modify", condition = "bad-request",
			text = ("The reason has more than %d bytes."):format(max_reason) });
		return;
	end
	if recall.index.is_away() then
		stanzas.refuse(origin, stanza, judge.unavailable);
		return;
	end
	return recall.sidecar.call("recall", {
		tenant = recall.sidecar.tenant, actor = { id = facts.short(actor) }, targets = { target }, reason = reason,
		recall_id = facts.short(actor.."/"..(stanza.attr.id or new_id())),
	}, timeout):next(function (answer)
		local result = answer.results[1];
		module:log("info", "Recall by %s as %s: %s %s %s", actor, target.role, result.status, result.code or "",
			result.rule and result.rule.name or "");
		if result.status ~= "recalled" and result.status ~= "already_recalled" then
			return { refusal = refusal(result, stanza.attr["xml:lang"]) };
		end
		return {};
	end, function (err)
		module:log("warn", "A recall was not decided: %s", err.text);
		return { refusal = judge.unavailable };
	end):next(function (answer)
		if answer.refusal then
			stanzas.refuse(origin, stanza, answer.refusal);
		elseif stanza.name == "iq" then
			origin.send(st.reply(stanza));
		end
	end);
end

return judge;
