-- Messages are indexed before they are delivered. While the sidecar is away, they wait in the spool and are indexed
-- later, in order, or they are refused: recall_when_down.
local async = require "util.async";
local promise = require "util.promise";

local patience = 1; -- seconds that a message waits for the sidecar, once; then it is not asked until it answers again
local batch = 500; -- entries of the spool in one call; Recall takes 1,000
local when_down = module:get_option_string("recall_when_down", "queue");
local refuse = when_down == "refuse";
if not refuse and when_down ~= "queue" then
	module:log("error", "recall_when_down is %q; it can be \"queue\" or \"refuse\". It is taken for \"queue\"", when_down);
end

local list = { index = "messages", amend = "amendments" }; -- the field of the request, by path of the call

local function new(sidecar, spool)
	local self = {};
	local away = not spool:empty(); -- the sidecar is not asked, and new entries go behind those in the spool

	-- Indexes what waits. The promise is rejected if the sidecar does not answer.
	local function drain()
		if spool:empty() then return promise.resolve(); end
		local entries, offset = spool:first(batch);
		if not entries then return promise.reject({ text = offset }); end
		local function send(from, to)
			if to < from then return promise.resolve(); end
			local items = {};
			for i = from, to do items[#items + 1] = entries[i].item; end
			local path = entries[from].path;
			return sidecar.call(path, { [list[path]] = items }, 10):next(function (answer)
				for _, result in ipairs(answer.results) do
					if result.status == "invalid" then
						module:log("error", "A message that waited cannot be recalled: %s %s", result.field, result.problem);
					end
				end
			end, function (err)
				if not err.refused then return promise.reject(err); end
				if from == to then
					module:log("error", "A message that waited cannot be recalled: %s", err.text);
					return;
				end
				local middle = math.floor((from + to) / 2); -- one bad entry must not keep the others from being indexed
				return send(from, middle):next(function () return send(middle + 1, to); end);
			end);
		end
		return send(1, #entries):next(function ()
			spool:remove(offset);
			module:log("info", "%d messages that waited are indexed", #entries);
			return drain();
		end);
	end

	-- While the sidecar is away: asks it every second, with a call that its plugin has to answer.
	local function probe()
		sidecar.call("status", { tenant = sidecar.tenant, ids = { "probe" } }, patience):next(drain):next(function ()
			away = false;
			module:log("info", "recall-sidecar answers again");
		end, function (err)
			module:log("debug", "recall-sidecar is still away: %s", err.text);
			module:add_timer(1, probe);
		end);
	end
	if away then module:add_timer(0, probe); end

	local function failed(err)
		if away then return; end
		away = true;
		module:log("warn", "recall-sidecar does not answer (%s). Until it does, %s", err.text,
			refuse and "messages are refused" or "messages are delivered and wait in the spool to be indexed");
		module:add_timer(1, probe);
	end

	local function wait(path, item)
		if refuse then
			return promise.reject({ type = "wait", condition = "service-unavailable",
				text = "Messages can't be sent at the moment. Try again later." });
		end
		local ok, err = spool:append({ path = path, item = item });
		if not ok then
			module:log("error", "A message was refused, since it could not be written to the spool: %s", err);
			return promise.reject({ type = "wait", condition = "resource-constraint",
				text = "Messages can't be sent at the moment. Try again later." });
		end
		return promise.resolve("waits");
	end

	-- is_away reports whether the sidecar did not answer lately. It is asked every second.
	function self.is_away() return away; end

	-- put indexes one message, or amends one. The promise is resolved with the status that Recall answers, or "waits". It
	-- is rejected with a stanza error.
	function self.put(path, item)
		if away then return wait(path, item); end
		return sidecar.call(path, { [list[path]] = { item } }, patience):next(function (answer)
			local result = answer.results[1];
			if result.status == "invalid" then
				module:log("error", "A message cannot be recalled: %s %s", result.field, result.problem);
			end
			return result.status;
		end, function (err)
			if err.refused then
				module:log("error", "A message cannot be recalled: %s", err.text);
				return "invalid";
			end
			failed(err);
			return wait(path, item);
		end);
	end

	-- state asks for the states of messages, at most 1,000. The promise is resolved with a table from id to state, which
	-- is empty while the sidecar is away.
	function self.state(ids)
		if away or #ids == 0 then return promise.resolve({}); end
		return sidecar.call("status", { tenant = sidecar.tenant, ids = ids }, patience):next(function (answer)
			local states = {};
			for _, result in ipairs(answer.results) do states[result.message_id] = result.state; end
			return states;
		end, function (err)
			failed(err);
			return {};
		end);
	end

	return self;
end

-- A session does not read from its connection while a stanza of it waits. LuaSocket may have read more than one stanza
-- by then, and net.server_epoll of Prosody 0.12 does not look there when it resumes: that stanza would stay until the
-- client sends again. read_on makes resume look.
local function read_on(conn)
	local resume = conn and conn.resume;
	if not resume or not conn.pausefor or rawget(conn, "resume") then return; end
	function conn:resume()
		local result = resume(self);
		local socket = self.conn;
		if socket and socket.dirty and not self._pausefor and socket:dirty() then self:pausefor(0); end
		return result;
	end
end

-- await waits for a promise where the stanza that is handled can wait. It returns what the promise is resolved with, or
-- nil and what it is rejected with. Where nothing can wait (stanzas of components), it returns nil. origin is the
-- session of the stanza.
local function await(promised, origin)
	if async.ready() then
		read_on(origin.conn);
		return async.wait_for(promised);
	end
	promised:next(nil, function (err) module:log("warn", "A message was delivered although: %s", err.text); end);
end

return { new = new, await = await };
