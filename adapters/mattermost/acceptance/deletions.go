package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// A bypass is an entry of GET /bypassed.
type bypass struct {
	PostID    string `json:"post_id"`
	DeletedBy string `json:"deleted_by"`
	Result    result
}

func (r *run) bypassed(post string) (found *bypass, err error) {
	var out struct{ Bypassed []bypass }
	err = r.root.do("GET", "/plugins/"+pluginID+"/bypassed", nil, &out)
	if i := slices.IndexFunc(out.Bypassed, func(b bypass) bool { return b.PostID == post }); i >= 0 {
		found = &out.Bypassed[i]
	}
	return found, err
}

// becameRecall reports whether a post that was deleted by Mattermost's own means became a recall.
func (r *run) becameRecall(c *client, p post, text string) error {
	if err := r.settled(c, "mattermost-delete-"+p.ID); err != nil {
		return err
	}
	if found := r.inDatabase(text); len(found) > 0 {
		return fmt.Errorf("still in the database: %q", found)
	}
	return nil
}

func (r *run) delete(c *client, p post) { try(c.do("DELETE", "/api/v4/posts/"+p.ID, nil, nil)) }

// deletions by Mattermost's own means become recalls where the rules permit it, and are listed elsewhere.
func (r *run) deletions() {
	text := r.doomed()
	p := must(r.alice.post(post{ChannelID: r.town, Message: text}))
	r.delete(r.alice, p)
	r.becomes("a deletion that the rules permit becomes a recall", func() error {
		return r.becameRecall(r.alice, p, text)
	})

	kept := r.lasting()
	old := r.oldPost(r.alice, r.town, kept)
	r.delete(r.alice, old)
	listed := func() error {
		b, err := r.bypassed(old.ID)
		if err == nil && (b == nil || b.DeletedBy != r.alice.id || b.Result.Code != "window_expired") {
			err = fmt.Errorf("%+v", b)
		}
		return err
	}
	r.becomes("a deletion against the rules is listed", listed)
	r.check(len(r.inDatabase(kept)) > 0, "its text is still in the database")
	err := r.alice.do("GET", "/plugins/"+pluginID+"/bypassed", nil, nil)
	r.check(statusOf(err) == http.StatusForbidden, "the list is for system admins", err)
	r.disable()
	r.enable()
	r.becomes("the list survives", listed)
}

// catchUp: what happened while the plugin was disabled.
func (r *run) catchUp() {
	inTime, old := r.doomed(), r.lasting()
	deleted := must(r.alice.post(post{ChannelID: r.town, Message: inTime}))
	r.disable()
	_, err := r.alice.recall(deleted.ID)
	r.check(err != nil, "nothing is recalled while the plugin is disabled", err)
	r.delete(r.alice, deleted)
	late := must(r.alice.post(post{ChannelID: r.town, Message: old}))
	_, err = r.db.ExecContext(r.ctx, `UPDATE posts SET createat = createat - 600000 WHERE id = $1`, late.ID)
	try(err)
	r.delete(r.alice, late)
	missed := must(r.alice.post(post{ChannelID: r.town, Message: r.doomed()}))
	r.enable()
	r.becomes("a post that was deleted meanwhile becomes a recall", func() error {
		return r.becameRecall(r.alice, deleted, inTime)
	})
	r.becomes("a deletion against the rules meanwhile is listed", func() error {
		b, err := r.bypassed(late.ID)
		if err == nil && b == nil {
			err = errors.New("not listed")
		}
		return err
	})
	r.recallNow(r.alice, missed)
	r.check(true, "a post that was sent meanwhile is recalled")
}

// deletePermissions: with the setting TakeDeletePost every deletion goes through the rules.
func (r *run) deletePermissions() {
	roles := func() string {
		var all string
		try(r.db.QueryRowContext(r.ctx, `SELECT string_agg(name || ':' || (SELECT string_agg(p, ',' ORDER BY p)
			FROM unnest(string_to_array(trim(permissions), ' ')) p), E'\n' ORDER BY name) FROM roles`).Scan(&all))
		return all
	}
	before := roles()
	r.check(strings.Contains(before, "delete_post") && strings.Contains(before, "delete_others_posts"),
		"roles may delete posts")
	r.set("takedeletepost", true)
	r.becomes("no role may delete posts any more", func() error {
		if now := roles(); strings.Contains(now, "delete_post") || strings.Contains(now, "delete_others_posts") {
			return errors.New("a role may")
		}
		return nil
	})
	text := r.doomed()
	p := must(r.alice.post(post{ChannelID: r.town, Message: text}))
	for name, c := range map[string]*client{"the sender": r.alice, "a team admin": r.dave, "a system admin": r.root} {
		err := c.do("DELETE", "/api/v4/posts/"+p.ID, nil, nil)
		r.check(statusOf(err) == http.StatusForbidden, name+" does not delete a post by Mattermost's own means", err)
	}
	r.recallNow(r.alice, p)
	r.check(len(r.inDatabase(text)) == 0, "the sender recalls it")
	r.check(must(r.pluginState(r.root)).TakenFrom > 0, "the state counts the roles")
	r.set("takedeletepost", false)
	r.becomes("every role has its permissions back", func() error {
		if now := roles(); now != before {
			return fmt.Errorf("%s", difference(before, now))
		}
		return nil
	})
	r.becomes("the state counts none", func() error {
		if s := must(r.pluginState(r.root)); s.TakenFrom > 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

// difference are the lines of a that b does not have.
func difference(a, b string) (lines []string) {
	for line := range strings.Lines(a) {
		if !strings.Contains(b+"\n", strings.TrimSpace(line)+"\n") {
			lines = append(lines, line)
		}
	}
	return lines
}
