package command_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/imagetool/testtree"
	"github.com/inetboot/inetboot/internal/s3test"
)

// files returns the sizes of what a store's folder has, but for locks and
// what is being written.
func files(t *testing.T, store string) map[string]int64 {
	t.Helper()
	out := make(map[string]int64)
	err := filepath.WalkDir(store, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(d.Name(), ".lock") || strings.Contains(p, "/.tmp/") {
			return err
		}
		info, err := d.Info()
		if err == nil {
			rel, _ := filepath.Rel(store, p)
			out[rel] = info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// count returns how many of files are below a folder.
func count(files map[string]int64, dir string) (n int) {
	for f := range files {
		if strings.HasPrefix(f, dir+"/") {
			n++
		}
	}
	return n
}

// newSource makes a tree of some blocks of its own beside those that all have.
func newSource(t *testing.T, seed byte) string {
	t.Helper()
	src := testtree.New(t, 1)
	for i := range 6 {
		data := make([]byte, 300_000)
		rand.NewChaCha8([32]byte{seed, byte(i)}).Read(data)
		testtree.Write(t, src, fmt.Sprintf("srv/own%d", i), data)
	}
	return src
}

func TestRmAndGC(t *testing.T) {
	c := newTool(t)
	store, program := filepath.Join(t.TempDir(), "store"), testtree.Program(t)
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	c.run(command.ExitOK, "push", newSource(t, 1), "--name", "test", "--version", "1", "--blockfs", program)
	one := files(t, store)
	c.run(command.ExitOK, "push", newSource(t, 2), "--name", "test", "--version", "2", "--blockfs", program)
	two := files(t, store)
	if n := count(two, "marks"); n != 0 {
		t.Errorf("%d marks are left behind by a push", n)
	}

	// Only the menus of the first catalogs are not needed any more.
	out, _ := c.run(command.ExitOK, "gc", "--grace", "0s", "--json")
	if !strings.Contains(out, `"target": 2`) || strings.Contains(out, `"block"`) {
		t.Errorf("gc of a store that needs its images says %s", out)
	}
	c.run(command.ExitOK, "verify")

	c.run(command.ExitStore, "rm", "other")
	c.run(command.ExitOK, "rm", "test/2", "--dry-run")
	if out, _ = c.run(command.ExitOK, "ls"); !strings.Contains(out, "2 images") {
		t.Errorf("after rm --dry-run: %s", out)
	}
	out, _ = c.run(command.ExitOK, "rm", "test/2")
	if !strings.Contains(out, "menu entry test-2 removed") {
		t.Errorf("rm says %q", out)
	}
	if out, _ = c.run(command.ExitOK, "ls"); !strings.Contains(out, "1 image ") {
		t.Errorf("after rm: %s", out)
	}
	// Machines may run from it: nothing goes in the grace period.
	out, _ = c.run(command.ExitOK, "gc", "--json")
	var res struct {
		Removed struct{ Files int } `json:"removed"`
		Waiting []string            `json:"images_waiting"`
	}
	if err := json.Unmarshal([]byte(out), &res); err != nil || len(res.Waiting) != 1 {
		t.Errorf("gc in the grace period = %s, %v; want one image waiting", out, err)
	}
	for f, n := range two {
		if strings.HasPrefix(f, "blocks/") && files(t, store)[f] != n {
			t.Errorf("%s is gone in the grace period", f)
		}
	}
	before := files(t, store)
	c.run(command.ExitOK, "gc", "--grace", "0s", "--dry-run")
	if diff := cmp.Diff(before, files(t, store)); diff != "" {
		t.Errorf("a dry run changed the store:\n%s", diff)
	}
	c.run(command.ExitOK, "gc", "--grace", "0s")
	after := files(t, store)
	for _, dir := range []string{"blocks", "indexes", "files"} {
		if got, want := count(after, dir), count(one, dir); got != want {
			t.Errorf("after gc the store has %d %s; want the %d of the first image", got, dir, want)
		}
	}
	if got := count(after, "catalog/targets/images"); got != 1 {
		t.Errorf("after gc the store has %d manifests; want 1", got)
	}
	c.run(command.ExitOK, "verify")

	// A mark of a push on another machine keeps gc out, a dead one does not.
	mark := filepath.Join(store, "marks", "push-other.json")
	testtree.Write(t, store, "marks/push-other.json", []byte(`{"host": "elsewhere", "what": "debian 12"}`))
	_, errs := c.run(command.ExitStore, "gc", "--wait", "0s")
	if !strings.Contains(errs, "debian 12 on elsewhere") {
		t.Errorf("gc beside a push says %q", errs)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(mark, old, old); err != nil {
		t.Fatal(err)
	}
	c.run(command.ExitOK, "gc", "--wait", "0s")
	if _, err := os.Stat(mark); err == nil {
		t.Error("a dead mark is still there")
	}
	// A listed image that cannot be read stops gc before it removes anything.
	for f := range files(t, store) {
		if strings.HasPrefix(f, "indexes/") {
			if err := os.WriteFile(filepath.Join(store, f), []byte("damaged"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	before = files(t, store)
	c.run(command.ExitDamaged, "gc", "--grace", "0s")
	if diff := cmp.Diff(before, files(t, store)); diff != "" {
		t.Errorf("gc of a damaged store changed it:\n%s", diff)
	}
}

func TestVerify(t *testing.T) {
	c := newTool(t)
	store := filepath.Join(t.TempDir(), "store")
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	c.run(command.ExitOK, "push", newSource(t, 1), "--name", "test", "--version", "1", "--blockfs", testtree.Program(t))
	out, _ := c.run(command.ExitOK, "verify", "test", "--json")
	var whole struct {
		Blocks int `json:"blocks"`
		Of     int `json:"of_blocks"`
	}
	if err := json.Unmarshal([]byte(out), &whole); err != nil || whole.Blocks == 0 || whole.Blocks != whole.Of {
		t.Errorf("verify = %s, %v", out, err)
	}
	out, _ = c.run(command.ExitOK, "verify", "--sample", "30", "--json")
	var part struct{ Blocks int }
	if err := json.Unmarshal([]byte(out), &part); err != nil || part.Blocks < 1 || part.Blocks >= whole.Blocks {
		t.Errorf("verify of a sample = %s, %v", out, err)
	}
	c.run(command.ExitUsage, "verify", "--sample", "0")
	var blocks []string
	for f := range files(t, store) {
		if strings.HasPrefix(f, "blocks/") {
			blocks = append(blocks, f)
		}
	}
	data, err := os.ReadFile(filepath.Join(store, blocks[0]))
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(filepath.Join(store, blocks[0]), data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(store, blocks[1])); err != nil {
		t.Fatal(err)
	}
	out, _ = c.run(command.ExitDamaged, "verify")
	for _, want := range []string{"damaged: " + blocks[0], "missing: " + blocks[1], "images/test/1/amd64.json"} {
		if !strings.Contains(out, want) {
			t.Errorf("verify says %q; want %q in it", out, want)
		}
	}
}

// mirrors are kept in step by copying what is missing, whatever the kind of
// store.
func TestMirror(t *testing.T) {
	c := newTool(t)
	dir := t.TempDir()
	store, program := filepath.Join(dir, "store"), testtree.Program(t)
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	c.run(command.ExitOK, "push", newSource(t, 1), "--name", "test", "--version", "1", "--blockfs", program)
	url, tokenFile, served := testtree.Server(t)
	bucket := s3test.Start(t)
	location := bucket.Bucket(t, "images", "mirror")
	stranger := newTool(t) // has no keys
	copies := []struct {
		name, to, dir string
		args          []string
	}{
		{"directory", filepath.Join(dir, "copy"), filepath.Join(dir, "copy"), nil},
		{"server", url, served, []string{"--token-file", tokenFile}},
		{"bucket", location, filepath.Join(bucket.Dir, "images", "mirror"), nil},
	}
	same := func(name, dir string) {
		t.Helper()
		want, got := files(t, store), files(t, dir)
		delete(want, "marks/unlisted.json")
		for f, n := range want {
			old := strings.HasSuffix(f, ".snapshot.json") || strings.HasSuffix(f, ".targets.json") || strings.HasSuffix(f, ".menu.json")
			if got[f] != n && !old { // what catalogs before listed is not copied
				t.Errorf("%s: %s has %d bytes; want %d", name, f, got[f], n)
			}
		}
	}
	for _, to := range copies {
		_, errs := stranger.run(command.ExitOK, append([]string{"mirror", store, to.to}, to.args...)...)
		if !strings.Contains(errs, "no root is known") {
			t.Errorf("%s: the first copy says %q", to.name, errs)
		}
		same(to.name, to.dir)
		out, errs := stranger.run(command.ExitOK, append([]string{"mirror", store, to.to, "--json"}, to.args...)...)
		if !strings.Contains(out, `"bytes": 0`) || !strings.Contains(out, `"updated": false`) || strings.Contains(errs, "no root") {
			t.Errorf("%s: the second copy says %s%s", to.name, out, errs)
		}
	}
	c.run(command.ExitOK, "push", newSource(t, 2), "--name", "test", "--version", "2", "--blockfs", program)
	for _, to := range copies {
		out, _ := stranger.run(command.ExitOK, append([]string{"mirror", store, to.to}, to.args...)...)
		if !strings.Contains(out, "has catalog version 3 now") {
			t.Errorf("%s: the copy of an update says %q", to.name, out)
		}
		same(to.name, to.dir)
	}
	c.run(command.ExitOK, "verify", "--to", url)
	c.run(command.ExitOK, "verify", "--to", location)
	// From a server, and from a damaged store.
	again := filepath.Join(dir, "again")
	stranger.run(command.ExitOK, "mirror", url, again)
	same("from a server", again)
	for f := range files(t, again) {
		if strings.HasPrefix(f, "blocks/") {
			if err := os.WriteFile(filepath.Join(again, f), []byte("damaged"), 0o644); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	bad := filepath.Join(dir, "bad")
	if _, errs := stranger.run(command.ExitDamaged, "mirror", again, bad); !strings.Contains(errs, "copy blocks/") {
		t.Errorf("a copy of a damaged store says %q", errs)
	}
	if _, err := os.Stat(filepath.Join(bad, "catalog/timestamp.json")); err == nil {
		t.Error("a copy that failed has a catalog")
	}
	// Not back to an older catalog.
	c.run(command.ExitOK, "menu", "set", "--timeout", "33")
	c.run(command.ExitStore, "mirror", again, store)
}

// A push that is killed at any moment is never seen by readers and loses
// nothing; the next one sends only what is missing.
func TestFiftyKills(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "imagetool")
	build(t, bin)
	program, src := testtree.Program(t), newSource(t, 3)
	c := newTool(t)
	store, whole := filepath.Join(dir, "store"), filepath.Join(dir, "whole")
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	c.run(command.ExitOK, "push", newSource(t, 4), "--name", "base", "--version", "1", "--blockfs", program)
	if err := os.CopyFS(whole, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	args := []string{"push", src, "--name", "test", "--version", "1", "--blockfs", program, "--config", c.config}
	start := time.Now()
	if out, err := exec.Command(bin, append(args, "--to", whole)...).CombinedOutput(); err != nil {
		t.Fatalf("push: %v\n%s", err, out)
	}
	took := time.Since(start)
	want := files(t, whole)
	rng := rand.New(rand.NewPCG(1, 50))
	killed, published := 0, 0
	for n := range 50 {
		cmd := exec.Command(bin, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(rng.Int64N(int64(took))), func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		kill.Stop()
		if err != nil {
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
				t.Fatalf("a push failed by itself: %v", err)
			}
			killed++
		}
		out, _ := c.run(command.ExitOK, "ls")
		if strings.Contains(out, "2 images") {
			published++
			// All of it is there; once more from the beginning, to be
			// killed at other places.
			c.run(command.ExitOK, "verify", "test")
			c.run(command.ExitOK, "rm", "test")
			c.run(command.ExitOK, "gc", "--grace", "0s", "--wait", "0s")
			continue
		}
		if n%5 == 0 {
			c.run(command.ExitOK, "verify", "base")
		}
	}
	if killed < 10 {
		t.Errorf("only %d of 50 pushes were killed in time", killed)
	}
	t.Logf("%d of 50 pushes killed, %d had published before", killed, published)
	if out, err := exec.Command(bin, args...).CombinedOutput(); err != nil {
		t.Fatalf("push after %d kills: %v\n%s", killed, err, out)
	}
	c.run(command.ExitOK, "verify")
	got := files(t, store)
	for f, n := range want {
		if strings.HasPrefix(f, "catalog/") {
			continue // has times and versions in it
		}
		if got[f] != n {
			t.Errorf("%s has %d bytes; want %d", f, got[f], n)
		}
	}
	// What is there once is not sent again.
	out, err := exec.Command(bin, append(args, "--json")...).Output()
	if err != nil || !strings.Contains(string(out), `"blocks_sent": 0`) || !strings.Contains(string(out), `"unchanged": true`) {
		t.Errorf("push of what is there = %v, %s", err, out)
	}
}

// Two publishers and a collector at once: all pushes succeed, and everything
// that is listed is there.
func TestPushesAndGCAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	bucket := s3test.Start(t)
	url, tokenFile, _ := testtree.Server(t)
	program := testtree.Program(t)
	for _, st := range []struct {
		name string
		to   []string
	}{
		{"directory", []string{"--to", filepath.Join(t.TempDir(), "store")}},
		{"server", []string{"--to", url, "--token-file", tokenFile}},
		{"bucket", []string{"--to", bucket.Bucket(t, "images", "")}},
	} {
		t.Run(st.name, func(t *testing.T) {
			c := newTool(t)
			c.run(command.ExitOK, append([]string{"init", "--no-passphrase"}, st.to...)...)
			// The same blocks go and come: what one publisher relies on,
			// the collector would like to remove.
			sources := []string{newSource(t, 1), newSource(t, 2)}
			var wg sync.WaitGroup
			done := make(chan struct{})
			for p := range 2 {
				wg.Go(func() {
					for v := range 3 {
						version := fmt.Sprintf("%d.%d", p, v)
						c.run(command.ExitOK, append([]string{"push", sources[(p+v)%2], "--name", "test", "--version", version, "--blockfs", program}, st.to...)...)
						if v < 2 {
							c.run(command.ExitOK, append([]string{"rm", "test/" + version}, st.to...)...)
						}
					}
				})
			}
			var gc sync.WaitGroup
			gc.Go(func() {
				for {
					c.run(command.ExitOK, append([]string{"gc", "--grace", "0s", "--wait", "5m"}, st.to...)...)
					select {
					case <-done:
						return
					default:
					}
				}
			})
			wg.Wait()
			close(done)
			gc.Wait()
			out, _ := c.run(command.ExitOK, append([]string{"ls", "--json"}, st.to...)...)
			if n := strings.Count(out, `"manifest"`); n != 2 {
				t.Errorf("%d images are listed; want 2", n)
			}
			c.run(command.ExitOK, append([]string{"verify"}, st.to...)...)
		})
	}
}

// What a publisher of a prefix has listed is removed from that list.
func TestRmOfAPublisher(t *testing.T) {
	c := newTool(t)
	url, tokenFile, _ := testtree.Server(t)
	program := testtree.Program(t)
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", url, "--token-file", tokenFile)
	c.run(command.ExitOK, "key", "new", "erin", "--no-passphrase")
	c.run(command.ExitOK, "publisher", "add", "erin", "--prefix", "erin-", "--key", "erin")
	src := testtree.New(t, 1)
	c.run(command.ExitOK, "push", src, "--name", "erin-os", "--version", "1", "--blockfs", program)
	c.run(command.ExitOK, "push", src, "--name", "test", "--version", "1", "--blockfs", program)
	out, _ := c.run(command.ExitOK, "rm", "erin-os")
	if !strings.Contains(out, "erin-os/1/amd64 removed") {
		t.Errorf("rm says %q", out)
	}
	if out, _ = c.run(command.ExitOK, "ls"); !strings.Contains(out, "1 image ") || strings.Contains(out, "erin-os") {
		t.Errorf("ls = %s", out)
	}
	c.run(command.ExitOK, "gc", "--grace", "0s")
	c.run(command.ExitOK, "verify")
}
