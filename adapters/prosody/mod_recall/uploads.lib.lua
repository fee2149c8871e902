-- Files that users uploaded to a http_file_share component.
local dm = require "core.storagemanager".olddm;

local erase = module:require "erase";
local facts = module:require "facts";
local places = module:shared("uploads"); -- by host

return function (module, recall)
	module:depends("http_file_share");
	local uploads = module:open_store("uploads", "archive");
	erase.prepare();
	local external = module:get_option_string("http_file_share_base_url"); -- another program has the files
	local function upload(slot)
		local found, err = uploads:find(nil, { key = slot });
		if not found then error("cannot read the list of uploads: "..tostring(err), 0); end
		local _, info, _, owner = found();
		return info, owner;
	end

	places[module.host] = {
		-- What stands before the slot in the addresses of files, such as "/file_share/". What is before that can be written
		-- in several ways that lead to the same file.
		base = function () return (external or module:http_url("file_share")):gsub("/?$", "/", 1):match("/[^/]+/$"); end;
		-- The key, the owner and the type of a file, or nil.
		find = function (slot)
			local info, owner = upload(slot);
			if info then return module.host.."/"..slot, owner, info.attr["content-type"]; end
		end;
	};

	-- remove deletes a file. 2 is ENOENT: it was never uploaded, or is gone.
	local function remove(path)
		local ok, err, errno = os.remove(path);
		assert(ok or errno == 2, err);
	end

	local steps = {};

	-- Recall lists a file once no message uses it any more, and a message of its owner has been recalled.
	function steps.attachments(delivery)
		local n = 0;
		for _, attachment in ipairs(delivery.event.attachments or {}) do
			local slot = attachment.key:match("^[^/]+/([%w_-]+)$");
			if slot and attachment.key:sub(1, #module.host + 1) == module.host.."/" then
				local info, owner = upload(slot);
				if info and external then return "unsupported"; end
				local of = attachment.owner ~= "" and attachment.owner or delivery.event.message.sender;
				if info and facts.short(owner) == of then
					local path = dm.getpath(slot, module.host, "http_file_share", "bin");
					remove(path.."~"); -- what is being uploaded
					remove(path);
					assert(uploads:delete(nil, { key = slot }));
					if upload(slot) then error("the file "..attachment.key.." is still listed", 0); end
					n = n + 1;
				end
			end
		end
		return n > 0 and "done" or "nothing_to_do";
	end

	recall.steps.hosts[module.host] = steps;
end;
