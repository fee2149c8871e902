package main

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// picture is a PNG that is large enough for a preview and a thumbnail.
func picture() []byte {
	img := image.NewRGBA(image.Rect(0, 0, 2200, 600))
	for x := range 2200 {
		for y := range 600 {
			img.Set(x, y, color.RGBA{uint8(x), uint8(y), uint8(x * y), 255})
		}
	}
	var out bytes.Buffer
	try(png.Encode(&out, img))
	return out.Bytes()
}

// files: of a recalled post they are gone from the server, the database and the disk.
func (r *run) files() {
	r.fileOfPost("a post", false)
	r.fileOfPost("a root with replies", true)

	// A file of another post stays.
	stays := must(r.alice.upload(r.town, "stays.txt", []byte("stays")))
	must(r.alice.post(post{ChannelID: r.town, Message: r.lasting(), FileIDs: []string{stays}}))
	status, body, err := r.bob.raw("/api/v4/files/" + stays)
	r.check(status == 200 && body == "stays", "files of other posts stay", status, err)
}

// stored returns the paths in the file store that have one of the ids.
func (r *run) stored(ids ...string) (paths []string) {
	try(filepath.WalkDir(r.mm.files(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(path, id) }) {
			paths = append(paths, path)
		}
		return ignoreMissing(err)
	}))
	return paths
}

func (r *run) fileOfPost(of string, replies bool) {
	content, name := r.doomed(), r.doomed()
	document := must(r.alice.upload(r.town, name+".txt", []byte(content)))
	photo := must(r.alice.upload(r.town, name+".png", picture()))
	p := must(r.alice.post(post{ChannelID: r.town, Message: r.doomed(), FileIDs: []string{document, photo}}))
	if replies {
		must(r.bob.post(post{ChannelID: r.town, RootID: p.ID, Message: r.lasting()}))
	}
	paths := []string{"", "/thumbnail", "/preview", "/info"}
	for _, path := range paths {
		status, _, err := r.bob.raw("/api/v4/files/" + photo + path)
		r.check(status == 200, of+": file"+path+" is there", status, err)
	}
	_, body, err := r.bob.raw("/api/v4/posts/" + p.ID + "/files/info")
	r.check(strings.Contains(body, name), of+": the server tells its files", body, err)
	r.becomes(of+": the server has the text of a document", func() error { return some(r.inDatabase(content)) })
	r.check(len(r.stored(document, photo)) >= 4, of+": the files are on disk", r.stored(document, photo))

	r.recallNow(r.alice, p)
	for _, id := range []string{document, photo} {
		for _, path := range paths {
			status, _, err := r.bob.raw("/api/v4/files/" + id + path)
			r.check(status == 404, of+": file"+path+" is gone", status, err)
		}
	}
	_, body, err = r.bob.raw("/api/v4/posts/" + p.ID + "/files/info")
	r.check(!strings.Contains(body, name), of+": the server does not tell their names from memory", body, err)
	left := append(r.stored(document, photo), r.onDisk(content)...)
	r.check(len(left) == 0, of+": the files are gone from the disk", left)
	var rows int
	try(r.db.QueryRowContext(r.ctx, `SELECT count(*) FROM fileinfo WHERE id IN ($1, $2)`, document, photo).Scan(&rows))
	r.check(rows == 0 && len(r.inDatabase(content)) == 0, of+": the files are gone from the database", rows,
		r.inDatabase(content))
}
