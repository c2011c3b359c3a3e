package source_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/imagetool/source"
)

// flat returns the tree as a map of paths to kinds and, as a mark, owners.
func flat(t testing.TB, b *source.Builder) map[string]string {
	t.Helper()
	tree, err := b.Tree()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for i, e := range tree.Entries() {
		if e.Path == "" {
			continue
		}
		out[e.Path] = fmt.Sprintf("%o %d", e.Type(), e.UID)
		if tree.Lookup(e.Path) != e {
			t.Errorf("Lookup(%q) is not the entry", e.Path)
		}
		if i > 0 && e.Path <= tree.Entries()[i-1].Path && !strings.ContainsAny(e.Path, "/") {
			t.Errorf("/%s follows /%s", e.Path, tree.Entries()[i-1].Path)
		}
	}
	if len(out) != len(tree.Entries())-1 {
		t.Errorf("%d entries have %d names", len(tree.Entries())-1, len(out))
	}
	return out
}

// op is one step of building a tree.
type op struct {
	what byte // "f"ile, "d"irectory, "l"ink, "w"hiteout, "o"paque, "n"ext layer
	path string
}

// model merges layers as the specification says, one after the other, without
// a thought for speed. It returns false if something is refused.
func model(ops []op) (map[string]string, bool) {
	lower := make(map[string]string)
	kinds := map[byte]uint32{'f': source.TypeRegular, 'd': source.TypeDir, 'l': source.TypeSymlink}
	isDir := func(s string) bool { return strings.HasPrefix(s, fmt.Sprintf("%o ", source.TypeDir)) }
	for number := 0; ; {
		upper, implied := make(map[string]string), make(map[string]bool)
		var white, opaque []string
		end := -1
		for i, o := range ops {
			if o.what == 'n' {
				end = i
				break
			}
			number++
			switch o.what {
			case 'w':
				white = append(white, o.path)
				continue
			case 'o':
				opaque = append(opaque, o.path)
				continue
			}
			for d := parent(o.path); d != ""; d = parent(d) {
				if u, ok := upper[d]; ok {
					if !isDir(u) {
						return nil, false
					}
				} else if l, ok := lower[d]; ok && !isDir(l) {
					return nil, false // through what is there, before it goes
				} else {
					implied[d] = true
				}
			}
			mine := fmt.Sprintf("%o %d", kinds[o.what], number)
			if u, ok := upper[o.path]; ok && strings.Fields(u)[0] != strings.Fields(mine)[0] {
				return nil, false
			}
			if o.what != 'd' && (implied[o.path] || slices.ContainsFunc(slices.Collect(maps.Keys(upper)), func(p string) bool { return strings.HasPrefix(p, o.path+"/") })) {
				return nil, false
			}
			upper[o.path] = mine
		}
		out := make(map[string]string)
		for p, l := range lower {
			gone := false
			for _, w := range white {
				gone = gone || p == w || strings.HasPrefix(p, w+"/")
			}
			for _, w := range opaque {
				gone = gone || strings.HasPrefix(p, w+"/")
			}
			for u, s := range upper {
				gone = gone || !isDir(s) && strings.HasPrefix(p, u+"/")
			}
			if _, over := upper[p]; !gone || implied[p] && !over {
				out[p] = l // an implied directory keeps what was known of it
			}
		}
		for d := range implied {
			if _, ok := out[d]; !ok {
				out[d] = fmt.Sprintf("%o 0", source.TypeDir)
			}
		}
		maps.Copy(out, upper)
		lower = out
		if end < 0 {
			return lower, true
		}
		ops = ops[end+1:]
	}
}

func parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// build does the same with a Builder.
func build(t testing.TB, ops []op) (map[string]string, bool) {
	t.Helper()
	b := source.NewBuilder(source.Limits{}, nil)
	kinds := map[byte]uint32{'f': source.TypeRegular, 'd': source.TypeDir, 'l': source.TypeSymlink}
	number := uint32(0)
	for _, o := range ops {
		if o.what != 'n' {
			number++
		}
		switch o.what {
		case 'n':
			if err := b.NextLayer(); err != nil {
				t.Fatal(err)
			}
		case 'w':
			b.Remove(o.path)
		case 'o':
			b.Opaque(o.path)
		default:
			if err := b.Add(&source.Entry{Path: o.path, Mode: kinds[o.what], UID: number}); err != nil {
				if !errors.Is(err, source.ErrRefused) {
					t.Fatal(err)
				}
				return nil, false
			}
		}
	}
	return flat(t, b), true
}

func parseOps(text string) []op {
	var out []op
	for f := range strings.FieldsSeq(text) {
		out = append(out, op{f[0], f[1:]})
	}
	return out
}

func TestMerge(t *testing.T) {
	for _, tc := range []struct {
		name, ops string
		want      string // paths with their marks; "": refused
	}{
		{"one over the other", "da fa/x fb n fa/x fc", "a:1 a/x:4 b:3 c:5"},
		{"a folder is described anew", "da fa/x n da", "a:3 a/x:2"},
		{"whiteout", "da fa/x fa/y n wa/x", "a:1 a/y:3"},
		{"whiteout of a folder", "da da/b fa/b/x fc n wa", "c:4"},
		{"whiteout and the same name, in both orders", "da fa/x n wa da fa/y n wa/y fa/y", "a:4 a/y:7"},
		{"whiteout after the same name", "da fa/x n da fa/y wa", "a:3 a/y:4"},
		{"opaque", "da fa/x da/b fa/b/x n da fa/z oa", "a:5 a/z:6"},
		{"opaque spares what is new further down", "da da/b fa/b/x fa/b/y n oa fa/b/y", "a:1 a/b:2 a/b/y:6"},
		{"whiteouts do not reach their own layer", "fa wa", "a:1"},
		{"whiteout of nothing", "fa n wb wa/c", "a:1"},
		{"file over a folder", "da fa/x n fa", "a:3"},
		{"folder over a file", "fa n da fa/x", "a:2 a/x:3"},
		{"folder over a link", "la n da fa/x", "a:2 a/x:3"},
		{"below a link of a lower layer", "la n fa/x", ""},
		{"below a link", "la fa/x", ""},
		{"two kinds", "fa la", ""},
		{"two kinds, implied", "fa/x fa", ""},
		{"two kinds, over a lower folder", "da fa/x n fa/y fa", ""},
		{"the same kind twice", "fa fa la/b la/b", "a:2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ops := parseOps(tc.ops)
			if tc.name == "the same kind twice" {
				ops = ops[:2]
			}
			got, ok := build(t, ops)
			var parts []string
			for _, p := range slices.Sorted(maps.Keys(got)) {
				parts = append(parts, p+":"+strings.Fields(got[p])[1])
			}
			if s := strings.Join(parts, " "); s != tc.want || ok != (tc.want != "") {
				t.Errorf("%s = %q, %t; want %q", tc.ops, s, ok, tc.want)
			}
			want, wok := model(ops)
			if diff := cmp.Diff(want, got); diff != "" || ok != wok {
				t.Errorf("the model says %t, the builder %t (-model +builder):\n%s", wok, ok, diff)
			}
		})
	}
}

// FuzzMerge compares layers merged by a Builder with the model.
func FuzzMerge(f *testing.F) {
	names := "abc"
	decode := func(data []byte) []op {
		var out []op
		for ; len(data) >= 2 && len(out) < 60; data = data[2:] {
			o := op{what: "fdlwonfd"[data[0]&7]}
			n := int(data[1])
			for range 1 + int(data[0]>>3)%4 {
				if o.path != "" {
					o.path += "/"
				}
				o.path += names[n%3 : n%3+1]
				n /= 3
			}
			out = append(out, o)
		}
		return out
	}
	f.Add([]byte{1, 0, 8, 0, 5, 0, 3, 0, 9, 0})
	f.Add([]byte{1, 0, 9, 0, 16, 0, 5, 0, 4, 0, 16, 27, 5, 0, 3, 0, 1, 0})
	f.Add([]byte{2, 0, 5, 0, 1, 0, 8, 3, 5, 0, 11, 3, 8, 6})
	f.Fuzz(func(t *testing.T, data []byte) {
		ops := decode(data)
		got, ok := build(t, ops)
		want, wok := model(ops)
		if diff := cmp.Diff(want, got); diff != "" || ok != wok {
			t.Errorf("%q: the model says %t, the builder %t (-model +builder):\n%s", ops, wok, ok, diff)
		}
	})
}
