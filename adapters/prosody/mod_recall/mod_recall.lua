-- mod_recall: users take back messages that they sent, by the rules of Recall. See the README beside it.
--
-- It is loaded on VirtualHosts, on MUC components and on http_file_share components. All of them share one connection
-- to recall-sidecar: what they index, and the steps of recalls that they carry out.
module:set_global();

local sidecar = module:require "sidecar";
local spool = module:require "spool".open(prosody.paths.data.."/recall.spool");
local index = module:require "index".new(sidecar, spool);
local steps = module:require "steps".new(sidecar);

local parts = {
	chats = module:require "chats";
	rooms = module:require "rooms";
	uploads = module:require "uploads";
};

-- What this part of the server is for, or nil.
local function subject(host)
	if host:get_host_type() == "local" then return "chats"; end
	local component = host:get_option_string("component_module");
	return component == "muc" and "rooms" or component == "http_file_share" and "uploads" or nil;
end

function module.add_host(host)
	local name = subject(host);
	if not name then
		return false, "mod_recall is for VirtualHosts, MUC components and http_file_share components";
	end
	parts[name](host, { sidecar = sidecar, index = index, steps = steps });
	function host.unload() steps.hosts[host.host] = nil; end
	host:log("info", "Messages can be recalled here: %s", name);
end

function module.unload()
	steps.stop();
	spool:close();
end
