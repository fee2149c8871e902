package chat

import (
	"context"
	"fmt"
	"net/http"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// auditForget erases what is known of a user's recalled messages: here, then in the index, and at last what steps have
// left here meanwhile. It answers how far the index is; the caller asks again until it is done. A forgotten live
// message could never be recalled, so it refuses as long as the history has one of the user. Ids stay among the
// tombstones, and the archive keeps contents for as long as their retention says.
func (a *api) auditForget(r *http.Request, _ string) (any, error) {
	var in struct {
		User string `json:"user"`
	}
	if err := adapter.ReadJSON(r, maxBodyBytes, &in); err != nil {
		return nil, err
	}
	if in.User == "" {
		return nil, shared.Invalidf("user", "is empty; want the user to forget")
	}
	if err := a.server.store.forget(r.Context(), in.User); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	result, err := a.server.recall.Forget(ctx, shared.ForgetRequest{Tenant: Tenant, Sender: in.User})
	if err != nil || !result.Done {
		return result, err
	}
	// A step that was settled during the call may have left notices. When the index is done, no step is open any more.
	return result, a.server.store.forget(r.Context(), in.User)
}

// forget erases the placeholders and notices of a user's recalled messages. In those of others that the user took back,
// [shared.Forgotten] takes the place of the name, as in the index.
func (s *Store) forget(ctx context.Context, user string) error {
	var live int
	err := s.apply(ctx, func(tx *writeTx) error {
		_, err := tx.row("SELECT count(*) FROM messages WHERE sender = ?", []any{user}, &live)
		if err != nil || live > 0 {
			return err
		}
		for _, table := range []string{"placeholders", "notices"} {
			err = tx.exec("DELETE FROM "+table+" WHERE json_extract(notice, '$.message.sender') = ?", user)
			if err != nil {
				return err
			}
			err = tx.exec("UPDATE "+table+` SET notice = json_set(notice, '$.actor', ?)
				WHERE json_extract(notice, '$.actor') = ?`, shared.Forgotten, user)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget a user: %w", err)
	}
	if live > 0 {
		return refuse(http.StatusConflict, "%.80q still has %d messages here; remove them first", user, live)
	}
	return nil
}
