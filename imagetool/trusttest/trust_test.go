package trusttest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

func TestMain(m *testing.M) { os.Exit(testtree.Main(m)) }

const setup = "Set up: a root that needs two of three people"

// Each section of the document, with the thief.
func TestDocument(t *testing.T) {
	w := newWorld(t)
	w.server("start")
	w.run(setup, 0)
	w.publishImage()
	w.recovered(w.http(), nil, 2)
	w.keep()
	done := map[string]bool{setup: true}
	for _, s := range []struct {
		heading string
		run     func(w *world, heading string)
	}{
		{"Rotate keys without an accident", targetsStolen}, // a key that was let go is as good as stolen
		{"A root key is lost or stolen, and enough others are left", rootStolen},
		{"Too many root keys are lost", beginAnew},
		{"As many root keys as the threshold are stolen", beginAnew},
		{"The targets key is lost or stolen", targetsStolen},
		{"A publisher's key is lost or stolen", publisherStolen},
		{"The server is taken over", serverTaken},
	} {
		done[s.heading] = true
		w.scenario(s.heading, func(w *world) { s.run(w, s.heading) })
	}
	w.scenario(offlineSeal, func(w *world) { sealStolen(w, offlineSeal) })
	done[offlineSeal] = true
	for heading := range w.doc {
		if !done[heading] {
			t.Errorf("docs/trust.md: nobody runs the commands below %q", heading)
		}
	}
}

const offlineSeal = "The snapshot or timestamp key is lost or stolen"

func targetsStolen(w *world, heading string) {
	before := w.recovered(w.http(), nil, 2)
	thief := w.thief(w.steal(keyPath("alice", "targets")...), w.steal("data", "online.key"))
	if _, err := boot(thief.list(before, tuf.RoleTargets, evil), w.medium(), before, evil); err != nil {
		w.t.Fatalf("before the recovery the thief's list counts, but: %v", err)
	}
	w.run(heading, 0)
	after := w.recovered(w.http(), before, 3)
	thief.worthless(thief.list(after, tuf.RoleTargets, evil), after, evil)
	w.publishAgain(after)
}

// publishAgain checks that Alice can go on.
func (w *world) publishAgain(before *catalog.Catalog) {
	w.t.Helper()
	if err := w.shell("alice", "imagetool mirrors add http://mirror.example.org/"); err != nil {
		w.t.Fatal(err)
	}
	c, err := boot(w.http(), w.medium(), before, image)
	if err != nil {
		w.t.Fatal(err)
	}
	if c.Version() <= before.Version() {
		w.t.Errorf("catalog version %d after %d", c.Version(), before.Version())
	}
}

func rootStolen(w *world, heading string) {
	before := w.recovered(w.http(), nil, 2)
	thief := w.thief(w.steal(keyPath("carol", "carol")...))
	thief.worthless(thief.root(before), before, evil) // one of three
	w.run(heading, 0)
	after := w.recovered(w.http(), before, 3)
	thief.worthless(thief.root(after), after, evil)
	// Even with another one of the old three, the key counts no longer.
	thief = w.thief(w.steal(keyPath("carol", "carol")...), w.steal(keyPath("alice", "root")...))
	thief.worthless(thief.root(after), after, evil)
	w.publishAgain(after)
}

func beginAnew(w *world, heading string) {
	before := w.recovered(w.http(), nil, 2)
	w.run(heading, 0)
	dir := dirSource(w.path("srv"))
	medium := w.anchor(filepath.Join(w.path("alice", "new-keys"), "root.json"))
	if _, err := boot(dir, medium, nil, ""); err != nil {
		w.t.Errorf("a machine with the new medium and the new store: %v", err)
	}
	if _, err := boot(dir, w.medium(), before, ""); !errors.Is(err, catalog.ErrUnknownKey) && !errors.Is(err, catalog.ErrRollback) {
		w.t.Errorf("a machine with the old medium and the new store: %v; want that it is not trusted", err)
	}
	if _, err := boot(w.http(), medium, nil, ""); err == nil {
		w.t.Error("a machine with the new medium boots from the old store")
	}
	if fi, err := os.Stat(w.path("alice", "site.cpio")); err != nil || fi.Size() == 0 {
		w.t.Errorf("the new medium: %v", err)
	}
	// Thieves with as many keys as the threshold can do what the document says
	// they can.
	thief := w.thief(w.steal(keyPath("carol", "carol")...), w.steal(keyPath("bob", "bob")...))
	if _, err := boot(thief.root(before), w.medium(), nil, evil); err != nil {
		w.t.Errorf("two root keys of three are said to be enough, but: %v", err)
	}
	if _, err := boot(thief.root(before), medium, nil, evil); err == nil {
		w.t.Error("the old keys count for a machine with the new medium")
	}
}

func publisherStolen(w *world, heading string) {
	w.run(heading, 0)
	if err := w.publishAs("erin", "erin-desk"); err != nil {
		w.t.Fatal(err)
	}
	const good, bad = "images/erin-desk/1/amd64.json", "images/erin-evil/1/amd64.json"
	before, err := boot(w.http(), w.medium(), nil, good)
	if err != nil {
		w.t.Fatalf("an image that Erin has published: %v", err)
	}
	thief := w.thief(w.steal(keyPath("erin", "erin")...), w.steal("data", "online.key"))
	if _, err := boot(thief.list(before, "erin", bad), w.medium(), before, bad); err != nil {
		w.t.Fatalf("before the recovery the thief's list counts, but: %v", err)
	}
	// Not even then for names of others.
	if _, err := boot(thief.list(before, "erin", evil), w.medium(), before, evil); !errors.Is(err, catalog.ErrNotFound) {
		w.t.Errorf("a name without the prefix: %v; want ErrNotFound", err)
	}
	old := thief.list(before, "erin", bad)
	w.run(heading, 1)
	if _, err := boot(w.http(), w.medium(), before, good); !errors.Is(err, catalog.ErrNotFound) {
		w.t.Errorf("Erin's image after her key was taken away: %v; want ErrNotFound", err)
	}
	if err := w.publishAs("erin", "erin-desk"); err != nil {
		w.t.Fatal(err)
	}
	after, err := boot(w.http(), w.medium(), before, good)
	if err != nil {
		w.t.Fatalf("an image that Erin has published with her new key: %v", err)
	}
	for path, data := range old.files {
		if f := (forged{w.http(), map[string][]byte{path: data}}); path != "" {
			if _, err := boot(f, w.medium(), after, bad); err == nil {
				w.t.Errorf("with the thief's %s a machine boots what the thief has signed", path)
			}
		}
	}
	thief.worthless(thief.list(after, "erin-2", bad), after, bad)
}

func serverTaken(w *world, heading string) {
	before := w.recovered(w.http(), nil, 2)
	online := w.thief(w.steal("data", "online.key"))
	// The thief makes the version so high that nothing comes after it, and a
	// machine has seen that.
	high := online.seal(before, nil, map[string][]byte{})
	seen, err := boot(high, w.medium(), before, image)
	if err != nil {
		w.t.Fatalf("before the recovery what the server's key has signed counts, but: %v", err)
	}
	for range 30 {
		high = online.seal(seen, nil, map[string][]byte{})
		if seen, err = boot(high, w.medium(), seen, image); err != nil {
			w.t.Fatal(err)
		}
	}
	if _, err := boot(online.list(before, tuf.RoleTargets, evil), w.medium(), before, evil); err == nil {
		w.t.Error("the server's key lists images")
	}
	if _, err := boot(w.http(), w.medium(), seen, image); !errors.Is(err, catalog.ErrRollback) {
		w.t.Errorf("the good server is older than what the thief has signed: %v; want ErrRollback", err)
	}
	w.run(heading, 0)
	after := w.recovered(w.http(), seen, 3)
	w.recovered(w.http(), before, 3)
	online.worthless(online.seal(after, nil, map[string][]byte{}), after, image)
	if err := os.Rename(w.path("alice", "token"), w.path("alice", ".config", "inetboot", "token")); err != nil {
		w.t.Fatal(err)
	}
	if err := w.shell("alice", "imagetool mirrors add http://mirror.example.org/ --token-file ~/.config/inetboot/token"); err != nil {
		w.t.Fatal(err)
	}
}

// sealStolen is about a store of files.
func sealStolen(w *world, heading string) {
	if err := w.shell("alice", "rm -r ~/.config; imagetool init --to "+w.path("srv")+" && imagetool key export --root -o "+w.path("stick", "root-1.json")); err != nil {
		w.t.Fatal(err)
	}
	w.publishImage()
	dir := dirSource(w.path("srv"))
	before := w.recovered(dir, nil, 1)
	thief := w.thief(w.steal(keyPath("alice", "snapshot")...), w.steal(keyPath("alice", "timestamp")...))
	old := thief.seal(before, nil, map[string][]byte{})
	old.Source = dir
	if _, err := boot(old, w.medium(), before, image); err != nil {
		w.t.Fatalf("before the recovery what the thief has signed counts, but: %v", err)
	}
	w.run(heading, 0)
	after := w.recovered(dir, before, 2)
	f := thief.seal(after, nil, map[string][]byte{})
	f.Source = dir
	for _, floor := range []*catalog.Catalog{nil, after} {
		if _, err := boot(f, w.medium(), floor, image); !errors.Is(err, catalog.ErrUnknownKey) {
			w.t.Errorf("what the thief has signed: %v; want ErrUnknownKey", err)
		}
	}
}
