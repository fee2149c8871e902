package main

import (
	"fmt"
	"strings"
	"time"
)

// ownInTime: a sender recalls a message a moment after sending it.
func (r *run) ownInTime() {
	watching := must(r.bob.socket())
	defer watching.close()
	text, other := r.doomed(), r.lasting()
	p := must(r.alice.post(post{ChannelID: r.town, Message: text}))
	must(r.alice.post(post{ChannelID: r.town, Message: other}))
	r.becomes("a reader has it", func() error { return some(watching.events("posted", text)) })

	res := must(r.alice.judge("check", p.ID, nil))
	r.check(res.Status == "recalled" && time.Until(res.Until) > time.Minute && res.Text["en"] != "" &&
		res.Text["zh-Hans"] != "",
		"check says until when", res)
	_, body, err := r.alice.raw("/api/v4/posts/" + p.ID)
	r.check(strings.Contains(body, text), "check changes nothing", err)

	res = must(r.alice.judge("recall", p.ID, map[string]any{"recall_id": "first", "ext": "e1", "reason": "typo"}))
	r.check(res.Status == "recalled" && res.RecalledBy == r.alice.id && res.RecallID == "first" && res.Role == "member",
		"the sender recalls it", res)
	r.becomes("every step is settled", func() error { return r.settled(r.bob, "first") })
	steps, _, err := r.bob.ledger("first")
	r.check(steps["notify"] == "done" && steps["history"] == "done", "the ledger has what was done", steps, err)
	r.check(steps["offline"] == "unsupported" && steps["email"] == "unsupported" && steps["push"] == "nothing_to_do",
		"the ledger has what cannot be done", steps)
	r.becomes("a reader gets the event recalled",
		func() error {
			return some(watching.events("custom_"+pluginID+"_recalled", p.ID, "first", r.town, "e1"))
		})
	r.becomes("a reader gets post_deleted", func() error { return some(watching.events("post_deleted", p.ID)) })
	r.check(len(watching.events("post_deleted", text)) == 0 && len(watching.events("custom_"+pluginID+"_recalled",
		text)) == 0,
		"no event has the text")
	status, body, err := r.bob.raw("/api/v4/posts/" + p.ID)
	r.check(status == 404 && !strings.Contains(body, text), "the post is gone", status, body, err)
	_, body, err = r.bob.raw("/api/v4/channels/" + r.town + "/posts")
	r.check(!strings.Contains(body, text) && strings.Contains(body, other), "the channel does not show it", err)
	r.check(!r.finds(r.bob, text) && r.finds(r.bob, other), "search does not find it")
	r.check(len(r.inDatabase(text)) == 0, "the database does not have it", r.inDatabase(text))

	res = must(r.alice.judge("recall", p.ID, map[string]any{"recall_id": "first"}))
	r.check(res.Status == "recalled", "a retry with the same recall id is the same recall", res)
	res = must(r.alice.recall(p.ID))
	r.check(res.Status == "already_recalled", "another recall finds it recalled", res)
	var out struct{ Results []result }
	err = r.alice.do("POST", "/plugins/"+pluginID+"/recall", map[string]any{"message_ids": []string{p.ID}}, &out)
	r.check(err == nil && len(out.Results) == 1, "message_ids is short for targets", err)
	err = r.alice.do("POST", "/plugins/"+pluginID+"/recall", map[string]any{"targets": []string{}}, nil)
	r.check(statusOf(err) == 400, "a malformed request is refused with its field", err)
	res = must(r.alice.recall("abcdefghijklmnopqrstuvwxyz"))
	r.check(res.Status == "not_found" && res.Text["en"] != "", "an unknown id is not found", res)
}

// some says that there is something.
func some(found []string) error {
	if len(found) == 0 {
		return fmt.Errorf("nothing came")
	}
	return nil
}

// finds reports whether search finds a text.
func (r *run) finds(c *client, text string) bool {
	var out struct{ Order []string }
	try(c.do("POST", "/api/v4/teams/"+r.team+"/posts/search", map[string]any{"terms": text, "is_or_search": false}, &out))
	return len(out.Order) > 0
}

// oldPost makes a post of a user that is older than the window, unseen by the plugin until it is asked about it.
func (r *run) oldPost(c *client, channel, text string) post {
	r.disable()
	p := must(c.post(post{ChannelID: channel, Message: text}))
	_, err := r.db.ExecContext(r.ctx, `UPDATE posts SET createat = createat - 600000 WHERE id = $1`, p.ID)
	try(err)
	r.enable()
	return p
}

// tooLate: the window of the built-in rules is two minutes.
func (r *run) tooLate() {
	text := r.lasting()
	p := r.oldPost(r.alice, r.town, text)
	for _, call := range []string{"check", "recall"} {
		res := must(r.alice.judge(call, p.ID, nil))
		r.check(res.Status == "denied" && res.Code == "window_expired" && strings.Contains(res.Text["en"], "too old"),
			call+" refuses with a sentence", res)
	}
	_, body, err := r.bob.raw("/api/v4/posts/" + p.ID)
	r.check(strings.Contains(body, text), "the post is still there", err)
	res := must(r.dave.recall(p.ID))
	r.check(res.Status == "recalled" && res.Role == "admin", "a team admin recalls it at any time", res)
	r.kept = r.kept[:len(r.kept)-1]
	r.recalled = append(r.recalled, text)
}

// directMessages: nobody but the two reads them, and nobody but the sender recalls them.
func (r *run) directMessages() {
	text, kept := r.doomed(), r.lasting()
	p := must(r.alice.post(post{ChannelID: r.direct, Message: text}))
	must(r.alice.post(post{ChannelID: r.direct, Message: kept}))
	for name, c := range map[string]*client{"a system admin": r.root, "a team admin": r.dave, "another user": r.carol} {
		res := must(c.recall(p.ID))
		r.check(res.Status == "not_found", "for "+name+" it does not exist", res)
		_, _, err := c.since(r.direct, "")
		r.check(statusOf(err) == 404, "for "+name+" its recalls do not exist", err)
	}
	res := must(r.bob.recall(p.ID))
	r.check(res.Status == "denied" && res.Code == "forbidden", "the other one does not recall it", res)
	res = r.recallNow(r.alice, p)
	_, found, err := r.root.ledger(res.RecallID)
	r.check(err == nil && !found, "for a system admin its ledger is empty", err)
	events, _, err := r.bob.since(r.direct, "")
	r.check(err == nil && len(events) == 1 && events[0].Message.ID == p.ID, "the other one learns of the recall", events,
		err)
	_, body, err := r.bob.raw("/api/v4/channels/" + r.direct + "/posts")
	r.check(!strings.Contains(body, text) && strings.Contains(body, kept), "only that message is gone", err)

	group := r.id(r.alice, "POST", "/api/v4/channels/group", []string{r.alice.id, r.bob.id, r.carol.id})
	gone := must(r.bob.post(post{ChannelID: group, Message: r.doomed()}))
	res = must(r.alice.recall(gone.ID))
	r.check(res.Status == "denied", "in a group message nobody recalls messages of others", res)
	res = must(r.root.recall(gone.ID))
	r.check(res.Status == "not_found", "a system admin does not see group messages of others", res)
	r.recallNow(r.bob, gone)
}

// roles: from channel, team and system.
func (r *run) roles() {
	channel := r.id(r.alice, "POST", "/api/v4/channels",
		map[string]string{"team_id": r.team, "name": "roles", "display_name": "roles", "type": "O"})
	for _, c := range []*client{r.bob, r.carol} {
		r.join(channel, c)
	}
	for _, one := range []struct {
		who  string
		by   *client
		role string
	}{{"the owner of a channel", r.alice, "owner"}, {"a team admin", r.dave, "admin"}, {"a system admin", r.root,
		"admin"}} {
		p := must(r.bob.post(post{ChannelID: channel, Message: r.doomed()}))
		res := must(r.carol.recall(p.ID))
		r.check(res.Status == "denied" && res.Code == "forbidden" && res.Text["zh-Hans"] != "",
			"a member does not recall a message of another", res)
		res = must(one.by.recall(p.ID))
		r.check(res.Status == "recalled" && res.Role == one.role, one.who+" does", res)
	}
	try(r.root.do("PUT", "/api/v4/channels/"+channel+"/members/"+r.carol.id+"/schemeRoles",
		map[string]bool{"scheme_user": true, "scheme_admin": true}, nil))
	p := must(r.bob.post(post{ChannelID: channel, Message: r.doomed()}))
	res := must(r.carol.recall(p.ID))
	r.check(res.Status == "recalled" && res.Role == "admin", "a channel admin does", res)

	p = must(r.alice.post(post{ChannelID: r.private, Message: r.lasting()}))
	for name, c := range map[string]*client{"a team admin": r.dave, "a user of the team": r.carol, "a stranger": r.erin} {
		res := must(c.recall(p.ID))
		r.check(res.Status == "not_found", "for "+name+" a private channel of others does not exist", res)
	}
	_, _, err := r.erin.since(r.town, "")
	r.check(statusOf(err) == 404, "who is not in the team does not read its public channels", err)
}

// systemPosts cannot be recalled.
func (r *run) systemPosts() {
	var id string
	try(r.db.QueryRowContext(r.ctx, `SELECT id FROM posts WHERE channelid = $1 AND type LIKE 'system\_%' LIMIT 1`,
		r.town).Scan(&id))
	res := must(r.root.recall(id))
	r.check(res.Status == "denied" && res.Code == "type_not_recallable", "a system admin does not recall a system post",
		res)
}

// offlineReader: who was away gets no content, and learns of the recall.
func (r *run) offlineReader() {
	_, after, err := r.carol.since(r.town, "")
	try(err)
	text := r.doomed()
	p := must(r.alice.post(post{ChannelID: r.town, Message: text}))
	r.recallNow(r.alice, p)
	late := must(r.carol.socket())
	defer late.close()
	_, body, err := r.carol.raw("/api/v4/channels/" + r.town + "/posts?since=" + fmt.Sprint(p.CreateAt-1000))
	r.check(err == nil && !strings.Contains(body, text), "the posts since then do not have the text", err)
	events, next, err := r.carol.since(r.town, after)
	r.check(err == nil && len(events) == 1 && events[0].Message.ID == p.ID, "since has the recall", events, err)
	r.check(len(events) == 1 && events[0].Message.Sender == "", "since does not say what the message was", events)
	events, _, err = r.carol.since(r.town, next)
	r.check(err == nil && len(events) == 0, "the next page is empty", events, err)
	r.check(len(late.events("posted", text)) == 0, "no event has the text")
}

// threads: replies stay when their root is recalled.
func (r *run) threads() {
	watching := must(r.carol.socket())
	defer watching.close()
	rootText, reply := r.doomed(), r.lasting()
	root := must(r.alice.post(post{ChannelID: r.town, Message: rootText}))
	must(r.bob.post(post{ChannelID: r.town, RootID: root.ID, Message: reply}))
	gone := must(r.alice.post(post{ChannelID: r.town, RootID: root.ID, Message: r.doomed()}))
	r.recallNow(r.alice, gone)
	r.recallNow(r.alice, root)
	_, body, err := r.bob.raw("/api/v4/posts/" + root.ID + "/thread")
	r.check(strings.Contains(body, reply), "a reply of another stays", body, err)
	r.check(!strings.Contains(body, rootText) && strings.Contains(body, "This message was recalled"),
		"the root has a placeholder in place of its text", body)
	r.becomes("a reader gets post_edited with the placeholder",
		func() error { return some(watching.events("post_edited", root.ID, "This message was recalled")) })
	r.check(len(watching.events("post_edited", rootText)) == 0, "the event does not have the text")
	var edited int64
	try(r.db.QueryRowContext(r.ctx, `SELECT editat FROM posts WHERE id = $1`, root.ID).Scan(&edited))
	r.check(edited == 0, "it is not marked as edited", edited)

	single := must(r.alice.post(post{ChannelID: r.town, Message: r.doomed()}))
	r.recallNow(r.alice, single)
	status, _, err := r.bob.raw("/api/v4/posts/" + single.ID)
	r.check(status == 404, "a root without replies is deleted", status, err)
}

// permalinks: posts of others that embed the recalled one.
func (r *run) permalinks() {
	watching := must(r.carol.socket())
	defer watching.close()
	text, around := r.doomed(), r.lasting()
	p := must(r.alice.post(post{ChannelID: r.town, Message: text}))
	var team struct{ Name string }
	try(r.root.do("GET", "/api/v4/teams/"+r.team, nil, &team))
	link := r.mm.url() + "/" + team.Name + "/pl/" + p.ID
	quote := must(r.bob.post(post{ChannelID: r.town, Message: around + " " + link}))
	r.becomes("a post with its link embeds it", func() error { return some(watching.events("posted", quote.ID, text)) })
	elsewhere := must(r.bob.post(post{ChannelID: r.private, Message: around + " " + link}))
	r.recallNow(r.alice, p)

	for _, id := range []string{quote.ID, elsewhere.ID} {
		_, body, err := r.bob.raw("/api/v4/posts/" + id)
		r.check(strings.Contains(body, around) && !strings.Contains(body, text),
			"the post of another is as it was, without the embed",
			body, err)
	}
	r.becomes("its readers get it anew", func() error { return some(watching.events("post_edited", quote.ID)) })
	r.check(len(watching.events("post_edited", text)) == 0, "without the text")
	var edited, versions int64
	try(r.db.QueryRowContext(r.ctx, `SELECT editat, (SELECT count(*) FROM posts v WHERE v.originalid = p.id) FROM posts p
		WHERE id = $1`,
		quote.ID).Scan(&edited, &versions))
	r.check(edited == 0 && versions == 0, "it is not marked as edited", edited, versions)

	again := must(r.bob.post(post{ChannelID: r.town, Message: around + " again " + link}))
	_, body, err := r.bob.raw("/api/v4/posts/" + again.ID)
	r.check(strings.Contains(body, "again") && !strings.Contains(body, text), "the link posted anew embeds nothing",
		body, err)
	plain := must(r.bob.post(post{ChannelID: r.town, Message: around}))
	var patched post
	try(r.bob.do("PUT", "/api/v4/posts/"+plain.ID+"/patch", map[string]any{"message": around + " edited " + link},
		&patched))
	_, body, err = r.bob.raw("/api/v4/posts/" + plain.ID)
	r.check(strings.Contains(body, "edited") && !strings.Contains(body, text),
		"the link edited into a post embeds nothing", body, err)
	leaked := 0
	for _, kind := range []string{"posted", "post_edited"} {
		leaked += len(watching.events(kind, again.ID, text)) + len(watching.events(kind, plain.ID, text))
	}
	r.check(leaked == 0, "no event of these has the text")
	live := must(r.alice.post(post{ChannelID: r.town, Message: around + " live"}))
	embeds := must(r.bob.post(post{ChannelID: r.town, Message: r.mm.url() + "/" + team.Name + "/pl/" + live.ID}))
	_, body, err = r.bob.raw("/api/v4/posts/" + embeds.ID)
	r.check(strings.Contains(body, around+" live"), "the link of a post that is there still embeds it", body, err)

	url := r.mm.url() + "/" + r.doomed()
	withLink := must(r.alice.post(post{ChannelID: r.town, Message: "see " + url}))
	r.check(len(r.inDatabase(url)) > 1, "the server keeps the link of a post in its preview cache", r.inDatabase(url))
	r.recallNow(r.alice, withLink)
	r.check(len(r.inDatabase(url)) == 0, "a recall takes it out of there", r.inDatabase(url))
}

// edits: old versions go, and an edit does not open the window again.
func (r *run) edits() {
	first, second := r.doomed(), r.doomed()
	p := must(r.alice.post(post{ChannelID: r.town, Message: first}))
	try(r.alice.do("PUT", "/api/v4/posts/"+p.ID+"/patch", map[string]any{"message": second}, nil))
	r.check(len(r.inDatabase(first)) > 0, "the server keeps the version before", r.inDatabase(first))
	r.recallNow(r.alice, p)
	r.check(len(r.inDatabase(first)) == 0 && len(r.inDatabase(second)) == 0, "both versions are gone", r.inDatabase(first),
		r.inDatabase(second))
	old := r.oldPost(r.alice, r.town, r.lasting())
	try(r.alice.do("PUT", "/api/v4/posts/"+old.ID+"/patch", map[string]any{"message": r.lasting()}, nil))
	res := must(r.alice.recall(old.ID))
	r.check(res.Code == "window_expired", "an edit does not open the window again", res)
}

// pinsAndSaved: lists in which users keep posts.
func (r *run) pinsAndSaved() {
	text := r.doomed()
	p := must(r.alice.post(post{ChannelID: r.town, Message: text}))
	try(r.bob.do("POST", "/api/v4/posts/"+p.ID+"/pin", nil, nil))
	try(r.carol.do("PUT", "/api/v4/users/"+r.carol.id+"/preferences", []map[string]string{
		{"user_id": r.carol.id, "category": "flagged_post", "name": p.ID, "value": "true"}}, nil))
	_, body, err := r.bob.raw("/api/v4/channels/" + r.town + "/pinned")
	r.check(strings.Contains(body, text), "it is pinned", err)
	r.recallNow(r.alice, p)
	_, body, err = r.bob.raw("/api/v4/channels/" + r.town + "/pinned")
	r.check(!strings.Contains(body, p.ID), "it is not pinned any more", body, err)
	_, body, err = r.carol.raw("/api/v4/users/" + r.carol.id + "/posts/flagged")
	r.check(!strings.Contains(body, p.ID), "it is not saved any more", body, err)
	var left int
	try(r.db.QueryRowContext(r.ctx, `SELECT count(*) FROM preferences WHERE name = $1`, p.ID).Scan(&left))
	r.check(left == 0, "no preference names it", left)
}

// commands: /recall, in the language of the user.
func (r *run) commands() {
	say := func(c *client, line string) string { return must(c.command(r.team, r.town, line)) }
	text := r.doomed()
	p := must(r.alice.post(post{ChannelID: r.town, Message: text}))
	answer := say(r.alice, "/recall check")
	r.check(strings.HasPrefix(answer, "You can recall this message until"), "/recall check tells about the last message",
		answer)
	answer = say(r.bob, "/recall check "+p.ID)
	r.check(strings.Contains(answer, "can't recall"), "/recall check with an id", answer)
	answer = say(r.alice, "/recall wrong channel")
	r.check(answer == "The message was recalled.", "/recall recalls the last message", answer)
	r.becomes("it is gone", func() error {
		if found := r.inDatabase(text); len(found) > 0 {
			return fmt.Errorf("%q", found)
		}
		return nil
	})
	answer = say(r.alice, "/recall "+r.mm.url()+"/x/pl/"+p.ID)
	r.check(strings.Contains(answer, "recalled before"), "/recall with a permalink", answer)
	answer = say(r.alice, "/recall help")
	r.check(strings.Contains(answer, "/recall check"), "/recall help", answer)
	try(r.alice.do("PUT", "/api/v4/users/"+r.alice.id+"/patch", map[string]string{"locale": "zh-CN"}, nil))
	must(r.alice.post(post{ChannelID: r.town, Message: r.doomed()}))
	answer = say(r.alice, "/recall")
	r.check(answer == "消息已撤回。", "in Chinese to a user who reads Chinese", answer)
	try(r.alice.do("PUT", "/api/v4/users/"+r.alice.id+"/patch", map[string]string{"locale": "en"}, nil))
	empty := r.id(r.bob, "POST", "/api/v4/channels/direct", []string{r.bob.id, r.bob.id})
	answer = must(r.bob.command(r.team, empty, "/recall"))
	r.check(strings.Contains(answer, "no message of yours"), "/recall without a message", answer)
}

// rules: the setting Rules is in force at once; broken rules are not.
func (r *run) rules() {
	before := must(r.pluginState(r.root)).Rules.Digest
	defer func() {
		r.set("rules", "")
		r.becomes("empty rules are the built-in ones",
			func() error { return r.digest(func(d string) bool { return d == before }) })
	}()
	r.set("rules", `permit "own" {
  sender = true
  window = "1h"
  reason = "required"
}
`)
	r.becomes("new rules are in force", func() error { return r.digest(func(d string) bool { return d != before }) })
	p := must(r.alice.post(post{ChannelID: r.town, Message: r.doomed()}))
	res := must(r.alice.recall(p.ID))
	r.check(res.Status == "denied" && res.Code == "reason_required", "they decide", res)
	r.set("rules", `permit "own" {`)
	r.becomes("the state has the error of broken rules", func() error {
		if s := must(r.pluginState(r.root)); len(s.Rules.Refused) == 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	res = must(r.alice.judge("recall", p.ID, map[string]any{"reason": "wrong channel"}))
	r.check(res.Status == "recalled", "the rules before stay in force", res)
}

func (r *run) digest(is func(string) bool) error {
	s, err := r.pluginState(r.root)
	if err == nil && !is(s.Rules.Digest) {
		err = fmt.Errorf("digest %s", s.Rules.Digest)
	}
	return err
}
