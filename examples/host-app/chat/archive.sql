-- The database of the archive: the content of recalled messages, for compliance alone. Times are Unix microseconds.
-- labeled: the message had the label "hold" when it was recalled.
CREATE TABLE archived (
  id       TEXT PRIMARY KEY, -- of the message
  original TEXT NOT NULL,    -- the message of which it is an edit, or else id
  sent_at  INTEGER NOT NULL,
  event    TEXT NOT NULL,    -- its recall, as JSON
  text     TEXT NOT NULL,
  at       INTEGER NOT NULL,
  expires  INTEGER NOT NULL,
  labeled INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX archived_by_original ON archived (original, sent_at);

CREATE TABLE archived_files (
  key      TEXT PRIMARY KEY,
  id       TEXT NOT NULL, -- of the message whose recall released it
  name     TEXT NOT NULL,
  expires  INTEGER NOT NULL,
  labeled INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX archived_files_by_message ON archived_files (id);

-- What compliance decided about a message. It counts instead of the label.
CREATE TABLE holds (
  id   TEXT PRIMARY KEY,
  held INTEGER NOT NULL
) WITHOUT ROWID;

-- Who did what to the archive. It stays when the content is purged.
CREATE TABLE accesses (
  entry   INTEGER PRIMARY KEY AUTOINCREMENT,
  at      INTEGER NOT NULL,
  auditor TEXT NOT NULL,
  did     TEXT NOT NULL, -- read, file, hold or release
  id      TEXT NOT NULL,
  key     TEXT NOT NULL  -- of a file
);
