-- The worker: it takes the steps of recalls from the sidecar, for all hosts, and settles them with the next take.
local cache = require "util.cache";
local dt = require "util.datetime";
local jid = require "util.jid";
local promise = require "util.promise";

local names = { "notify", "history", "offline", "roaming", "attachments" };
local at_once = 32; -- deliveries of one take: they are settled long before their lease of a minute ends

-- The hosts that a delivery concerns.
local function concerned(delivery)
	local event, hosts = delivery.event, {};
	if delivery.step == "attachments" then
		for _, attachment in ipairs(event.attachments or {}) do
			hosts[attachment.key:match("^[^/]*")] = true;
		end
	else
		for address in event.message.conversation.id:gmatch("%S+") do
			hosts[jid.host(address)] = true;
		end
	end
	return hosts;
end

local function new(sidecar)
	local self = { hosts = {} }; -- by host, what carries out its steps: functions from a delivery to an outcome
	local stopped = false;

	-- may_have_run reports whether a step may have been carried out before, though its outcome was not stored: by this
	-- process, or by an earlier one.
	local loaded, run = os.time(), cache.new(10000);
	function self.may_have_run(delivery)
		return delivery.attempt > 1 or run:get(delivery.step..delivery.event.key)
			or dt.parse(delivery.event.recalled_at) <= loaded;
	end

	-- Another server, or an external component, is out of reach. A host of this server without mod_recall is a mistake.
	local function elsewhere(host, delivery)
		local here = prosody.hosts[host];
		local external = not here or here.type == "component" and not here.modules.muc;
		if external and delivery.step ~= "attachments" and delivery.event.message.conversation.type == "single" then
			return "unsupported";
		end
		error(("mod_recall is not loaded on %s: add \"recall\" to its modules_enabled"):format(host), 0);
	end

	local function carry_out(delivery)
		local outcomes = {};
		for host in pairs(concerned(delivery)) do
			local steps = self.hosts[host];
			local outcome = not steps and elsewhere(host, delivery) or steps[delivery.step] and steps[delivery.step](delivery);
			if outcome then outcomes[outcome] = true; end
		end
		return outcomes.done and "done" or outcomes.unsupported and "unsupported" or "nothing_to_do";
	end

	local function settlement(delivery)
		local ok, outcome = pcall(carry_out, delivery);
		run:set(delivery.step..delivery.event.key, true);
		if ok then return { id = delivery.id, outcome = outcome }; end
		module:log("error", "The step %s of a recall failed and is tried again: %s", delivery.step, outcome);
		return { id = delivery.id, outcome = "failed", error = tostring(outcome):sub(1, 1000) };
	end

	-- Carries the deliveries out one by one, and lets the server do other work in between.
	local function each(deliveries)
		return promise.new(function (resolve)
			local settled = {};
			local function one()
				local delivery = deliveries[#settled + 1];
				if not delivery or stopped then resolve(settled); return; end
				settled[#settled + 1] = settlement(delivery);
				module:add_timer(0, one);
			end
			one();
		end);
	end

	local silent = false; -- the log says already that the sidecar does not answer
	local function take(settled)
		if stopped then return; end
		sidecar.call("steps/take", { steps = names, max = at_once, wait = "20s", settle = settled[1] and settled or nil }, 40)
		:next(function (answer)
			silent = false;
			return each(answer.deliveries or {}):next(take);
		end, function (err)
			if not silent then
				silent = true;
				module:log("warn", "The steps of recalls cannot be taken from recall-sidecar, and are tried again: %s", err.text);
			end
			module:add_timer(0.5, function () take(settled); end);
		end);
	end
	module:add_timer(0, function () take({}); end); -- once all hosts are loaded

	function self.stop() stopped = true; end

	return self;
end

return { new = new };
