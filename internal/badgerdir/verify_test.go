package badgerdir

import "testing"

func TestVerify(t *testing.T) {
	path := closedDir(t, 4000)
	r, err := Verify(t.Context(), path, nil)
	if err != nil || !r.OK || r.Tables == 0 || r.Bytes == 0 || r.Index.ID == "" {
		t.Fatalf("%+v %v", r, err)
	}
	edit(t, tables(t, path)[0], flip(5000))
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
