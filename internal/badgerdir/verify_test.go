package badgerdir

import (
	"testing"

	"github.com/chat-recall/recall/internal/badgerdir/dirtest"
)

func TestVerify(t *testing.T) {
	path := closedDir(t, 4000)
	r, err := Verify(t.Context(), path, nil)
	if err != nil || !r.OK || r.Tables == 0 || r.Bytes == 0 || r.Index.ID == "" {
		t.Fatalf("%+v %v", r, err)
	}
	dirtest.Edit(t, dirtest.Tables(t, path)[0], dirtest.Flip(5000))
	r, err = Verify(t.Context(), path, nil)
	if err != nil || r.OK || len(r.Damage) != 1 || r.Damage[0].Offset < 0 {
		t.Errorf("a damaged table: %+v %v", r, err)
	}
	if _, err := Verify(t.Context(), t.TempDir(), nil); err == nil {
		t.Error("an empty folder is verified")
	}
	d := openNew(t)
	if _, err := Verify(t.Context(), d.path, nil); err == nil {
		t.Error("an open database is verified")
	}
}
