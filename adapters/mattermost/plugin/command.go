package main

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/mattermost/mattermost/server/public/model"
	"github.com/mattermost/mattermost/server/public/plugin"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

const trigger = "recall"

var (
	usage = adapter.Texts{
		"en": "`/recall [permalink or id] [reason]` recalls a message, or your last one here.\n" +
			"`/recall check [permalink or id]` tells whether you can recall it.",
		"zh-Hans": "`/recall [永久链接或消息 ID] [原因]`：撤回一条消息；" +
			"不指定时撤回你在此处的最后一条。\n" +
			"`/recall check [永久链接或消息 ID]`：查看是否可以撤回。",
	}
	noPermalink = adapter.Texts{
		"en":      "Nothing was recalled: this is not the permalink of a message.",
		"zh-Hans": "未撤回任何消息：这不是消息的永久链接。",
	}
	noMessage = adapter.Texts{"en": "There is no message of yours here.", "zh-Hans": "这里没有你的消息。"}
	notReady  = adapter.Texts{
		"en":      "The message was not recalled: Recall is starting or busy. Try again.",
		"zh-Hans": "未能撤回：Recall 正在启动或繁忙，请稍后再试。",
	}
	failed = adapter.Texts{
		"en":      "The message was not recalled because of an error. An administrator finds it in the log of the server.",
		"zh-Hans": "撤回失败，管理员可在服务器日志中查看原因。",
	}
)

// command describes /recall for the autocompletion of clients.
func command() *model.Command {
	data := model.NewAutocompleteData(trigger, "[permalink or id] [reason]", "Recall a message, or your last one here")
	data.AddCommand(model.NewAutocompleteData("check", "[permalink or id]", "Tell whether you can recall it"))
	data.AddCommand(model.NewAutocompleteData("help", "", "Show how to use this command"))
	return &model.Command{
		Trigger: trigger, AutoComplete: true, AutoCompleteHint: data.Hint, AutoCompleteDesc: data.HelpText,
		AutocompleteData: data,
	}
}

// a line is what somebody typed after /recall.
type line struct {
	help, check bool
	badLink     bool   // it names a message, and not by its permalink
	postID      string // empty: the last post
	reason      string
}

var postID = regexp.MustCompile(`(?:^|/pl/)([a-z0-9]{26})$`)

func parseLine(command string) (l line) {
	words := strings.Fields(command)[1:]
	if len(words) > 0 {
		l.help, l.check = words[0] == "help", words[0] == "check"
		if l.help || l.check {
			words = words[1:]
		}
	}
	if len(words) > 0 {
		if m := postID.FindStringSubmatch(strings.TrimRight(words[0], "/>")); m != nil {
			l.postID, words = m[1], words[1:]
		} else {
			l.badLink = strings.Contains(words[0], "://") || strings.Contains(words[0], "/pl/")
		}
	}
	l.reason = strings.Join(words, " ")
	return l
}

// ExecuteCommand answers /recall to the user alone, in their language.
func (p *Plugin) ExecuteCommand(_ *plugin.Context, args *model.CommandArgs,
) (*model.CommandResponse, *model.AppError) {
	defer recoverPanic(p.log, "ExecuteCommand")
	answer := func(texts adapter.Texts, locale string) (*model.CommandResponse, *model.AppError) {
		return &model.CommandResponse{ResponseType: model.CommandResponseTypeEphemeral, Text: adapter.In(locale, texts)}, nil
	}
	s := p.service.Load()
	if s == nil {
		return answer(notReady, "")
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	locale, err := s.platform.locale(ctx, args.UserId)
	if err == nil {
		var texts adapter.Texts
		if texts, err = s.run(ctx, parseLine(args.Command), args); err == nil {
			return answer(texts, locale)
		}
	}
	switch {
	case errors.Is(err, shared.ErrUnavailable), errors.Is(err, shared.ErrOverloaded),
		errors.Is(err, context.DeadlineExceeded):
		return answer(notReady, locale)
	case errors.Is(err, shared.ErrInvalid): // such as a reason that is too long
		return answer(adapter.Texts{"en": err.Error()}, locale)
	}
	p.log.Error("/recall failed", "error", err)
	return answer(failed, locale)
}

// run carries a line out and returns what to tell the user.
func (s *service) run(ctx context.Context, l line, args *model.CommandArgs) (adapter.Texts, error) {
	switch {
	case l.help:
		return usage, nil
	case l.badLink: // not the last post: that is not what the user means
		return noPermalink, nil
	}
	if l.postID == "" {
		var err error
		if l.postID, err = s.platform.lastPost(ctx, args.UserId, args.ChannelId, args.RootId); err != nil {
			return nil, err
		}
		if l.postID == "" {
			return noMessage, nil
		}
	}
	ask := adapter.Ask{MessageIDs: []string{l.postID}, Reason: l.reason}
	if l.check {
		results, err := s.adapter.Check(ctx, args.UserId, ask)
		if err != nil {
			return nil, err
		}
		return results[0].Text, nil
	}
	results, err := s.adapter.Recall(ctx, args.UserId, ask)
	if err != nil {
		return nil, err
	}
	return results[0].Text, nil
}
