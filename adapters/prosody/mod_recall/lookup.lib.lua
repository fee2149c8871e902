-- To look for a message that Recall does not know, an archive is read from its start, and the server does nothing else
-- meanwhile. Users have a share of that time, and all of them together have one.
local cache = require "util.cache";
local throttle = require "util.throttle";
local spent_by_prosody = os.clock; -- not the time that passes: a busy machine is nobody's fault

local everybody = throttle.create(4, 16); -- seconds of reading, in so many seconds
local users = cache.new(10000);

local too_many = { type = "wait", condition = "resource-constraint", code = "rate_limited",
	text = "Too many requests for old messages. Try again later." };

-- lookup calls find for a user, and returns what it returns; or nil and a stanza error, if the user, or all users, have
-- used up their share.
return function (user, find, ...)
	local own = users:get(user);
	if not own then
		own = throttle.create(2, 20);
		users:set(user, own);
	end
	if not own:peek(0) or not everybody:peek(0) then return nil, too_many; end
	local began = spent_by_prosody();
	local found = find(...);
	local spent = spent_by_prosody() - began;
	own.balance, everybody.balance = own.balance - spent, everybody.balance - spent;
	return found;
end
