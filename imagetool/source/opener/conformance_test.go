package opener_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/imagetool/testtree"
	"github.com/inetboot/inetboot/internal/storepath"
)

// publisher pushes images into a store and mounts them.
type publisher struct {
	t       *testing.T
	store   store.Store
	keys    *keys.Folder
	program string
}

// quiet is a push.Reporter that keeps notes.
type quiet struct{ notes []string }

func (q *quiet) Begin(string, int64) {}
func (q *quiet) Add(int64)           {}
func (q *quiet) End()                {}
func (q *quiet) Note(s string)       { q.notes = append(q.notes, s) }

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	ctx := context.Background()
	st, err := store.NewDir(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	o := push.InitOptions{Title: "Test", Lifetime: time.Hour}
	k, err := keys.Generate(ctx, keys.OpenRing(t.TempDir(), keys.Options{}), true, push.InitKeys(o)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := push.Init(ctx, st, k, o); err != nil {
		t.Fatal(err)
	}
	return &publisher{t: t, store: st, keys: k, program: testtree.Program(t)}
}

// push publishes a source and returns its manifest and what was noted.
func (p *publisher) push(t *testing.T, o push.Options) (catalog.Manifest, []string) {
	t.Helper()
	o.Name, o.Program, o.Level, o.TempDir, o.Replace = "test", p.program, 1, t.TempDir(), true
	o.Version = "1"
	rep := &quiet{}
	res, err := push.Push(context.Background(), p.store, p.keys, o, rep)
	if err != nil {
		t.Fatal(err)
	}
	return res.Manifest, rep.notes
}

// mount reads a root back from the store, as a client does, and has the kernel
// mount it.
func (p *publisher) mount(t *testing.T, m catalog.Manifest) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	var devices []string
	for _, f := range m.Root.Files {
		name := filepath.Join(dir, f.Name)
		p.fetch(t, f, name)
		out, err := exec.Command("losetup", "--find", "--show", "--read-only", name).CombinedOutput()
		if err != nil {
			t.Skipf("no loop device: %v: %s", err, out)
		}
		dev := strings.TrimSpace(string(out))
		t.Cleanup(func() { _ = exec.Command("losetup", "--detach", dev).Run() })
		devices = append(devices, dev)
	}
	at := t.TempDir()
	if err := unix.Mount(devices[0], at, "erofs", unix.MS_RDONLY, "device="+devices[1]); err != nil {
		if errors.Is(err, unix.ENODEV) {
			t.Skip("this kernel has no EROFS")
		}
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	return at
}

// fetch puts a file of a root together from its blocks.
func (p *publisher) fetch(t *testing.T, f catalog.RootFile, name string) {
	t.Helper()
	ctx := context.Background()
	data, err := p.store.Read(ctx, storepath.Index(f.Index.SHA256), nil, f.Index.Size, func(b []byte) error { return f.Index.SHA256.Check("index", b) })
	if err != nil {
		t.Fatal(err)
	}
	x, err := index.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	at := int64(0)
	for i := range x.Len() {
		e := x.Entry(i)
		if !e.Zero() {
			stored, err := p.store.Read(ctx, storepath.Block(e.SHA256), nil, int64(block.MaxStored(e.PlainLen)), nil)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := block.Decode(nil, stored, e.PlainLen, e.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := out.WriteAt(plain, at); err != nil {
				t.Fatal(err)
			}
		}
		at += int64(e.PlainLen)
	}
	if at != f.Size {
		t.Fatalf("the blocks of %s have %d bytes; want %d", f.Name, at, f.Size)
	}
	if err := out.Truncate(at); err != nil {
		t.Fatal(err)
	}
}

// compare mounts what was pushed and compares it with the tree. Kinds of
// sources that cannot have sockets lose those alone.
func (p *publisher) compare(t *testing.T, m catalog.Manifest, want map[string]string, sockets bool) {
	t.Helper()
	got := testtree.Describe(t, p.mount(t, m))
	if !sockets {
		want = maps.Clone(want)
		maps.DeleteFunc(want, func(_, s string) bool { return strings.HasPrefix(s, "mode 14") })
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("source and mounted root differ (-source +root):\n%.20000s", diff)
	}
}

// run runs a program; without it the test is skipped.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(err)
	}
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// makeTar packs dir with GNU tar as docs/imagetool.md says.
func makeTar(t testing.TB, dir string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "t.tar")
	run(t, "tar", append([]string{
		"--create", "--file=" + file, "--directory=" + dir, "--format=pax",
		"--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner",
	}, append(args, ".")...)...)
	return file
}

// oddRoot makes the tree that all sources have to bring along, and describes
// it.
func oddRoot(t *testing.T) (string, map[string]string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	testtree.Fill(t, dir, 1)
	testtree.Odd(t, dir)
	return dir, testtree.Describe(t, dir)
}

func TestEverySourceGivesTheSameRoot(t *testing.T) {
	dir, want := oddRoot(t)
	p := newPublisher(t)
	compressed := func(args ...string) func(t *testing.T) string {
		return func(t *testing.T) string {
			file := makeTar(t, dir)
			run(t, args[0], append(args[1:], file)...)
			// The name says nothing: the content does.
			left, err := filepath.Glob(file + ".*")
			if err != nil || len(left) != 1 {
				t.Fatalf("%v, %v", left, err)
			}
			if err := os.Rename(left[0], file); err != nil {
				t.Fatal(err)
			}
			return file
		}
	}
	for _, tc := range []struct {
		name    string
		source  func(t *testing.T) string
		sockets bool
	}{
		{"directory", func(*testing.T) string { return dir }, true},
		{"tar", func(t *testing.T) string { return makeTar(t, dir) }, false},
		{"tar with holes", func(t *testing.T) string { return makeTar(t, dir, "--sparse") }, false},
		{"tar with holes, pax 0.1", func(t *testing.T) string { return makeTar(t, dir, "--sparse", "--sparse-version=0.1") }, false},
		{"tar with holes, pax 0.0", func(t *testing.T) string { return makeTar(t, dir, "--sparse", "--sparse-version=0.0") }, false},
		{"bsdtar", func(t *testing.T) string {
			file := filepath.Join(t.TempDir(), "t.tar")
			run(t, "bsdtar", "--create", "--file", file, "--format=pax", "--xattrs", "--acls", "-C", dir, ".")
			return file
		}, false},
		{"gzip", compressed("gzip", "-1"), false},
		{"xz", compressed("xz", "-0"), false},
		{"zstd", compressed("zstd", "-q", "--rm"), false},
		{"bzip2", compressed("bzip2", "-1"), false},
		{"standard input", func(t *testing.T) string {
			stdin(t, makeTar(t, dir, "--sparse"), true)
			return "-"
		}, false},
		{"standard input from a file", func(t *testing.T) string {
			stdin(t, makeTar(t, dir), false)
			return "-"
		}, false},
		{"OCI layout", func(t *testing.T) string { return layoutDir(t, dir) }, false},
		{"OCI layout by name", func(t *testing.T) string { return "oci:" + layoutDir(t, dir) + ":the-image" }, false},
		{"OCI archive", func(t *testing.T) string { return makeTar(t, layoutDir(t, dir)) }, false},
		{"Docker archive", func(t *testing.T) string { return dockerArchive(t, dir) }, false},
		{"Docker archive, compressed", func(t *testing.T) string {
			file := dockerArchive(t, dir)
			run(t, "gzip", "-1", file)
			return "docker-archive:" + file + ".gz:example.org/the/image:latest"
		}, false},
		{"registry", func(t *testing.T) string { return "docker://" + registryImage(t, dir) }, false},
		{"machine", func(t *testing.T) string { return sshServer(t) + dir }, false},
	} {
		if underRace && !slices.Contains([]string{"directory", "zstd", "standard input", "OCI layout", "Docker archive", "registry", "machine"}, tc.name) {
			continue // the same code, with other formats
		}
		t.Run(tc.name, func(t *testing.T) {
			m, notes := p.push(t, push.Options{Source: tc.source(t), Arch: "amd64"})
			for _, n := range notes {
				if strings.Contains(n, "left out") && !strings.Contains(n, "adapter") && !strings.Contains(n, "driver") {
					t.Errorf("note: %s", n)
				}
			}
			p.compare(t, m, want, tc.sockets)
		})
	}
}

// stdin makes a file the standard input, by a pipe or as it is.
func stdin(t *testing.T, name string, pipe bool) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdin
	t.Cleanup(func() { os.Stdin = old; _ = f.Close() })
	if !pipe {
		os.Stdin = f
		return
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stdin = r
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer w.Close()
		data, err := os.ReadFile(name)
		if err == nil {
			_, err = bytes.NewReader(data).WriteTo(w)
		}
		if err != nil {
			t.Errorf("standard input: %v", err)
		}
	}()
	t.Cleanup(func() { _ = r.Close(); <-done })
}
