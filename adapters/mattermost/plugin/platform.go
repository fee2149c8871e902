package main

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"github.com/lib/pq"

	"github.com/chat-recall/recall/shared"
)

// platform is Mattermost as package adapter asks about it. It reads the database: unlike the plugin API, a database
// connection reports an error when the other side is gone.
type platform struct{ db *sql.DB }

// Facts implements adapter.Platform.
func (p platform) Facts(ctx context.Context, ids []string) (map[string]shared.Message, error) {
	posts, err := postsByID(ctx, p.db, ids)
	if err != nil {
		return nil, err
	}
	facts := make(map[string]shared.Message, len(posts))
	for _, m := range messages(posts) {
		facts[m.ID] = m
	}
	return facts, nil
}

// Role implements adapter.Platform. A system admin, a team admin and a channel admin are admins of a channel; the user
// who created a channel and is its admin is the owner. Nobody is more than a member of direct and group messages, and
// nobody reads those of others.
func (p platform) Role(ctx context.Context, user string, c shared.Conversation,
) (role shared.Role, reads bool, err error) {
	m, err := p.membership(ctx, user, c.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return shared.RoleNone, false, nil
	}
	if err != nil {
		return "", false, err
	}
	return m.role(), m.reads(), nil
}

// membership is what a user is in a channel, in its team and in the system.
type membership struct {
	channelType               string
	createdIt                 bool
	inChannel, inTeam, active bool
	guest                     bool     // of the team
	channelAdmin, teamAdmin   bool     // by the scheme
	roles                     []string // explicit ones: of the channel, the team and the system
}

func (p platform) membership(ctx context.Context, user, channel string) (m membership, err error) {
	var roles string
	err = p.db.QueryRowContext(ctx, `SELECT c.type::text, c.creatorid = u.id, cm.userid IS NOT NULL,
			tm.userid IS NOT NULL AND tm.deleteat = 0, u.deleteat = 0, coalesce(tm.schemeguest, false),
			coalesce(cm.schemeadmin, false), coalesce(tm.schemeadmin, false) AND tm.deleteat = 0,
			concat_ws(' ', cm.roles, CASE WHEN tm.deleteat = 0 THEN tm.roles END, u.roles)
		FROM channels c JOIN users u ON u.id = $2
		LEFT JOIN channelmembers cm ON cm.channelid = c.id AND cm.userid = u.id
		LEFT JOIN teammembers tm ON tm.teamid = c.teamid AND tm.userid = u.id
		WHERE c.id = $1`, channel, user).
		Scan(&m.channelType, &m.createdIt, &m.inChannel, &m.inTeam, &m.active, &m.guest, &m.channelAdmin, &m.teamAdmin,
			&roles)
	m.roles = strings.Fields(roles)
	return m, err
}

func (m membership) has(role string) bool { return slices.Contains(m.roles, role) }

func (m membership) role() shared.Role {
	channelAdmin := m.inChannel && (m.channelAdmin || m.has("channel_admin"))
	switch {
	case !m.reads():
		return shared.RoleNone
	case m.channelType == "D" || m.channelType == "G":
		return shared.RoleMember
	case channelAdmin && m.createdIt:
		return shared.RoleOwner
	case channelAdmin, m.teamAdmin || m.has("team_admin"), m.has("system_admin"):
		return shared.RoleAdmin
	case m.inChannel:
		return shared.RoleMember
	}
	return shared.RoleNone // a public channel that the user did not join
}

// reads reports whether the user may read the channel: as a member of it, of its team if it is public, or as a system
// admin if it is not a direct or group message.
func (m membership) reads() bool {
	switch {
	case !m.active:
		return false
	case m.inChannel:
		return true
	case m.channelType == "O":
		return m.inTeam && !m.guest || m.has("system_admin")
	}
	return m.channelType == "P" && m.has("system_admin")
}

// isSystemAdmin reports whether a user may manage the system.
func (p platform) isSystemAdmin(ctx context.Context, user string) (bool, error) {
	var roles string
	err := p.db.QueryRowContext(ctx, `SELECT roles FROM users WHERE id = $1 AND deleteat = 0`, user).Scan(&roles)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return slices.Contains(strings.Fields(roles), "system_admin"), err
}

// locale is the language of a user, as Mattermost names it: "en", "zh-CN".
func (p platform) locale(ctx context.Context, user string) (string, error) {
	var locale string
	err := p.db.QueryRowContext(ctx, `SELECT coalesce(locale, '') FROM users WHERE id = $1`, user).Scan(&locale)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return locale, err
}

// lastPost is the newest post of a user in a channel, or in one thread of it; empty if there is none.
func (p platform) lastPost(ctx context.Context, user, channel, root string) (id string, err error) {
	err = p.db.QueryRowContext(ctx, `SELECT id FROM posts WHERE channelid = $1 AND userid = $2 AND deleteat = 0
		AND coalesce(originalid, '') = '' AND type NOT LIKE 'system\_%' AND ($3 = '' OR rootid = $3 OR id = $3)
		AND props->>'recalled' IS NULL
		ORDER BY createat DESC, id DESC LIMIT 1`, channel, user, root).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return id, err
}

// conversations are channels as rules know them. One that does not exist is a conversation in which nobody is.
func (p platform) conversations(ctx context.Context, channels []string) (list []shared.Conversation, err error) {
	if len(channels) > shared.MaxSinceConversations {
		return nil, shared.Invalidf("channel_id", "%d channels; at most %d", len(channels), shared.MaxSinceConversations)
	}
	rows, err := p.db.QueryContext(ctx, `SELECT id, type::text FROM channels WHERE id = ANY($1)`, pq.Array(channels))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	types := map[string]string{}
	for rows.Next() {
		var channel, channelType string
		if err := rows.Scan(&channel, &channelType); err != nil {
			return nil, err
		}
		types[channel] = channelType
	}
	for _, channel := range channels {
		list = append(list, conversation(channel, types[channel]))
	}
	return list, rows.Err()
}
