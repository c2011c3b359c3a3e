package trusttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/imagetool/testtree"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/keyfile"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/storepath"
)

const passphrase = "everybody has the same here"

// image is what Alice has published.
const image = "images/test/1/amd64.json"

// world is people with home folders, a stick that goes from one to the other,
// and a server.
type world struct {
	t    *testing.T
	doc  map[string][][]line
	dir  string // alice/, bob/, …, stick/, data/, srv/
	bin  string // imagetool, systemctl
	url  string
	kept string // dir as it was after the set-up

	tree, program string // what is published
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, doc: document(t), dir: t.TempDir(), bin: t.TempDir(), tree: testtree.New(t, 1), program: testtree.Program(t)}
	for _, program := range []string{"imagetool", "server"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(w.bin, program), "github.com/inetboot/inetboot/"+program).CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	_ = l.Close()
	w.url = "http://" + addr.String()
	w.mkdir("stick")
	w.mkdir("alice")
	// What a service manager does, and the person who brings the new token to
	// Alice.
	script := fmt.Sprintf(`#!/bin/bash
case $1 in
start)
	setsid %[1]s/server --data %[2]s/data --listen %[3]s --log-format json >>%[1]s/log 2>&1 </dev/null &
	echo $! >%[1]s/pid
	for i in $(seq 600); do
		if [ -s %[2]s/data/token ] && (exec 3<>/dev/tcp/127.0.0.1/%[4]d) 2>/dev/null; then
			cp %[2]s/data/token %[2]s/alice/token
			exit 0
		fi
		sleep 0.05
	done
	exit 1 ;;
stop)
	p=$(cat %[1]s/pid) && rm %[1]s/pid && kill $p
	while kill -0 $p 2>/dev/null; do sleep 0.02; done ;;
esac
`, w.bin, w.dir, addr, addr.Port)
	if err := os.WriteFile(filepath.Join(w.bin, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(w.bin, "pid")); err == nil {
			w.server("stop")
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(w.bin, "log"))
			t.Logf("the server's log:\n%s", log)
		}
	})
	return w
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

func (w *world) mkdir(name string) {
	w.t.Helper()
	if err := os.MkdirAll(w.path(name), 0o700); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) server(what string) {
	w.t.Helper()
	if out, err := exec.Command(filepath.Join(w.bin, "systemctl"), what, "inetboot").CombinedOutput(); err != nil {
		w.t.Fatalf("systemctl %s: %v\n%s", what, err, out)
	}
}

// shell runs a command as a person.
func (w *world) shell(who, command string) error {
	w.mkdir(who)
	cmd := exec.Command("bash", "-c", "set -eo pipefail; "+command)
	cmd.Dir = w.path(who)
	cmd.Env = []string{"HOME=" + w.path(who), "PATH=" + w.bin + ":" + os.Getenv("PATH"), "INETBOOT_PASSPHRASE=" + passphrase, "TMPDIR=" + os.TempDir()}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s$ %s: %w\n%s", who, command, err, out.String())
	}
	return nil
}

// run runs a block below a heading of the document.
func (w *world) run(heading string, block int) {
	w.t.Helper()
	blocks := w.doc[heading]
	if block >= len(blocks) {
		w.t.Fatalf("docs/trust.md has %d blocks below %q; want more than %d", len(blocks), heading, block)
	}
	names := strings.NewReplacer("/media/stick", w.path("stick"), "/var/lib/inetboot", w.path("data"), "/srv/inetboot", w.path("srv"),
		"http://boot.example.org:8080", w.url)
	for _, l := range blocks[block] {
		if err := w.shell(l.who, names.Replace(l.command)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// keep remembers the world as it is, without the server running.
func (w *world) keep() {
	w.t.Helper()
	w.server("stop")
	w.kept = w.t.TempDir()
	if out, err := exec.Command("cp", "-a", w.dir+"/.", w.kept).CombinedOutput(); err != nil {
		w.t.Fatalf("cp: %v\n%s", err, out)
	}
}

// scenario runs f in the world that was kept.
func (w *world) scenario(name string, f func(w *world)) {
	w.t.Run(name, func(t *testing.T) {
		inner := *w
		inner.t = t
		if out, err := exec.Command("bash", "-c", "rm -rf "+w.dir+"/* && cp -a "+w.kept+"/. "+w.dir).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v\n%s", err, out)
		}
		inner.server("start")
		defer inner.server("stop")
		f(&inner)
	})
}

// medium returns the root on a medium that was made at the very beginning.
func (w *world) medium() *catalog.Anchor {
	w.t.Helper()
	return w.anchor(w.path("stick", "root-1.json"))
}

func (w *world) anchor(file string) *catalog.Anchor {
	w.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := tuf.NewAnchor(data)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// http returns what machines read the server's store with.
func (w *world) http() catalog.Source {
	w.t.Helper()
	c, err := mirror.New([]string{w.url}, mirror.Options{Attempts: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// boot opens the catalog as a machine does, and reads the manifest of an image.
func boot(src catalog.Source, anchor *catalog.Anchor, floor *catalog.Catalog, name string) (*catalog.Catalog, error) {
	o := catalog.Options{Now: time.Now()}
	if floor != nil {
		o.Floor = floor.Trusted()
	}
	c, err := catalog.Open(context.Background(), src, anchor, o)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return c, nil
	}
	if name == image {
		_, err = c.Image(context.Background(), name)
	} else {
		_, err = c.Blob(context.Background(), name)
	}
	return c, err
}

// recovered checks that a machine with the old medium boots the image, by a
// root of the version that is wanted.
func (w *world) recovered(src catalog.Source, floor *catalog.Catalog, root int64) *catalog.Catalog {
	w.t.Helper()
	c, err := boot(src, w.medium(), floor, image)
	if err != nil {
		w.t.Fatalf("a machine with the old medium: %v", err)
	}
	if got := c.Trusted().Root().Version(); got != root {
		w.t.Errorf("a machine with the old medium has root version %d; want %d", got, root)
	}
	return c
}

// steal copies a private key.
func (w *world) steal(elem ...string) publish.KeySigner {
	w.t.Helper()
	f, err := keyfile.Read(w.path(elem...))
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := f.Key([]byte(passphrase))
	if err != nil {
		w.t.Fatal(err)
	}
	return publish.KeySigner(key)
}

func keyPath(who, name string) []string {
	return []string{who, ".config", "inetboot", "keys", name + ".key"}
}

// evil is what thieves list.
const evil = "images/evil/1/amd64.json"

// thief has keys, and a mirror.
type thief struct {
	w    *world
	keys publish.Signers
}

func (w *world) thief(keys ...publish.KeySigner) *thief {
	t := &thief{w: w}
	for _, k := range keys {
		t.keys = append(t.keys, k)
	}
	return t
}

// role is a role as the thief would have it: his keys count.
func (t *thief) role(name string) publish.Role {
	r := publish.Role{Name: name, Threshold: 1, Lifetime: time.Hour}
	for _, k := range t.keys {
		r.KeyIDs = append(r.KeyIDs, publish.KeyID(k.Public()))
	}
	return r
}

// forged is a store in front of another one.
type forged struct {
	catalog.Source
	files map[string][]byte
}

func (f forged) Read(ctx context.Context, path string, buf []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	data, ok := f.files[path]
	if !ok {
		return f.Source.Read(ctx, path, buf, limit, accept)
	}
	return data, accept(data)
}

// list makes a mirror that lists the thief's image in a role, sealed with his
// keys.
func (t *thief) list(c *catalog.Catalog, role, name string) forged {
	w := t.w
	w.t.Helper()
	set := c.Trusted()
	was := set.Targets()
	if role != tuf.RoleTargets {
		var err error
		if was, _, err = set.Role(context.Background(), role); err != nil {
			w.t.Fatal(err)
		}
	}
	list, err := publish.NextTargets(t.role(role), was.Bytes())
	if err != nil {
		w.t.Fatal(err)
	}
	list.Set(name, []byte("evil"))
	data, err := list.Sign(context.Background(), time.Now(), 0, t.keys)
	if err != nil {
		w.t.Fatal(err)
	}
	return t.seal(c, map[string][]byte{role: data}, map[string][]byte{
		storepath.RoleMetadata(role, list.Version()): data, storepath.Target(name, digest.Of([]byte("evil"))): []byte("evil"),
	})
}

// seal makes a mirror whose snapshot and timestamp the thief has signed.
func (t *thief) seal(c *catalog.Catalog, roles, files map[string][]byte) forged {
	w := t.w
	w.t.Helper()
	// The thief's own root says that his keys count, so that publish signs
	// with them; no machine ever sees it.
	root := publish.NewRoot()
	for _, name := range publish.TopRoles() {
		for _, k := range t.keys {
			if err := root.AddKey(name, k.Public()); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	own, err := root.Sign(context.Background(), time.Now(), t.keys)
	if err != nil {
		w.t.Fatal(err)
	}
	s := publish.Seal{Root: own, Old: c.Trusted(), Roles: roles, Signers: t.keys, Now: time.Now(), Anew: true, Lifetime: time.Hour}
	sealed, err := s.Sign(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	files[storepath.RoleMetadata(tuf.RoleSnapshot, sealed.SnapshotVersion)] = sealed.Snapshot
	files[storepath.Timestamp] = sealed.Timestamp
	return forged{w.http(), files}
}

// upload tries to publish files on the server. The thief has the token, too.
func (t *thief) upload(files map[string][]byte) error {
	w := t.w
	w.t.Helper()
	token, err := os.ReadFile(w.path("data", "token"))
	if err != nil {
		w.t.Fatal(err)
	}
	st, err := store.Open(w.url, strings.TrimSpace(string(token)), false)
	if err != nil {
		w.t.Fatal(err)
	}
	for path, data := range files {
		if kind, _, _ := storepath.Parse(path); kind == storepath.KindTarget {
			if err := st.Put(context.Background(), path, bytes.NewReader(data), int64(len(data))); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	for path, data := range files {
		if !storepath.Versioned(path) {
			continue
		}
		if err := st.Replace(context.Background(), path, data, ""); err != nil {
			return err
		}
	}
	return nil
}

// root signs a next root in which the thief's keys alone count.
func (t *thief) root(c *catalog.Catalog) forged {
	w := t.w
	w.t.Helper()
	r, err := publish.NextRoot(c.Trusted().Root().Bytes())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range publish.TopRoles() {
		for _, id := range r.Role(name).KeyIDs {
			if err := r.RemoveKey(name, id); err != nil {
				w.t.Fatal(err)
			}
		}
		for _, k := range t.keys {
			if err := r.AddKey(name, k.Public()); err != nil {
				w.t.Fatal(err)
			}
		}
		if err := r.SetThreshold(name, 1); err != nil {
			w.t.Fatal(err)
		}
	}
	data, err := r.Sign(context.Background(), time.Now(), t.keys)
	if err != nil && !errors.Is(err, publish.ErrTooFew) {
		w.t.Fatal(err)
	}
	f := t.list(c, tuf.RoleTargets, evil)
	f.files[storepath.RoleMetadata(tuf.RoleRoot, r.Version())] = data
	return f
}

// worthless checks that machines believe the mirror no more than the server
// does: one that has the old medium, and one that has seen the recovery.
func (t *thief) worthless(f forged, recovered *catalog.Catalog, name string) {
	w := t.w
	w.t.Helper()
	for what, floor := range map[string]*catalog.Catalog{"the old medium": nil, "a cache": recovered} {
		_, err := boot(f, w.medium(), floor, name)
		switch {
		case err == nil:
			w.t.Errorf("a machine with %s boots what the thief has signed", what)
		case !errors.Is(err, catalog.ErrUnknownKey) && !errors.Is(err, catalog.ErrSignature) && !errors.Is(err, catalog.ErrRollback) && !errors.Is(err, catalog.ErrNotFound):
			w.t.Errorf("a machine with %s refuses what the thief has signed for another reason: %v", what, err)
		}
	}
	if err := t.upload(f.files); err == nil {
		w.t.Error("the server takes what the thief has signed")
	}
}

// dirSource is a store that is only files.
func dirSource(dir string) catalog.Source { return dirFiles(dir) }

type dirFiles string

func (d dirFiles) Read(_ context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(string(d), filepath.FromSlash(path)))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are allowed", path, len(data), limit)
	}
	return data, accept(data)
}

// publishAs pushes an image as somebody who has a publisher's key, the root, and
// the token.
func (w *world) publishAs(who, name string) error {
	return w.shell(who, "cp "+w.path("stick", "root-1.json")+" ~/.config/inetboot/keys/root.json; imagetool push "+w.tree+" --name "+name+" --version 1 --blockfs "+w.program+
		" --replace --to "+w.url+" --token-file ../alice/token")
}

// publishImage pushes an image as Alice.
func (w *world) publishImage() {
	w.t.Helper()
	if err := w.shell("alice", "imagetool push "+w.tree+" --name test --version 1 --blockfs "+w.program); err != nil {
		w.t.Fatal(err)
	}
}
