package store_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/server/store"
)

// A server that seals: a new list counts as soon as it is there, signatures are
// made anew before they expire, and a list of strangers never counts.
func TestSeal(t *testing.T) {
	ctx, base, now := t.Context(), t.TempDir(), time.Now()
	online, root, targets := catalogtest.Key(50), catalogtest.Key(51), catalogtest.Key(52)
	d, err := store.Open(filepath.Join(base, "store"), filepath.Join(base, "tmp"), store.DefaultLimits(), online)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	r := publish.NewRoot()
	for role, key := range map[string]publish.KeySigner{tuf.RoleRoot: root, tuf.RoleTargets: targets, tuf.RoleSnapshot: online, tuf.RoleTimestamp: online} {
		if err := errors.Join(r.AddKey(role, key.Public()), r.SetLifetime(role, 100*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.SetLifetime(tuf.RoleTimestamp, 10*time.Hour); err != nil {
		t.Fatal(err)
	}
	first, err := r.Sign(ctx, now, publish.Signers{root})
	if err != nil {
		t.Fatal(err)
	}
	put := func(path string, data []byte, at time.Time) error {
		return d.Publish(ctx, path, digest.SHA256{}, digest.SHA256{}, data, at)
	}
	if err := put(storepath.RoleMetadata(tuf.RoleRoot, 1), first, now); err != nil {
		t.Fatal(err)
	}
	if signed, _, err := d.Refresh(ctx, now); signed || err != nil {
		t.Errorf("Refresh() before there is a catalog = %t, %v", signed, err)
	}
	role, err := publish.RootRole(first, tuf.RoleTargets)
	if err != nil {
		t.Fatal(err)
	}
	list := publish.NewTargets(role)
	data, err := list.Sign(ctx, now, 0, publish.Signers{targets})
	if err != nil {
		t.Fatal(err)
	}
	if err := put(storepath.RoleMetadata(tuf.RoleTargets, 1), data, now); err != nil {
		t.Fatal(err)
	}
	anchor, err := tuf.NewAnchor(first)
	if err != nil {
		t.Fatal(err)
	}
	open := func(at time.Time) (*catalog.Catalog, error) {
		return catalog.Open(ctx, reader{d}, anchor, catalog.Options{Now: at})
	}
	c, err := open(now)
	if err != nil || c.Version() != 1 || c.Trusted().Timestamp().Version() != 1 {
		t.Fatalf("the catalog after the first list: %+v, %v", c, err)
	}

	// Strangers, and whoever has the server's key alone.
	for _, bad := range []publish.KeySigner{catalogtest.Key(60), online, root} {
		next, err := publish.NextTargets(publish.Role{Name: role.Name, KeyIDs: []string{publish.KeyID(bad.Public())}, Threshold: 1, Lifetime: time.Hour}, data)
		if err != nil {
			t.Fatal(err)
		}
		forged, err := next.Sign(ctx, now, 0, publish.Signers{bad})
		if err != nil {
			t.Fatal(err)
		}
		if err := put(storepath.RoleMetadata(tuf.RoleTargets, 2), forged, now); !errors.Is(err, catalog.ErrUnknownKey) {
			t.Errorf("a list by another key: %v; want ErrUnknownKey", err)
		}
	}

	// Half of the timestamp's ten hours.
	for _, tc := range []struct {
		after             time.Duration
		signed            bool
		timestamp, parent int64
	}{{4 * time.Hour, false, 1, 1}, {6 * time.Hour, true, 2, 1}, {7 * time.Hour, false, 2, 1}, {60 * time.Hour, true, 3, 2}} {
		at := now.Add(tc.after)
		signed, next, err := d.Refresh(ctx, at)
		if err != nil || signed != tc.signed || !next.After(at) || next.After(at.Add(time.Hour)) {
			t.Errorf("Refresh() after %s = %t, again in %s, %v; want %t", tc.after, signed, next.Sub(at), err, tc.signed)
		}
		c, err := open(at)
		if err != nil || c.Trusted().Timestamp().Version() != tc.timestamp || int64(c.Version()) != tc.parent {
			t.Errorf("after %s the catalog is %+v, %v; want timestamp %d, snapshot %d", tc.after, c, err, tc.timestamp, tc.parent)
		}
	}

	// The same list once more, as after an answer that was lost.
	before, err := d.Read(storepath.Timestamp, tuf.MaxTimestamp)
	if err != nil {
		t.Fatal(err)
	}
	if err := put(storepath.RoleMetadata(tuf.RoleTargets, 1), data, now); err != nil {
		t.Errorf("the same list again: %v", err)
	}
	if after, err := d.Read(storepath.Timestamp, tuf.MaxTimestamp); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the same list again is sealed anew: %v", err)
	}
}
