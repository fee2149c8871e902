-- What a store deletes or replaces must be gone from its files.
local engines = module:shared("/*/sql/connections"); -- of mod_storage_sql

-- prepare makes a database overwrite what it deletes. For other databases than SQLite the README says what to do.
local function prepare()
	for _, engine in pairs(engines) do
		if engine.params and engine.params.driver == "SQLite3" then
			local ok, mode = engine:transaction(function ()
				engine:select("PRAGMA secure_delete = ON");
				return engine:select("PRAGMA journal_mode")()[1];
			end);
			if ok and mode == "wal" then
				module:log("error", "SQLite keeps recalled text in its WAL file for a while: set PRAGMA journal_mode = DELETE");
			end
		end
	end
end

return { prepare = prepare };
