-- The server's database. A conversation is named type/id throughout. Times are Unix microseconds.
CREATE TABLE users (
  id      TEXT PRIMARY KEY,
  name    TEXT NOT NULL,
  roaming INTEGER NOT NULL -- 1: keeps a log from which a new device synchronises
) WITHOUT ROWID;

-- Accounts of compliance: they read the audit view, and are no users of the chat.
CREATE TABLE auditors (
  id TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE conversations (
  conversation TEXT PRIMARY KEY,
  title        TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE members (
  conversation TEXT NOT NULL REFERENCES conversations,
  user         TEXT NOT NULL REFERENCES users,
  role         TEXT NOT NULL,
  joined       INTEGER NOT NULL, -- the last message before the user joined
  PRIMARY KEY (conversation, user)
) WITHOUT ROWID;

-- History. indexed: the plugin has answered for it.
CREATE TABLE messages (
  seq          INTEGER PRIMARY KEY AUTOINCREMENT,
  id           TEXT NOT NULL UNIQUE,
  conversation TEXT NOT NULL,
  sender       TEXT NOT NULL,
  type         TEXT NOT NULL,
  sent_at      INTEGER NOT NULL,
  text         TEXT NOT NULL,
  attachments  TEXT NOT NULL, -- JSON list of keys and owners
  indexed      INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX messages_by_conversation ON messages (conversation, seq);
CREATE INDEX messages_to_index ON messages (seq) WHERE indexed = 0;

-- Which message (other) a message edits, quotes or forwards, at place 0. A quote or forward of an edited message has the
-- edit of which it copied the text at place 1. text, at place 0, is what a quote repeats: it goes when one of the two is
-- recalled.
CREATE TABLE relations (
  id    TEXT NOT NULL,
  place INTEGER NOT NULL,
  kind  TEXT NOT NULL,
  other TEXT NOT NULL,
  text  TEXT NOT NULL,
  PRIMARY KEY (id, place)
) WITHOUT ROWID;
CREATE INDEX relations_by_other ON relations (other, kind);

-- What keeps a recalled message from coming back: by a late retransmission, or by a delivery under way.
CREATE TABLE tombstones (
  id           TEXT PRIMARY KEY,
  conversation TEXT NOT NULL
) WITHOUT ROWID;

-- What the history shows in the place of a recalled message: the notice of its recall, with the facts of the message and
-- without its content. A silent recall leaves none. received is a JSON list of the users who had the message: the facts
-- are for them alone.
CREATE TABLE placeholders (
  seq          INTEGER PRIMARY KEY, -- of the message
  id           TEXT NOT NULL UNIQUE,
  conversation TEXT NOT NULL,
  notice       TEXT NOT NULL,
  received     TEXT NOT NULL
);
CREATE INDEX placeholders_by_conversation ON placeholders (conversation, seq);

-- What a user who is away has not got yet, with its payload, as a queue outside the database would hold it.
CREATE TABLE offline (
  entry   INTEGER PRIMARY KEY AUTOINCREMENT,
  user    TEXT NOT NULL,
  id      TEXT NOT NULL,
  payload TEXT NOT NULL,
  UNIQUE (user, id)
);
CREATE INDEX offline_by_message ON offline (id);

-- One log a user, from which a new device synchronises.
CREATE TABLE roaming (
  entry   INTEGER PRIMARY KEY AUTOINCREMENT,
  user    TEXT NOT NULL,
  id      TEXT NOT NULL,
  payload TEXT NOT NULL
);
CREATE INDEX roaming_by_user ON roaming (user, entry);
CREATE INDEX roaming_by_message ON roaming (id);

-- Notices of recalls for users who were away.
CREATE TABLE notices (
  entry  INTEGER PRIMARY KEY AUTOINCREMENT,
  user   TEXT NOT NULL,
  id     TEXT NOT NULL,
  notice TEXT NOT NULL,
  had    INTEGER NOT NULL, -- the user got the message: the notice includes its facts
  UNIQUE (user, id)
);

-- In a cluster: which server accepted a message. The others give it to their clients.
CREATE TABLE relay (
  entry INTEGER PRIMARY KEY AUTOINCREMENT,
  id    TEXT NOT NULL,
  node  TEXT NOT NULL
);

-- In a cluster: notices that a client of the user has. Another server that comes to the recall later keeps none.
CREATE TABLE heard (
  user TEXT NOT NULL,
  id   TEXT NOT NULL,
  PRIMARY KEY (user, id)
) WITHOUT ROWID;

CREATE TABLE files (
  key          TEXT PRIMARY KEY,
  name         TEXT NOT NULL, -- as uploaded; never part of a path
  owner        TEXT NOT NULL,
  conversation TEXT NOT NULL,
  gone         INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE uses (
  key TEXT NOT NULL,
  id  TEXT NOT NULL,
  PRIMARY KEY (key, id)
) WITHOUT ROWID;
CREATE INDEX uses_by_message ON uses (id);
