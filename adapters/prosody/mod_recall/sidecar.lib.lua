-- Calls to recall-sidecar. net.http of Prosody 0.12 has no unix sockets, so they go to a loopback address with a token.
local http = require "net.http";
local json = require "util.json";
local promise = require "util.promise";

local url = module:get_option_string("recall_url", "http://127.0.0.1:8181"):gsub("/$", "");
local token_file = module:get_option_string("recall_token_file", "/etc/recall/token");

-- The token of the file, at most one a line. It is read for each call, so that it can be replaced at any time.
local function token()
	local file, err = io.open(token_file);
	if not file then return nil, "recall_token_file: "..err; end
	local line = file:read("*l");
	file:close();
	return line and line:match("%S+");
end

-- values removes what is null in an answer, so that it is nil.
local function values(answer)
	for key, value in pairs(answer) do
		if value == json.null then answer[key] = nil; elseif type(value) == "table" then values(value); end
	end
	return answer;
end

local sidecar = {};

-- The tenant of all messages of this server.
sidecar.tenant = "prosody";

-- call makes the call POST /v1/path. The promise is resolved with its answer. It is rejected with a table: text says
-- what is wrong; refused is true if the sidecar answered and would answer the same again.
function sidecar.call(path, request, timeout)
	return promise.new(function (resolve, reject)
		local secret, err = token();
		if not secret then
			reject({ text = err or (token_file.." is empty") });
			return;
		end
		local pending;
		local timer = module:add_timer(timeout, function ()
			reject({ text = ("no answer within %g s"):format(timeout) });
			if pending and pending.cancel then pending:cancel("timeout"); end
		end);
		pending = http.request(url.."/v1/"..path, {
			body = json.encode(request);
			headers = { ["Content-Type"] = "application/json", Authorization = "Bearer "..secret };
		}, function (body, code)
			timer:stop();
			if code == 0 then
				reject({ text = "no connection: "..tostring(body) });
				return;
			end
			local answer = json.decode(body or "");
			if type(answer) ~= "table" then
				reject({ text = ("HTTP status %d without JSON"):format(code) });
			elseif code ~= 200 then
				reject({ text = ("%s: %s"):format(answer.code or code, answer.detail or "?");
					refused = code == 400 or code == 413 });
			else
				resolve(values(answer));
			end
		end);
	end);
end

return sidecar;
