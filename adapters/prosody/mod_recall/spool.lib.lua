-- A file of entries that wait for the sidecar, in order: one line of JSON each. It holds ids, never text of messages.
local json = require "util.json";

local has_posix, stdio, unistd = pcall(function () return require "posix.stdio", require "posix.unistd"; end);

-- sync puts what was written to a file on disk: with lua-posix for good, otherwise as far as Lua can.
local function sync(file)
	local ok, err = file:flush();
	if ok and has_posix then ok, err = unistd.fsync(stdio.fileno(file)); end
	return ok, err;
end

local spool = {};
spool.__index = spool;

local function open(path)
	local self = setmetatable({ path = path, offset = 0, size = 0, torn = false }, spool);
	local file = io.open(path, "rb");
	if file then
		self.size = file:seek("end");
		if self.size > 0 then
			file:seek("set", self.size - 1);
			self.torn = file:read(1) ~= "\n"; -- the line was being written when the machine or Prosody stopped
		end
		file:close();
	end
	return self;
end

function spool:empty() return self.offset >= self.size; end

-- append adds an entry. It returns true once the entry is on disk, or nil and what is wrong.
function spool:append(entry)
	local err;
	if not self.file then
		self.file, err = io.open(self.path, "ab");
		if not self.file then return nil, err; end
	end
	local ok;
	ok, err = self.file:write(self.torn and "\n" or "", json.encode(entry), "\n");
	if ok then ok, err = sync(self.file); end
	self.torn = not ok;
	if not ok then self:close(); end -- nothing of it may reach the file later
	local file = io.open(self.path, "rb");
	if file then
		self.size = file:seek("end");
		file:close();
	end
	return ok and true, err;
end

-- first returns the entries at the front of the same path, at most max, and where the next one begins.
function spool:first(max)
	local entries = {};
	local file, err = io.open(self.path, "rb");
	if not file then return nil, err; end
	file:seek("set", self.offset);
	local last = self.offset;
	while #entries < max do
		local line = file:read("*l");
		if not line then break; end
		local entry = json.decode(line);
		if type(entry) == "table" and entry.path then
			if entries[1] and entries[1].path ~= entry.path then break; end
			entries[#entries + 1] = entry;
		elseif line ~= "" then
			module:log("warn", "Skipped %d bytes of %s that are no entry", #line, self.path);
		end
		last = file:seek("cur");
	end
	file:close();
	return entries, last;
end

-- remove removes the entries before an offset that first returned.
function spool:remove(offset)
	self.offset = offset;
	if not self:empty() then return; end
	self:close();
	os.remove(self.path);
	self.offset, self.size, self.torn = 0, 0, false;
end

function spool:close()
	if self.file then self.file:close(); end
	self.file = nil;
end

return { open = open };
