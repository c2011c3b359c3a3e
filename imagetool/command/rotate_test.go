package command_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

// rootOf returns what a command says about a root.
type rootOf struct {
	Version   int64
	Published bool
	Changes   []string
	Needs     []struct {
		Root             int64
		Threshold        int
		Signed, Unsigned []string
	}
	Pending string
}

func (c *tool) root(args ...string) (out rootOf) {
	c.t.Helper()
	text, _ := c.run(command.ExitOK, append(args, "--json")...)
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		c.t.Fatalf("%q: %v", text, err)
	}
	return out
}

// person is somebody else with keys of their own.
func (c *tool) person(name string) (*tool, string) {
	c.t.Helper()
	p := &tool{t: c.t, config: filepath.Join(c.t.TempDir(), name, "imagetool.json")}
	pub := filepath.Join(c.t.TempDir(), name+".pub")
	p.run(command.ExitOK, "key", "new", name, "--no-passphrase")
	p.run(command.ExitOK, "key", "export", "-o", pub)
	return p, pub
}

func TestKeysOfSeveralPeople(t *testing.T) {
	c := newTool(t)
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	pending := filepath.Join(filepath.Dir(c.keyFile()), "pending-root.json")
	bob, bobPub := c.person("bob")
	carol, carolPub := c.person("carol")

	// What cannot be.
	c.run(command.ExitUsage, "key", "rotate", "nobody")
	c.run(command.ExitUsage, "key", "rotate", "root", "nobody")
	c.run(command.ExitUsage, "key", "rotate", "root", "--add", filepath.Join(dir, "none"))
	c.run(command.ExitUsage, "key", "rotate", "root", "--remove", bobPub)
	c.run(command.ExitUsage, "key", "rotate", "snapshot", "--add", "online") // a directory has no key
	c.run(command.ExitUsage, "key", "threshold", "root", "2")
	c.run(command.ExitUsage, "key", "threshold", "root", "x")
	c.run(command.ExitUsage, "publisher", "add", "root", "--prefix", "x-", "--key", bobPub)
	c.run(command.ExitUsage, "publisher", "add", "bob", "--prefix", "x/", "--key", bobPub)
	c.run(command.ExitUsage, "publisher", "rm", "bob")
	if _, err := os.Stat(pending); err == nil {
		t.Fatal("a new root is left by commands that were refused")
	}

	// Several changes in one version, held back.
	r := c.root("key", "rotate", "root", "--add", bobPub, "--hold")
	if r.Published || r.Pending != pending || r.Version != 2 || len(r.Needs) != 2 || len(r.Needs[0].Signed) != 0 {
		t.Errorf("rotate --hold = %+v", r)
	}
	r = c.root("key", "rotate", "root", "--add", carolPub, "--threshold", "3", "-o", filepath.Join(dir, "root"))
	if r.Published || r.Version != 2 || len(r.Needs[0].Signed) != 1 || len(r.Needs[0].Unsigned) != 2 || r.Needs[0].Threshold != 3 || r.Needs[1].Root != 1 || len(r.Needs[1].Signed) != 1 {
		t.Errorf("rotate to 3 of 3 = %+v", r)
	}
	if got := strings.Join(r.Changes, "\n"); strings.Count(got, "is added") != 2 || !strings.Contains(got, "3 of 3 keys have to sign, not 1 of 1") {
		t.Errorf("changes: %q", got)
	}
	if out, _ := c.run(command.ExitOK, "key", "pending"); !strings.Contains(out, "2 more of the keys") {
		t.Errorf("key pending = %q", out)
	}
	if out, _ := c.run(command.ExitOK, "key", "list"); !strings.Contains(out, pending) {
		t.Errorf("key list = %q; want it to name the root that waits", out)
	}

	// Bob and Carol sign copies at the same time, each from a root that they
	// have been given; who has none, or another one, does not sign.
	root1, byBob, byCarol := filepath.Join(dir, "root-1"), filepath.Join(dir, "by-bob"), filepath.Join(dir, "by-carol")
	c.run(command.ExitOK, "key", "export", "--root", "-o", root1)
	for _, name := range []string{byBob, byCarol} {
		copyFile(t, filepath.Join(dir, "root"), name)
	}
	bob.run(command.ExitKey, "key", "sign", "--offline", byBob)
	other := newTool(t)
	other.run(command.ExitOK, "init", "--no-passphrase", "--to", filepath.Join(dir, "other"))
	other.run(command.ExitTrust, "key", "sign", "--offline", "--root", root1, byBob)
	if r = bob.root("key", "sign", "--offline", "--root", root1, byBob); len(r.Needs[0].Signed) != 2 || r.Published {
		t.Errorf("after Bob: %+v", r)
	}
	carol.root("key", "sign", "--offline", "--root", root1, byCarol)

	// Somebody on the way writes nonsense in Bob's name: it does not count, and
	// does not keep Bob from signing.
	data, err := os.ReadFile(byBob)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.LastIndex(string(data), `"sig":"`) + len(`"sig":"`)
	bad := append([]byte(nil), data...)
	for j := i; j < i+8; j++ {
		bad[j] = '0'
	}
	spoilt := filepath.Join(dir, "spoilt")
	if err := os.WriteFile(spoilt, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	if r = c.root("key", "pending", spoilt); len(r.Needs[0].Signed) != 1 {
		t.Errorf("with a signature that is wrong: %+v", r)
	}
	if r = bob.root("key", "sign", "--offline", spoilt); len(r.Needs[0].Signed) != 2 {
		t.Errorf("Bob signs in the place of nonsense: %+v", r)
	}

	if r = c.root("key", "sign", byBob, byCarol); !r.Published || r.Version != 2 {
		t.Errorf("with all signatures: %+v", r)
	}
	if _, err := os.Stat(pending); err == nil {
		t.Error("the root still waits after it was published")
	}
	c.run(command.ExitOK, "ls")

	// A root that was begun and overtaken.
	stale := filepath.Join(dir, "stale")
	r = c.root("key", "rotate", "targets", "--no-passphrase", "-o", stale)
	if r.Published || r.Version != 3 {
		t.Errorf("rotate targets = %+v", r)
	}
	copyFile(t, stale, byBob)
	c.run(command.ExitOK, "key", "pending", "--drop")
	c.root("key", "threshold", "root", "2", "-o", byCarol)
	bob.root("key", "sign", "--offline", "--root", filepath.Join(store, "catalog", "2.root.json"), byCarol)
	carol.root("key", "sign", "--offline", "--root", filepath.Join(store, "catalog", "2.root.json"), byCarol)
	if r = c.root("key", "sign", byCarol); !r.Published || r.Version != 3 {
		t.Errorf("threshold 2 = %+v", r)
	}
	if _, errs := c.run(command.ExitStore, "key", "sign", byBob); !strings.Contains(errs, "another root of version 3") {
		t.Errorf("a root that was overtaken: %q", errs)
	}
}

// A publication that was interrupted after the root is there, and before what it
// needs, goes on.
func TestInterruptedRoot(t *testing.T) {
	c := newTool(t)
	store := filepath.Join(t.TempDir(), "store")
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	held := filepath.Join(t.TempDir(), "held")
	c.run(command.ExitOK, "key", "new", "targets-2", "--no-passphrase")
	c.root("key", "rotate", "targets", "--add", "targets-2", "--remove", "targets", "--hold")
	c.root("key", "rotate", "snapshot", "timestamp", "--no-passphrase", "--hold", "-o", held)
	// The root alone gets into the store: a copy of it is signed elsewhere.
	twin := newTool(t)
	if err := os.MkdirAll(filepath.Dir(twin.config), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(filepath.Dir(twin.config), "keys"), os.DirFS(filepath.Dir(c.keyFile()))); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(twin.config), "keys", "*.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Chmod(f, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	twin.root("key", "sign", "--offline", held)
	copyFile(t, held, filepath.Join(filepath.Dir(c.keyFile()), "pending-root.json"))
	copyFile(t, held, filepath.Join(store, "catalog", "2.root.json"))
	c.run(command.ExitTrust, "ls") // what the old keys have signed counts no longer
	if r := c.root("key", "sign"); !r.Published || r.Version != 2 {
		t.Errorf("key sign = %+v", r)
	}
	c.run(command.ExitOK, "ls")
	if r := c.root("key", "rotate", "root", "--no-passphrase"); !r.Published || r.Version != 3 {
		t.Errorf("the next rotation = %+v", r)
	}
	c.run(command.ExitOK, "refresh", "--expires", "24h")
}

// A publisher's list is signed anew when its keys change.
func TestPublisherKeys(t *testing.T) {
	c := newTool(t)
	store := filepath.Join(t.TempDir(), "store")
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	erin, erinPub := c.person("erin")
	_, otherPub := c.person("other")
	c.run(command.ExitOK, "publisher", "add", "erin", "--prefix", "erin-", "--key", erinPub)
	c.run(command.ExitOK, "key", "rotate", "erin", "--add", otherPub)
	c.run(command.ExitUsage, "key", "threshold", "erin", "3")
	c.run(command.ExitUsage, "key", "rotate", "erin", "--hold", "--add", otherPub)
	out, _ := c.run(command.ExitOK, "publisher", "list", "--json")
	var list struct {
		Publishers []struct {
			Name      string
			Prefixes  []string
			Threshold int
			Keys      []string `json:"key_ids"`
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Publishers) != 1 || list.Publishers[0].Threshold != 1 || len(list.Publishers[0].Keys) != 2 || strings.Join(list.Publishers[0].Prefixes, " ") != "erin-" {
		t.Errorf("publisher list = %+v", list)
	}
	if out, _ := c.run(command.ExitOK, "key", "list"); !strings.Contains(out, "erin ") || !strings.Contains(out, "elsewhere") {
		t.Errorf("key list = %q", out)
	}
	// Erin's key is for her names; and a store of files needs somebody who signs
	// the snapshot.
	root := filepath.Join(t.TempDir(), "root.json")
	c.run(command.ExitOK, "key", "export", "--root", "-o", root)
	copyFile(t, root, filepath.Join(filepath.Dir(erin.config), "keys", "root.json"))
	src, program := testtree.New(t, 1), testtree.Program(t)
	for name, want := range map[string]string{"other": "the keys of targets are needed", "erin-desk": "snapshot"} {
		if _, errs := erin.run(command.ExitKey, "push", src, "--name", name, "--version", "1", "--blockfs", program, "--to", store); !strings.Contains(errs, want) {
			t.Errorf("Erin pushes %s: %q; want %q in it", name, errs, want)
		}
	}
	c.run(command.ExitOK, "publisher", "rm", "erin")
	c.run(command.ExitUsage, "publisher", "rm", "erin")
}
