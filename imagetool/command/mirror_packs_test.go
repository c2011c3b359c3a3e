package command_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/imagetool/testtree"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// writePack writes a boot pack of one block, which need not be the image's.
func writePack(t *testing.T, name string, manifest digest.SHA256, plain []byte) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := pack.NewWriter(f, manifest)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := block.NewEncoder(block.DefaultLevel, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Add(len(plain), digest.Of(plain), enc.Encode(nil, plain)), w.Close()); err != nil {
		t.Fatal(err)
	}
}

// Boot packs are copied if they are of use and newer than what is there.
func TestMirrorPacks(t *testing.T) {
	c := newTool(t)
	store, program := filepath.Join(t.TempDir(), "store"), testtree.Program(t)
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	c.run(command.ExitOK, "push", bigTree(t), "--name", "test", "--version", "1", "--blockfs", program)
	_, reports := bootReports(t, store, 2)
	sum, _, _ := published(t, store)
	path := storepath.Pack(sum)
	c.run(command.ExitOK, "trace", "add", "test", reports[0])
	stray := storepath.Pack(digest.Of([]byte("no image")))
	if err := os.WriteFile(filepath.Join(store, stray), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	url, tokenFile, served := testtree.Server(t)
	dir := t.TempDir()
	mirror := func(packs int, to ...string) string {
		t.Helper()
		out, errs := c.run(command.ExitOK, append([]string{"mirror", store}, to...)...)
		if want := fmt.Sprintf(" and %s copied", []string{"0 boot packs", "1 boot pack"}[packs]); !strings.Contains(out, want) {
			t.Errorf("mirror to %s says %q; want %q in it", to[0], out, want)
		}
		return errs
	}
	same := func(to string, want bool) {
		t.Helper()
		a, err := os.ReadFile(filepath.Join(store, path))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(to, path))
		if got := err == nil && bytes.Equal(a, b); got != want {
			t.Errorf("the pack in %s is the same: %v, %v; want %v", to, got, err, want)
		}
	}
	for _, to := range []struct {
		dir  string
		args []string
	}{{filepath.Join(dir, "copy"), []string{filepath.Join(dir, "copy")}}, {served, []string{url, "--token-file", tokenFile}}} {
		mirror(0, append(to.args, "--no-packs")...)
		same(to.dir, false)
		mirror(1, to.args...)
		same(to.dir, true)
		mirror(0, to.args...)
		if _, err := os.Stat(filepath.Join(to.dir, stray)); err == nil {
			t.Error("the pack of no image was copied")
		}
	}
	// From a server, which says when its pack was written.
	other := filepath.Join(dir, "other")
	if out, _ := c.run(command.ExitOK, "mirror", url, other); !strings.Contains(out, "and 1 boot pack copied") {
		t.Errorf("mirror from a server says %q", out)
	}
	same(other, true)

	age := func(name string, by time.Duration) {
		t.Helper()
		at := time.Now().Add(by)
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(dir, "copy")
	c.run(command.ExitOK, "trace", "add", "test", reports[1])
	age(filepath.Join(to, path), time.Hour) // is the newer one
	mirror(0, to)
	same(to, false)
	age(filepath.Join(to, path), -time.Hour)
	mirror(1, to)
	same(to, true)

	good, err := os.ReadFile(filepath.Join(to, path))
	if err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(name string){
		"no block":    func(name string) { writePack(t, name, sum, []byte("a block of another image")) },
		"magic":       func(name string) { _ = os.WriteFile(name, bytes.Repeat([]byte("x"), 100), 0o644) },
		"manifest":    func(name string) { writePack(t, name, digest.Of(nil), []byte("x")) },
		"header says": func(name string) { _ = os.WriteFile(name, append(bytes.Clone(good), 0), 0o644) },
		"SHA-256": func(name string) {
			bad := bytes.Clone(good)
			bad[len(bad)-1] ^= 1
			_ = os.WriteFile(name, bad, 0o644)
		},
	} {
		write(filepath.Join(store, path))
		age(filepath.Join(store, path), time.Hour)
		if errs := mirror(0, to); !strings.Contains(errs, "is not copied") {
			t.Errorf("mirror of a bad pack (%s) says %q", name, errs)
		}
		if got, err := os.ReadFile(filepath.Join(to, path)); err != nil || !bytes.Equal(got, good) {
			t.Errorf("a bad pack (%s) has changed the copy: %v", name, err)
		}
	}
}
