// Package imagestest publishes roots for tests of what exports them.
package imagestest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/imagetool/root"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/opener"
	"github.com/inetboot/inetboot/server/lan/images"
	"github.com/inetboot/inetboot/server/store/storetest"
)

// Root is a tree as imagetool writes it.
type Root struct {
	Dir        string // the tree itself
	Meta, Data []byte // the root's two files
	Image      []byte // the same in one
}

// Big is the length of the file usr/big in a Root.
const Big = 5<<20 + 1234

// NewRoot makes a root with all kinds of files; devices and owners need root.
func NewRoot(t testing.TB) *Root {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, data []byte, mode os.FileMode) {
		t.Helper()
		check(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		check(os.WriteFile(filepath.Join(dir, name), data, 0o600))
		check(os.Chmod(filepath.Join(dir, name), mode))
	}
	check(os.MkdirAll(dir, 0o755))
	big := make([]byte, Big)
	for i := 0; i < len(big); i += 7 {
		big[i] = byte(i * i >> 9)
	}
	clear(big[1<<20 : 2<<20])
	write("usr/big", big, 0o644)
	write("etc/hostname", []byte("client\n"), 0o644)
	write("etc/empty", nil, 0o644)
	write("usr/bin/su", []byte("#!/bin/sh\n"), 0o755|os.ModeSetuid)
	write("usr/games/score", []byte("1"), 0o755|os.ModeSetgid)
	check(os.Mkdir(filepath.Join(dir, "tmp"), 0o755))
	check(os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky))
	check(os.Link(filepath.Join(dir, "usr/big"), filepath.Join(dir, "usr/same")))
	check(os.Symlink("usr/bin", filepath.Join(dir, "bin")))
	check(unix.Mkfifo(filepath.Join(dir, "etc/fifo"), 0o600))
	for i := range 900 { // a directory of several blocks
		write(fmt.Sprintf("usr/share/many/a name of some length, number %d", i*7919%10007), []byte{byte(i)}, 0o640)
	}
	if os.Geteuid() == 0 {
		check(os.Mkdir(filepath.Join(dir, "dev"), 0o755))
		check(unix.Mknod(filepath.Join(dir, "dev/tty9"), unix.S_IFCHR|0o620, int(unix.Mkdev(4, 9))))
		check(unix.Mknod(filepath.Join(dir, "dev/odd"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
		check(os.Lchown(filepath.Join(dir, "etc/hostname"), 1234, 100_000))
		check(os.Lchown(filepath.Join(dir, "bin"), 65534, 7))
	}
	return FromFolder(t, dir)
}

// FromFolder makes a root of what is in a folder.
func FromFolder(t testing.TB, dir string) *Root {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tree, err := opener.Open(t.Context(), dir, opener.Options{Options: source.Options{TempDir: t.TempDir()}})
	check(err)
	defer tree.Close()
	plan, err := root.NewPlan(tree)
	check(err)
	r := &Root{Dir: dir}
	var meta, image bytes.Buffer
	check(plan.Meta(&meta))
	in := plan.Data(t.Context())
	defer in.Close()
	r.Data, err = io.ReadAll(in)
	check(err)
	_, err = plan.Image(t.Context(), &image, nil, func(int64) {})
	check(err)
	r.Meta, r.Image = meta.Bytes(), image.Bytes()
	return r
}

// Files returns the root's files for a [storetest.Publisher].
func (r *Root) Files() []storetest.RootFile {
	return []storetest.RootFile{{Name: "meta", Data: r.Meta}, {Name: "data", Data: r.Data}}
}

// Library returns the images of a store made by a [storetest.Publisher] in a
// folder.
func Library(t testing.TB, p *storetest.Publisher, base string) *images.Library {
	t.Helper()
	l := images.New(images.Options{Store: p.Dir, Blocks: read.Dir(filepath.Join(base, "store")), Memory: 8 << 20})
	t.Cleanup(func() { l.Close() })
	return l
}
