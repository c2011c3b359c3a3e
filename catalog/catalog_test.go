package catalog_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/strictjson"
)

var (
	now     = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	created = now.Add(-time.Hour)
	expires = now.Add(time.Hour)
)

// key returns a key that depends on n only.
func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func public(k ed25519.PrivateKey) catalog.Key {
	return catalog.NewKey(k.Public().(ed25519.PublicKey))
}

func list(version uint64) *catalog.List {
	return &catalog.List{
		Type: catalog.Type, Version: version, Created: created, Expires: expires,
		Targets: map[string]catalog.Target{"menu.json": catalog.NewTarget([]byte("menu"))},
	}
}

func sign(t testing.TB, l *catalog.List, keys ...ed25519.PrivateKey) []byte {
	t.Helper()
	b, err := catalog.Sign(l, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// signRaw signs bytes that Sign would refuse.
func signRaw(t testing.TB, signed string, k ed25519.PrivateKey) []byte {
	t.Helper()
	return fmt.Appendf(nil, `{"signed":%s,"signatures":[{"keyid":%q,"sig":"%x"}]}`, signed, public(k).ID(), ed25519.Sign(k, []byte(signed)))
}

func TestVerifyAcceptsWhatSignMakes(t *testing.T) {
	a, b := key(1), key(2)
	for _, tc := range []struct {
		name  string
		trust *catalog.Trust
		keys  []ed25519.PrivateKey
	}{
		{"one of one", catalog.NewTrust(1, public(a)), []ed25519.PrivateKey{a}},
		{"one of two", catalog.NewTrust(1, public(a), public(b)), []ed25519.PrivateKey{b}},
		{"two of two", catalog.NewTrust(2, public(a), public(b)), []ed25519.PrivateKey{a, b}},
		{"another key signed, too", catalog.NewTrust(1, public(a)), []ed25519.PrivateKey{key(9), a}},
	} {
		l, err := catalog.Verify(tc.trust, sign(t, list(7), tc.keys...), now, 7)
		if err != nil {
			t.Errorf("%s: Verify() = %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(list(7), l); diff != "" {
			t.Errorf("%s: list (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	a, b := key(1), key(2)
	one := catalog.NewTrust(1, public(a))
	two := catalog.NewTrust(2, public(a), public(b))
	good := sign(t, list(7), a)
	edit := func(old, with string) []byte {
		t.Helper()
		out := bytes.Replace(good, []byte(old), []byte(with), 1)
		if bytes.Equal(out, good) {
			t.Fatalf("%q is not in the catalog", old)
		}
		return out
	}
	body, err := json.Marshal(list(7))
	if err != nil {
		t.Fatal(err)
	}
	raw := func(old, with string) []byte {
		t.Helper()
		out := strings.Replace(string(body), old, with, 1)
		if out == string(body) {
			t.Fatalf("%q is not in the list", old)
		}
		return signRaw(t, out, a)
	}
	var sig string
	{
		var env struct{ Signatures []struct{ Sig string } }
		if err := json.Unmarshal(good, &env); err != nil {
			t.Fatal(err)
		}
		sig = env.Signatures[0].Sig
	}
	dup := fmt.Sprintf(`{"keyid":%q,"sig":%q}`, public(a).ID(), sig)
	var required *strictjson.RequiresError
	for _, tc := range []struct {
		name  string
		trust *catalog.Trust
		data  []byte
		now   time.Time
		floor uint64
		want  error
		as    any
	}{
		{name: "a byte of the list is changed", data: edit(`"version":7`, `"version":8`), want: catalog.ErrSignature},
		{name: "a byte of the signature is changed", data: edit(`"sig":"`+sig[:1], `"sig":"`+map[bool]string{true: "0", false: "1"}[sig[0] == '1']), want: catalog.ErrSignature},
		{name: "white space in the list", data: edit(`{"_type"`, `{ "_type"`), want: catalog.ErrSignature},
		{name: "signature is no hexadecimal", data: edit(sig, "zz"), want: catalog.ErrSignature},
		{name: "signature is empty", data: edit(sig, ""), want: catalog.ErrSignature},
		{name: "no signatures", data: fmt.Appendf(nil, `{"signed":%s,"signatures":[]}`, body), want: catalog.ErrFormat},
		{name: "too many signatures", data: fmt.Appendf(nil, `{"signed":%s,"signatures":[%s]}`, body, strings.TrimSuffix(strings.Repeat(dup+",", 17), ",")), want: catalog.ErrFormat},
		{name: "unknown key", data: sign(t, list(7), b), want: catalog.ErrUnknownKey},
		{name: "one signature where two are needed", trust: two, data: good, want: catalog.ErrUnknownKey},
		{name: "one signature twice where two are needed", trust: two, data: fmt.Appendf(nil, `{"signed":%s,"signatures":[%s,%s]}`, body, dup, dup), want: catalog.ErrUnknownKey},
		{name: "a trusted key's id with a foreign signature", data: fmt.Appendf(nil, `{"signed":%s,"signatures":[{"keyid":%q,"sig":"%x"}]}`, body, public(a).ID(), ed25519.Sign(b, body)), want: catalog.ErrSignature},
		{name: "expired", data: good, now: expires, want: catalog.ErrExpired},
		{name: "expired long ago", data: good, now: expires.AddDate(10, 0, 0), want: catalog.ErrExpired},
		{name: "rolled back", data: good, floor: 8, want: catalog.ErrRollback},
		{name: "no JSON", data: []byte("<html>"), want: catalog.ErrFormat},
		{name: "empty", data: nil, want: catalog.ErrFormat},
		{name: "data behind it", data: append(bytes.Clone(good), "{}"...), want: catalog.ErrFormat},
		{name: "cut short", data: good[:len(good)-1], want: catalog.ErrFormat},
		{name: "not UTF-8", data: edit(`"signed"`, "\"\xff\":1,\"signed\""), want: catalog.ErrFormat},
		{name: "too large", data: append(bytes.Clone(good), bytes.Repeat([]byte(" "), catalog.MaxCatalog)...), want: catalog.ErrFormat},
		{name: "signed stands twice", data: append([]byte(`{"signed":{},`), good[1:]...), want: catalog.ErrFormat},
		{name: "signed stands twice in another case", data: append([]byte(`{"SIGNED":{},`), good[1:]...), want: catalog.ErrFormat},
		{name: "version stands twice in the list", data: raw(`"version":7`, `"version":7,"version":9`), want: catalog.ErrFormat},
		{name: "version stands twice in another case", data: raw(`"version":7`, `"version":7,"Version":9`), want: catalog.ErrFormat},
		{name: "long s", data: raw(`"expires"`, `"expireſ":"2030-01-01T00:00:00Z","expires"`), want: catalog.ErrFormat},
		{name: "nested too deep", data: raw(`"version":7`, `"version":7,"x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)), want: catalog.ErrFormat},
		{name: "unknown requirement", data: raw(`"version":7`, `"version":7,"requires":["quantum"]`), as: &required},
		{name: "another type", data: raw(catalog.Type, "inetboot-catalog/2"), want: catalog.ErrFormat},
		{name: "version 0", data: raw(`"version":7`, `"version":0`), want: catalog.ErrFormat},
		{name: "negative version", data: raw(`"version":7`, `"version":-1`), want: catalog.ErrFormat},
		{name: "target outside", data: raw(`"menu.json"`, `"../menu.json"`), want: catalog.ErrFormat},
		{name: "target with a control character", data: raw(`"menu.json"`, `"menu\u0007"`), want: catalog.ErrFormat},
		{name: "target without a hash", data: raw(`"hashes":{"sha256":"`+digest.Of([]byte("menu")).String()+`"}`, `"hashes":{}`), want: catalog.ErrFormat},
		{name: "target with upper-case hash", data: raw(digest.Of([]byte("menu")).String(), strings.ToUpper(digest.Of([]byte("menu")).String())), want: catalog.ErrFormat},
		{name: "target without length", data: raw(`"length":4`, `"length":0`), want: catalog.ErrFormat},
		{name: "target too long", data: raw(`"length":4`, `"length":99999999999`), want: catalog.ErrFormat},
		{name: "no expiry", data: raw(`"expires":"2026-01-02T04:04:05Z"`, `"x":1`), want: catalog.ErrFormat},
		{name: "list is no object", data: signRaw(t, "[]", a), want: catalog.ErrFormat},
		{name: "list is null", data: signRaw(t, "null", a), want: catalog.ErrFormat},
	} {
		trust, at := tc.trust, tc.now
		if trust == nil {
			trust = one
		}
		if at.IsZero() {
			at = now
		}
		l, err := catalog.Verify(trust, tc.data, at, tc.floor)
		switch {
		case l != nil || err == nil:
			t.Errorf("%s: Verify() accepts it", tc.name)
		case tc.as != nil && !errors.As(err, tc.as):
			t.Errorf("%s: Verify() = %v; want %T", tc.name, err, tc.as)
		case tc.want != nil && !errors.Is(err, tc.want):
			t.Errorf("%s: Verify() = %v; want %v", tc.name, err, tc.want)
		}
	}
}

// Every single bit of a catalog is covered.
func TestVerifyEveryByte(t *testing.T) {
	a := key(1)
	trust := catalog.NewTrust(1, public(a))
	good := sign(t, list(7), a)
	want, err := catalog.Verify(trust, good, now, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for _, flip := range []byte{1, 0x20, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			l, err := catalog.Verify(trust, bad, now, 0)
			// Letters of hexadecimal digits and of member names outside of the
			// signed part may change their case without changing a meaning.
			if err == nil && (!cmp.Equal(l, want) || flip != 0x20) {
				t.Errorf("byte %d (%q) flipped by %#x: accepted", i, good[i], flip)
			}
		}
	}
}

func TestExpiryIsNotJudgedWithoutClock(t *testing.T) {
	a := key(1)
	l := list(7)
	l.Expires = created.Add(time.Second)
	if _, err := catalog.Verify(catalog.NewTrust(1, public(a)), sign(t, l, a), time.Time{}, 0); err != nil {
		t.Errorf("Verify() without a time = %v", err)
	}
	_, err := catalog.Verify(catalog.NewTrust(1, public(a)), sign(t, l, a), now, 0)
	var ee *catalog.ExpiredError
	if !errors.As(err, &ee) || !ee.Expires.Equal(l.Expires) || !ee.Now.Equal(now) {
		t.Errorf("Verify() of an expired catalog = %v; want an ExpiredError with both times", err)
	}
}

func TestSignRefuses(t *testing.T) {
	for name, change := range map[string]func(*catalog.List){
		"no type":     func(l *catalog.List) { l.Type = "" },
		"no version":  func(l *catalog.List) { l.Version = 0 },
		"requirement": func(l *catalog.List) { l.Requires = []string{"x"} },
		"target":      func(l *catalog.List) { l.Targets["/x"] = catalog.NewTarget([]byte("x")) },
	} {
		l := list(1)
		change(l)
		if _, err := catalog.Sign(l, key(1)); err == nil {
			t.Errorf("%s: Sign() accepts it", name)
		}
	}
}

func TestCheckSuccessor(t *testing.T) {
	a, b := key(1), key(2)
	trust := catalog.NewTrust(1, public(a))
	expired := list(8)
	expired.Expires = now
	for _, tc := range []struct {
		name      string
		old, next []byte
		want      error
	}{
		{"first", nil, sign(t, list(1), a), nil},
		{"next", sign(t, list(7), a), sign(t, list(8), a), nil},
		{"skips versions", sign(t, list(7), a), sign(t, list(70), a), nil},
		{"replaces an expired one", sign(t, expired, a), sign(t, list(9), a), nil},
		{"replaces one of older keys", sign(t, list(100), b), sign(t, list(1), a), nil},
		{"same version", sign(t, list(7), a), sign(t, list(7), a), catalog.ErrRollback},
		{"older", sign(t, list(7), a), sign(t, list(6), a), catalog.ErrRollback},
		{"foreign", sign(t, list(7), a), sign(t, list(8), b), catalog.ErrUnknownKey},
		{"expired", sign(t, list(7), a), sign(t, expired, a), catalog.ErrExpired},
		{"old one is damaged", []byte("{}"), sign(t, list(8), a), catalog.ErrFormat},
	} {
		l, err := catalog.CheckSuccessor(trust, tc.old, tc.next, now)
		if !errors.Is(err, tc.want) || (err == nil) != (l != nil) {
			t.Errorf("%s: CheckSuccessor() = %v, %v; want %v", tc.name, l, err, tc.want)
		}
	}
}

// files is a Source of files in memory.
type files map[string][]byte

func (f files) Read(_ context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	b, ok := f[path]
	if !ok {
		return nil, errors.New("404")
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	if err := accept(b); err != nil {
		return nil, err
	}
	return b, nil
}

func manifest() *catalog.Manifest {
	blob := digest.BlobOf([]byte("x"))
	return &catalog.Manifest{
		Format: catalog.ManifestFormat, Name: "debian", Version: "12", Arch: "amd64", Created: created,
		Kernel: catalog.Kernel{Blob: blob, Release: "6.1"}, Initrd: blob, Cmdline: "quiet",
		Root:  catalog.Root{Type: "erofs", Files: []catalog.RootFile{{Name: "meta", Size: 1, Index: blob}, {Name: "data", Size: 2, Stored: 1, Blocks: 1, Index: blob}}},
		Needs: catalog.Needs{Memory: 1 << 20},

		MissingDrivers: []string{"tg3", "ne2k-pci"},
	}
}

func TestOpen(t *testing.T) {
	ctx := context.Background()
	a := key(1)
	trust := catalog.NewTrust(1, public(a))
	menu := catalog.NewMenu("Title")
	menu.Entries = []catalog.Entry{{ID: "debian-12", Title: "Debian", Image: "images/debian/12/amd64.json"}}
	menuData, err := menu.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	manifestData, err := manifest().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	name := catalog.ManifestName("debian", "12", "amd64")
	l := list(7)
	l.Targets = map[string]catalog.Target{
		catalog.MenuName: catalog.NewTarget(menuData), name: catalog.NewTarget(manifestData),
		"images/other/1/amd64.json": catalog.NewTarget(manifestData), // it says that it is another one
	}
	src := files{
		storepath.Catalog: sign(t, l, a),
		storepath.Target(catalog.MenuName, digest.Of(menuData)):                menuData,
		storepath.Target(name, digest.Of(manifestData)):                        manifestData,
		storepath.Target("images/other/1/amd64.json", digest.Of(manifestData)): manifestData,
	}
	c, err := catalog.Open(ctx, src, trust, catalog.Options{Now: now, Floor: 7})
	if err != nil {
		t.Fatal(err)
	}
	if c.Version() != 7 || !c.Expires().Equal(expires) || len(c.Names()) != 3 {
		t.Errorf("catalog: version %d, expires %v, names %v", c.Version(), c.Expires(), c.Names())
	}
	got, err := c.Menu(ctx)
	if err != nil || !cmp.Equal(got, menu) {
		t.Errorf("Menu() = %+v, %v; want %+v", got, err, menu)
	}
	img, err := c.Image(ctx, name)
	if err != nil || !cmp.Equal(img.Manifest(), *manifest()) || img.Digest() != digest.Of(manifestData) {
		t.Errorf("Image() = %+v, %v; want the manifest", img, err)
	}
	if _, err := c.Image(ctx, "images/no/1/amd64.json"); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("Image(missing) = %v; want ErrNotFound", err)
	}
	if _, err := c.Image(ctx, "images/other/1/amd64.json"); !errors.Is(err, catalog.ErrFormat) {
		t.Errorf("Image() under a foreign name = %v; want ErrFormat", err)
	}
	if list, err := c.Mirrors(ctx); list != nil || err != nil {
		t.Errorf("Mirrors() of a catalog without = %v, %v; want nothing", list, err)
	}
	p := storepath.Target(name, digest.Of(manifestData))
	src[p] = bytes.Replace(manifestData, []byte("quiet"), []byte("evil!"), 1)
	if _, err := c.Image(ctx, name); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Image() of changed bytes = %v; want ErrMismatch", err)
	}
	src[p] = append(bytes.Clone(manifestData), ' ')
	if _, err := c.Image(ctx, name); err == nil {
		t.Error("Image() of a longer file succeeded")
	}
	// Changing a copy of the list does not change the catalog.
	delete(c.List().Targets, name)
	if len(c.Names()) != 3 {
		t.Error("List() is no copy")
	}
	if _, err := catalog.Open(ctx, src, catalog.NewTrust(1, public(key(3))), catalog.Options{Now: now}); !errors.Is(err, catalog.ErrUnknownKey) {
		t.Errorf("Open() with another trust = %v; want ErrUnknownKey", err)
	}
	if _, err := catalog.Open(ctx, src, trust, catalog.Options{Now: now, Floor: 8}); !errors.Is(err, catalog.ErrRollback) {
		t.Errorf("Open() below the floor = %v; want ErrRollback", err)
	}
	if _, err := catalog.Load(src, trust, src[storepath.Catalog], catalog.Options{Now: expires}); !errors.Is(err, catalog.ErrExpired) {
		t.Errorf("Load() of an expired catalog = %v; want ErrExpired", err)
	}
}

func TestMirrors(t *testing.T) {
	a := key(1)
	want := []catalog.Mirror{{URL: "http://m.example/store", Location: "Linz"}}
	data, err := (&catalog.MirrorList{Format: catalog.MirrorsFormat, Mirrors: want}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	l := list(1)
	l.Targets = map[string]catalog.Target{catalog.MirrorsName: catalog.NewTarget(data)}
	p := storepath.Target(catalog.MirrorsName, digest.Of(data))
	src := files{storepath.Catalog: sign(t, l, a), p: data}
	c, err := catalog.Open(t.Context(), src, catalog.NewTrust(1, public(a)), catalog.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Mirrors(t.Context()); err != nil || !cmp.Equal(got, want) {
		t.Errorf("Mirrors() = %v, %v; want %v", got, err, want)
	}
	src[p] = bytes.Replace(data, []byte("m.example"), []byte("evil.test"), 1)
	if _, err := c.Mirrors(t.Context()); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Mirrors() of changed bytes = %v; want ErrMismatch", err)
	}
}

func FuzzVerify(f *testing.F) {
	a := key(1)
	trust := catalog.NewTrust(1, public(a))
	good := sign(f, list(7), a)
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("7"), []byte("8"), 1))
	f.Add([]byte(`{"signed":{},"signatures":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := catalog.Verify(trust, data, time.Time{}, 0)
		if err == nil && !cmp.Equal(l, list(7)) {
			t.Errorf("Verify(%q) = %+v, which nobody signed", data, l)
		}
	})
}

func hash(s string) string { return digest.Of([]byte(s)).String() }
