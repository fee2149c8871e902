package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/mattermost/mattermost/server/public/model"
	"github.com/mattermost/mattermost/server/public/plugin"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// Steps of this adapter beside the standard ones.
const (
	stepPreviews = "previews" // posts of others that embed the post
	stepSaved    = "saved"    // lists of saved posts
	stepCaches   = "caches"   // what the server has of the post in memory
	stepEmail    = "email"    // notifications by e-mail
)

// steps carry recalls out. The plugin API answers nothing, and so reports success, when the server is gone: what a
// step did is proven by the database, and where only the server knows, by asking it again.
type steps struct {
	api     plugin.API
	db      *sql.DB
	admin   *admin
	archive archive
	log     hclog.Logger
}

// all returns the steps for host.Config. The standard step offline is missing, and so recorded as unsupported: it
// would be the replay queue of a WebSocket that lost its connection, which no plugin reaches.
func (s *steps) all() map[string]host.Step {
	history := []string{shared.StepHistory}
	return map[string]host.Step{
		shared.StepNotify:      {Run: s.notify},
		shared.StepHistory:     {Run: s.history, Verify: s.historyIsGone},
		shared.StepAttachments: {Run: s.attachments, Verify: s.attachmentsAreGone, After: history},
		shared.StepSearch:      {Run: s.search, After: history},
		shared.StepRoaming:     {Run: s.roaming},
		shared.StepPush:        {Run: s.push},
		stepPreviews:           {Run: s.previews, After: history},
		stepSaved:              {Run: s.saved},
		stepCaches:             {Run: s.caches, After: []string{shared.StepAttachments}},
		stepEmail:              {Run: s.email},
	}
}

// alive reports whether the server answers. Without it, calls of the plugin API return zero values.
func (s *steps) alive() error {
	if s.api.GetServerVersion() == "" {
		return errors.New("the Mattermost server does not answer")
	}
	return nil
}

// config is the configuration of the server.
func (s *steps) config() (*model.Config, error) {
	if c := s.api.GetConfig(); c != nil && c.FileSettings.DriverName != nil {
		return c, nil
	}
	return nil, errors.New("the Mattermost server does not answer with its configuration")
}

// value is a setting of the server's configuration. On its way here, a pointer to false, 0 or "" becomes nil.
func value[T any](setting *T) (v T) {
	if setting != nil {
		v = *setting
	}
	return v
}

// notify tells the clients of the members of the channel. Its answer is a second call: a server that answers it has
// had the event.
func (s *steps) notify(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
	notice, err := json.Marshal(d.Notice(false)) // some clients never received the message
	if err != nil {
		return "", err
	}
	payload := map[string]any{}
	if err := json.Unmarshal(notice, &payload); err != nil {
		return "", err
	}
	channel := d.Message.Conversation.ID
	payload["channel_id"] = channel
	s.api.PublishWebSocketEvent("recalled", payload, &model.WebsocketBroadcast{ChannelId: channel})
	return shared.OutcomeDone, s.alive()
}

// roaming has nothing to do: a new device reads the posts.
func (s *steps) roaming(context.Context, shared.Delivery) (shared.Outcome, error) {
	return shared.OutcomeNothingToDo, nil
}

// search has nothing to do where PostgreSQL searches: it searches the posts. Elasticsearch forgets a post that is
// deleted through the server. It keeps the files of a root that stays, and the posts of an archived channel: the
// server shows neither.
func (s *steps) search(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
	c, err := s.config()
	if err != nil {
		return "", err
	}
	if !value(c.ElasticsearchSettings.EnableIndexing) {
		return shared.OutcomeNothingToDo, nil
	}
	var reached bool
	err = s.db.QueryRowContext(ctx, `SELECT coalesce(p.props->>'deleteBy', '') <> '' OR (p.deleteat = 0 AND c.deleteat = 0
			AND p.props->>'recalled_files' IS NULL) FROM posts p JOIN channels c ON c.id = p.channelid WHERE p.id = $1`,
		d.Message.ID).Scan(&reached)
	switch {
	case errors.Is(err, sql.ErrNoRows): // the server removed it for good
		return shared.OutcomeNothingToDo, nil
	case err != nil:
		return "", err
	case !reached:
		return shared.OutcomeUnsupported, nil
	}
	return shared.OutcomeDone, nil
}

// saved takes the post out of the saved posts of everybody.
func (s *steps) saved(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
	result, err := s.db.ExecContext(ctx, `DELETE FROM preferences WHERE category = 'flagged_post' AND name = $1`,
		d.Message.ID)
	if err != nil {
		return "", err
	}
	if n, err := result.RowsAffected(); n > 0 || err != nil {
		return shared.OutcomeDone, err
	}
	return shared.OutcomeNothingToDo, nil
}

// previews makes the server build anew the posts that embed the recalled one, and send them to clients that show
// them. They change in nothing else. A post that was written or updated since the recalled one was emptied embeds
// nothing of it.
func (s *steps) previews(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
	find := func() ([]*model.Post, error) {
		return s.livePosts(ctx, `p.updateat BETWEEN $1 AND (SELECT updateat FROM posts WHERE id = $2) AND p.id <> $2
			AND strpos(p.message, '/pl/' || $2) > 0 AND c.deleteat = 0 AND coalesce(p.type, '') NOT LIKE 'system\_%'`,
			d.Message.SentAt.UnixMilli(), d.Message.ID)
	}
	embedding, err := find()
	if err != nil {
		return "", err
	}
	if len(embedding) == 0 {
		return shared.OutcomeNothingToDo, nil
	}
	for _, p := range embedding {
		err := s.update(ctx, p.Id, func(p *model.Post) {
			if p.GetPreviewedPostProp() == "" {
				p.AddProp(model.PostPropsPreviewedPost, d.Message.ID) // see links.go
			}
		})
		if err != nil {
			return "", fmt.Errorf("post %s, which links to the recalled one: %w", p.Id, err)
		}
	}
	left, err := find()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d posts with a preview of the recalled one were not updated", len(left))
	}
	return shared.OutcomeDone, err
}

// livePosts reads posts that are not deleted, as UpdatePost needs them. Through the plugin API a post may carry a
// preview, of a type that servers before 8.0 name differently, and then does not arrive.
func (s *steps) livePosts(ctx context.Context, where string, args ...any) ([]*model.Post, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT p.id, p.message, coalesce(p.fileids, ''), coalesce(p.ispinned, false),
			coalesce(p.hasreactions, false), coalesce(p.props, '{}'), p.updateat
		FROM posts p JOIN channels c ON c.id = p.channelid
		WHERE p.deleteat = 0 AND coalesce(p.originalid, '') = '' AND `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var posts []*model.Post
	for rows.Next() {
		var p model.Post
		var files string
		var props []byte
		if err := rows.Scan(&p.Id, &p.Message, &files, &p.IsPinned, &p.HasReactions, &props, &p.UpdateAt); err != nil {
			return nil, err
		}
		if p.FileIds, err = fileIDs(files); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(props, &p.Props); err != nil {
			return nil, err
		}
		posts = append(posts, &p)
	}
	return posts, rows.Err()
}

// updateAttempts is how often a post that somebody changes at the same time is read anew.
const updateAttempts = 5

// update puts a post through the server, which then sends it to clients and forgets what it had cached. change may set
// props. The server takes a whole post: one that was changed since it was read is read again. The copies that the
// server keeps as the versions before have the same text, and go. A post that was deleted meanwhile stays as it is.
func (s *steps) update(ctx context.Context, id string, change func(*model.Post)) error {
	for range updateAttempts {
		posts, err := s.livePosts(ctx, `p.id = $1`, id)
		if err != nil || len(posts) == 0 {
			return err
		}
		p := posts[0]
		change(p)
		before, err := s.updatedAt(ctx, id)
		if err != nil {
			return err
		}
		if before != p.UpdateAt {
			continue
		}
		if _, aerr := s.api.UpdatePost(p); aerr != nil {
			return aerr
		}
		after, err := s.updatedAt(ctx, id)
		if err != nil {
			return err
		}
		if after <= before {
			return errors.New("the Mattermost server did not update the post")
		}
		_, err = s.db.ExecContext(ctx, `DELETE FROM posts v USING posts p WHERE p.id = $1 AND v.originalid = p.id
			AND v.deleteat > $2 AND v.message = p.message`, id, before)
		return err
	}
	return errors.New("the post is being changed by others")
}

func unchanged(*model.Post) {}

func (s *steps) updatedAt(ctx context.Context, id string) (at int64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT updateat FROM posts WHERE id = $1`, id).Scan(&at)
	return at, err
}

// firstPushVersion is the first major version whose plugin API sends push notifications.
const firstPushVersion = 9

// push asks the devices of the members of the channel to clear its notifications.
func (s *steps) push(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
	c, err := s.config()
	if err != nil {
		return "", err
	}
	if !value(c.EmailSettings.SendPushNotifications) {
		return shared.OutcomeNothingToDo, nil
	}
	major, _, _ := strings.Cut(s.api.GetServerVersion(), ".")
	if n, err := strconv.Atoi(major); err != nil || n < firstPushVersion {
		return shared.OutcomeUnsupported, s.alive()
	}
	users, err := s.withDevices(ctx, d.Message.Conversation.ID, d.Message.Sender)
	if err != nil {
		return "", err
	}
	if len(users) == 0 {
		return shared.OutcomeNothingToDo, nil
	}
	for _, user := range users {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		clearing := &model.PushNotification{Type: model.PushTypeClear, ChannelId: d.Message.Conversation.ID,
			ContentAvailable: 1}
		if aerr := s.api.SendPushNotification(clearing, user); aerr != nil {
			return "", aerr
		}
	}
	return shared.OutcomeDone, s.alive()
}

// withDevices are the members of a channel, but for the sender, who are logged in on a device that gets
// notifications.
func (s *steps) withDevices(ctx context.Context, channel, sender string) (users []string, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT DISTINCT m.userid
		FROM channelmembers m JOIN sessions s ON s.userid = m.userid
		WHERE m.channelid = $1 AND m.userid <> $2 AND coalesce(s.deviceid, '') <> ''
		AND (s.expiresat = 0 OR s.expiresat > $3)`, channel, sender, time.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var user string
		if err := rows.Scan(&user); err != nil {
			return nil, err
		}
		users = append(users, user)
	}
	return users, rows.Err()
}

// email cannot be withdrawn.
func (s *steps) email(context.Context, shared.Delivery) (shared.Outcome, error) {
	c, err := s.config()
	if err != nil {
		return "", err
	}
	if !value(c.EmailSettings.SendEmailNotifications) {
		return shared.OutcomeNothingToDo, nil
	}
	return shared.OutcomeUnsupported, nil
}

// placeholders are what stands in the place of a root of a thread, where the rules set no text.
var placeholders = adapter.Texts{"en": "_This message was recalled._", "zh-Hans": "_此消息已撤回。_"}

// placeholder is the text of a recalled root of a thread, in the language that clients of the server begin with.
func (s *steps) placeholder(ctx context.Context, d shared.Delivery) (string, error) {
	c, err := s.config()
	if err != nil {
		return "", err
	}
	locale := value(c.LocalizationSettings.DefaultClientLocale)
	text := adapter.In(locale, d.Placeholder)
	if strings.TrimSpace(text) == "" { // also of a silent recall: the root has to be something
		text = adapter.In(locale, placeholders)
	}
	names := map[string]string{}
	for _, id := range []string{d.Actor.ID, d.Message.Sender} {
		var name string
		err := s.db.QueryRowContext(ctx, `SELECT username FROM users WHERE id = $1`, id).Scan(&name)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return "", err
		}
		names[id] = "@" + name
	}
	return strings.NewReplacer("{actor}", names[d.Actor.ID], "{sender}", names[d.Message.Sender],
		"{role}", string(d.Role), "{type}", string(d.Message.Type), "{reason}", d.Reason).Replace(text), nil
}
