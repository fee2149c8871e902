-- The tables of Mattermost that the plugin uses, with the columns that it uses.
CREATE TABLE users (id varchar(26) PRIMARY KEY, username varchar(64), createat bigint, deleteat bigint DEFAULT 0,
	roles varchar(256), locale varchar(5));
CREATE TABLE channels (id varchar(26) PRIMARY KEY, type varchar(1), teamid varchar(26), creatorid varchar(26),
	deleteat bigint DEFAULT 0);
CREATE TABLE channelmembers (channelid varchar(26), userid varchar(26), roles varchar(256), schemeadmin boolean,
	PRIMARY KEY (channelid, userid));
CREATE TABLE teammembers (teamid varchar(26), userid varchar(26), roles varchar(64), deleteat bigint DEFAULT 0,
	schemeadmin boolean, schemeguest boolean, PRIMARY KEY (teamid, userid));
CREATE TABLE posts (id varchar(26) PRIMARY KEY, createat bigint, updateat bigint, editat bigint DEFAULT 0,
	deleteat bigint DEFAULT 0, ispinned boolean DEFAULT false, hasreactions boolean DEFAULT false, userid varchar(26),
	channelid varchar(26), rootid varchar(26) DEFAULT '', originalid varchar(26) DEFAULT '', message varchar(65535),
	type varchar(26) DEFAULT '', props jsonb DEFAULT '{}', hashtags varchar(1000) DEFAULT '',
	filenames varchar(4000) DEFAULT '[]', fileids varchar(300) DEFAULT '[]');
CREATE TABLE fileinfo (id varchar(26) PRIMARY KEY, creatorid varchar(26), postid varchar(26), path varchar(512),
	thumbnailpath varchar(512), previewpath varchar(512), name varchar(256), mimetype varchar(256), content text);
CREATE TABLE reactions (userid varchar(26), postid varchar(26), emojiname varchar(64));
CREATE TABLE preferences (userid varchar(26), category varchar(32), name varchar(32), value varchar(2000));
CREATE TABLE linkmetadata (hash bigint PRIMARY KEY, url varchar(2048), "timestamp" bigint, type varchar(16), data jsonb);
CREATE TABLE sessions (id varchar(26) PRIMARY KEY, userid varchar(26), deviceid varchar(512), expiresat bigint);
CREATE TABLE roles (id varchar(26) PRIMARY KEY, name varchar(64), permissions varchar(4096), deleteat bigint DEFAULT 0);
