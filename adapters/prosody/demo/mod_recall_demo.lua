-- The accounts of the demo, and its room.
local usermanager = require "core.usermanager";

if module:get_host_type() == "local" then
	for _, name in ipairs { "alice", "bob", "carol", "dave", "erin" } do
		if not usermanager.user_exists(name, module.host) then
			assert(usermanager.create_user(name, "pw-"..name, module.host));
		end
	end
else
	local muc = module:depends("muc");
	local address = "lobby@"..module.host;
	local room = muc.get_room_from_jid(address);
	if not room then
		room = assert(muc.create_room(address));
		room:set_persistent(true);
		room:set_public(true);
		room:set_affiliation(true, "alice@localhost", "owner");
		room:save(true);
	end
end
