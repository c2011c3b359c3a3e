// Package compare tells what is different between two trees.
package compare

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/imagetool/source"
)

// Change is a path that is different.
type Change struct {
	Path string   `json:"path"`
	Kind string   `json:"kind"`           // added, removed or changed
	What []string `json:"what,omitempty"` // of what changed: type, content, mode, owner, target, device, xattrs
	Size int64    `json:"size"`           // of the content afterwards; before, of what was removed
}

// Options says how to compare.
type Options struct {
	// Content has all contents read. Otherwise those of files whose size and
	// modification time are the same count as the same.
	Content bool
}

// Trees returns the changes from a to b, in the order of their paths. Times
// alone are no change.
func Trees(ctx context.Context, a, b *source.Tree, o Options) ([]Change, error) {
	paths := make(map[string]bool)
	for _, t := range []*source.Tree{a, b} {
		for _, e := range t.Entries() {
			paths[e.Path] = true
		}
	}
	var out []Change
	for _, p := range slices.SortedFunc(maps.Keys(paths), strings.Compare) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		x, y := a.Lookup(p), b.Lookup(p)
		switch {
		case x == nil:
			out = append(out, Change{Path: p, Kind: "added", Size: y.Size})
		case y == nil:
			out = append(out, Change{Path: p, Kind: "removed", Size: x.Size})
		default:
			what, err := differences(a, b, x, y, o)
			if err != nil {
				return nil, err
			}
			if len(what) > 0 {
				out = append(out, Change{Path: p, Kind: "changed", What: what, Size: y.Size})
			}
		}
	}
	return out, nil
}

func differences(a, b *source.Tree, x, y *source.Entry, o Options) (what []string, err error) {
	if x.Type() != y.Type() {
		return []string{"type"}, nil
	}
	x, y = file(x), file(y)
	if x.IsRegular() {
		same := x.Size == y.Size
		if same && (o.Content || x.Sec != y.Sec || x.Nsec != y.Nsec) {
			if same, err = sameContent(a, b, x, y); err != nil {
				return nil, err
			}
		}
		if !same {
			what = append(what, "content")
		}
	}
	for _, d := range []struct {
		name string
		is   bool
	}{
		{"mode", x.Mode != y.Mode}, {"owner", x.UID != y.UID || x.GID != y.GID}, {"target", x.Target != y.Target},
		{"device", x.Rdev != y.Rdev}, {"xattrs", !maps.Equal(x.Xattrs, y.Xattrs)},
	} {
		if d.is {
			what = append(what, d.name)
		}
	}
	return what, nil
}

// file returns the entry that has the content.
func file(e *source.Entry) *source.Entry {
	if e.First != nil {
		return e.First
	}
	return e
}

func sameContent(a, b *source.Tree, x, y *source.Entry) (bool, error) {
	r, err := a.Open(x)
	if err != nil {
		return false, err
	}
	defer r.Close()
	s, err := b.Open(y)
	if err != nil {
		return false, err
	}
	defer s.Close()
	p, q := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, err := io.ReadFull(r, p)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, source.ReadError(x, err)
		}
		m, err2 := io.ReadFull(s, q)
		if err2 != nil && !errors.Is(err2, io.EOF) && !errors.Is(err2, io.ErrUnexpectedEOF) {
			return false, source.ReadError(y, err2)
		}
		if !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		if err != nil {
			return true, nil
		}
	}
}
