package shared

import (
	"context"
	"fmt"
	"iter"
)

// ListPages returns the pages of a list from req.After on, in order. list is the method List of a [Recall]. After an
// error there are no more pages: go on with the Next of the last page as After. If the index is restored or replaced
// meanwhile, the error is [ErrUnavailable]; start again without After.
func ListPages(ctx context.Context, list func(context.Context, ListRequest) (EventPage, error),
	req ListRequest) iter.Seq2[EventPage, error] {
	return func(yield func(EventPage, error) bool) {
		for {
			page, err := list(ctx, req)
			if err == nil && page.Reset {
				err = fmt.Errorf("%w: the index was restored or replaced, and the cursor is of the one before: list from the start",
					ErrUnavailable)
			}
			if err != nil {
				yield(EventPage{}, err)
				return
			}
			if !yield(page, nil) || !page.More {
				return
			}
			req.After = page.Next
		}
	}
}
