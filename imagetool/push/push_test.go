package push_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/kernel"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/root"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/opener"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/imagetool/testtree"
	"github.com/inetboot/inetboot/internal/storepath"
)

func TestMain(m *testing.M) { os.Exit(testtree.Main(m)) }

// quiet is a Reporter that keeps notes.
type quiet struct {
	mu    sync.Mutex
	total int64
	done  int64
	notes []string
}

func (q *quiet) Begin(_ string, total int64) { q.mu.Lock(); q.total, q.done = total, 0; q.mu.Unlock() }
func (q *quiet) Add(n int64)                 { q.mu.Lock(); q.done += n; q.mu.Unlock() }
func (q *quiet) End()                        {}
func (q *quiet) Note(s string)               { q.mu.Lock(); q.notes = append(q.notes, s); q.mu.Unlock() }

// newStore sets up an empty store in a directory.
func newStore(t *testing.T, dir string) (store.Store, *keys.Folder) {
	t.Helper()
	st, err := store.NewDir(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	return st, initStore(t, st)
}

func initStore(t *testing.T, st store.Store) *keys.Folder {
	t.Helper()
	o := push.InitOptions{Title: "Test", Lifetime: time.Hour}
	if server, ok := st.(*store.HTTP); ok {
		var err error
		if o.Online, err = server.OnlineKey(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	k, err := keys.Generate(context.Background(), keys.OpenRing(t.TempDir(), keys.Options{}), true, push.InitKeys(o)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := push.Init(context.Background(), st, k, o); err != nil {
		t.Fatal(err)
	}
	return k
}

func options(src, program, version string) push.Options {
	return push.Options{Source: src, Name: "test", Version: version, Program: program, Level: block.DefaultLevel}
}

// readFile puts a root's file together from the store, as a client does.
func readFile(t *testing.T, st store.Store, f catalog.RootFile) []byte {
	t.Helper()
	ctx := context.Background()
	idx, err := st.Read(ctx, storepath.Index(f.Index.SHA256), nil, f.Index.Size, func(b []byte) error { return f.Index.SHA256.Check("index", b) })
	if err != nil {
		t.Fatal(err)
	}
	x, err := index.Parse(idx)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	seen := make(map[string]int)
	for i := range x.Len() {
		e := x.Entry(i)
		if e.Zero() {
			out = append(out, make([]byte, e.PlainLen)...)
			continue
		}
		data, err := st.Read(ctx, storepath.Block(e.SHA256), nil, int64(block.MaxStored(e.PlainLen)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) != e.StoredLen {
			t.Errorf("block %s has %d bytes, its index says %d", e.SHA256.Short(), len(data), e.StoredLen)
		}
		plain, err := block.Decode(nil, data, e.PlainLen, e.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, plain...)
		seen[e.SHA256.String()] = len(data)
	}
	stored := int64(0)
	for _, n := range seen {
		stored += int64(n)
	}
	if int64(len(out)) != f.Size || len(seen) != f.Blocks || stored != f.Stored {
		t.Errorf("%s: size, blocks, stored = %d, %d, %d; the manifest says %d, %d, %d", f.Name, len(out), len(seen), stored, f.Size, f.Blocks, f.Stored)
	}
	return out
}

// checkImage reads an image back and compares its root with the tree's.
func checkImage(t *testing.T, st store.Store, k *keys.Folder, target, src string) *catalog.Image {
	t.Helper()
	ctx := context.Background()
	c, err := catalog.Open(ctx, st, k.Anchor, catalog.Options{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	img, err := c.Image(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	m := img.Manifest()
	for _, b := range []struct {
		name string
		path string
		size int64
	}{{"kernel", storepath.File(m.Kernel.SHA256), m.Kernel.Size}, {"initrd", storepath.File(m.Initrd.SHA256), m.Initrd.Size}} {
		data, _, err := st.Load(ctx, b.path, b.size)
		if err != nil || int64(len(data)) != b.size {
			t.Errorf("%s: %d bytes, %v; want %d", b.name, len(data), err, b.size)
		}
	}
	tree, err := opener.Open(ctx, src, opener.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	plan, err := root.NewPlan(tree)
	if err != nil {
		t.Fatal(err)
	}
	r := plan.Data(ctx)
	defer r.Close()
	want, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := os.Create(filepath.Join(t.TempDir(), "meta"))
	if err != nil {
		t.Fatal(err)
	}
	defer meta.Close()
	if err := plan.Meta(meta); err != nil {
		t.Fatal(err)
	}
	wantMeta, err := os.ReadFile(meta.Name())
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Root.Files) != 2 || m.Root.Files[0].Name != "meta" || m.Root.Files[1].Name != "data" {
		t.Fatalf("root files %+v; want meta and data", m.Root.Files)
	}
	if !bytes.Equal(readFile(t, st, m.Root.Files[0]), wantMeta) {
		t.Error("meta out of the store is not the tree's")
	}
	if !bytes.Equal(readFile(t, st, m.Root.Files[1]), want) {
		t.Error("data out of the store is not the tree's")
	}
	return img
}

const target1 = "images/test/1/amd64.json"

// storeOf makes a store, a "directory" or one on a "server", and returns what
// opens it.
func storeOf(t *testing.T, kind string) func() store.Store {
	t.Helper()
	dir, url, token := t.TempDir(), "", []byte(nil)
	if kind == "server" {
		var tokenFile string
		var err error
		url, tokenFile, _ = testtree.Server(t)
		if token, err = os.ReadFile(tokenFile); err != nil {
			t.Fatal(err)
		}
	}
	return func() store.Store {
		t.Helper()
		var st store.Store
		var err error
		if kind == "server" {
			st, err = store.NewHTTP(url, strings.TrimSpace(string(token)))
		} else {
			st, err = store.NewDir(dir, true)
		}
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
}

func TestPush(t *testing.T) {
	program := testtree.Program(t)
	for _, kind := range []string{"directory", "server"} {
		t.Run(kind, func(t *testing.T) {
			ctx := context.Background()
			st := storeOf(t, kind)()
			k := initStore(t, st)
			src := testtree.New(t, 1)
			q := &quiet{}
			o := options(src, program, "1")
			o.Cmdline = "console=ttyS0"
			res, err := push.Push(ctx, st, k, o, q)
			if err != nil {
				t.Fatal(err)
			}
			if q.done != q.total || q.total == 0 {
				t.Errorf("progress ended at %d of %d", q.done, q.total)
			}
			if res.Catalog != 2 || res.Entry != "test-1" || res.Sent == 0 {
				t.Errorf("Push() = catalog %d, entry %s, %d sent; want 2, test-1, some", res.Catalog, res.Entry, res.Sent)
			}
			img := checkImage(t, st, k, target1, src)
			m := img.Manifest()
			if m.Cmdline != "console=ttyS0" || m.Kernel.Release != testtree.Release || m.Needs.Memory < 192<<20 || m.Needs.Memory%(16<<20) != 0 {
				t.Errorf("manifest: cmdline %q, release %s, memory %d", m.Cmdline, m.Kernel.Release, m.Needs.Memory)
			}
			c, _, err := push.Load(ctx, st, k.Trust())
			if err != nil {
				t.Fatal(err)
			}
			menu, err := c.Menu(ctx)
			if err != nil {
				t.Fatal(err)
			}
			want := &catalog.Menu{
				Format: catalog.MenuFormat, Title: "Test", Timeout: 10, Default: "test-1",
				Entries: []catalog.Entry{
					{ID: "test-1", Title: "Test GNU/Linux 12 (testing)", Image: target1, Arch: []string{"amd64"}},
					{ID: "local-disk", Title: "Boot from the local disk", Action: catalog.ActionLocalDisk},
					{ID: "reboot", Title: "Restart", Action: catalog.ActionReboot},
					{ID: "poweroff", Title: "Switch off", Action: catalog.ActionPowerOff},
				},
			}
			if diff := cmp.Diff(want, menu); diff != "" {
				t.Errorf("menu (-want +got):\n%s", diff)
			}

			// The same again changes nothing and sends nothing.
			res, err = push.Push(ctx, st, k, o, q)
			if err != nil || !res.Unchanged || res.Sent != 0 || res.Catalog != 0 {
				t.Errorf("second Push() = %+v, %v; want unchanged, nothing sent", res, err)
			}
			// Other content under the same name is refused, and replaces if told to.
			testtree.Write(t, src, "etc/new", []byte("new"))
			if _, err = push.Push(ctx, st, k, o, q); !errors.Is(err, push.ErrExists) {
				t.Errorf("Push() of other content = %v; want ErrExists", err)
			}
			if c, _, err := push.Load(ctx, st, k.Trust()); err != nil || c.Version() != 2 {
				t.Errorf("after the refusal the catalog has version %d, %v; want 2", c.Version(), err)
			}
			o.Replace = true
			if res, err = push.Push(ctx, st, k, o, q); err != nil || res.Catalog != 3 {
				t.Errorf("Push() with Replace = %+v, %v; want catalog 3", res, err)
			}
			checkImage(t, st, k, target1, src)

			// An update sends what is new only, and is not the default.
			o.Version, o.Replace = "2", false
			testtree.Write(t, src, "etc/new", []byte("newer"))
			res, err = push.Push(ctx, st, k, o, q)
			if err != nil {
				t.Fatal(err)
			}
			if all := res.Manifest.Root.Files[0].Blocks + res.Manifest.Root.Files[1].Blocks; res.Sent == 0 || int(res.Sent) >= all/2 {
				t.Errorf("the update sent %d of %d blocks; want few", res.Sent, all)
			}
			checkImage(t, st, k, "images/test/2/amd64.json", src)
			o.Version, o.Default = "3", true
			if _, err := push.Push(ctx, st, k, o, q); err != nil {
				t.Fatal(err)
			}
			if c, _, err = push.Load(ctx, st, k.Trust()); err != nil {
				t.Fatal(err)
			}
			if menu, err = c.Menu(ctx); err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, e := range menu.Entries {
				ids = append(ids, e.ID)
			}
			if diff := cmp.Diff([]string{"test-1", "test-2", "test-3", "local-disk", "reboot", "poweroff"}, ids); diff != "" || menu.Default != "test-3" {
				t.Errorf("menu: default %s, entries (-want +got):\n%s", menu.Default, diff)
			}
		})
	}
}

func TestReproducible(t *testing.T) {
	ctx := context.Background()
	program := testtree.Program(t)
	src := testtree.New(t, 1)
	tarball := filepath.Join(t.TempDir(), "t.tar.gz")
	if out, err := exec.Command("tar", "--create", "--gzip", "--file="+tarball, "--directory="+src, "--format=pax", "--numeric-owner", ".").CombinedOutput(); err != nil {
		t.Skipf("tar: %v: %s", err, out)
	}
	var want catalog.Manifest
	for i, s := range []string{src, src, tarball} {
		st, k := newStore(t, t.TempDir())
		res, err := push.Push(ctx, st, k, options(s, program, "1"), &quiet{})
		if err != nil {
			t.Fatal(err)
		}
		m := res.Manifest
		m.Created = time.Time{}
		if i == 0 {
			want = m
		} else if diff := cmp.Diff(want, m); diff != "" {
			t.Errorf("push %d gives another manifest (-first +this):\n%s", i, diff)
		}
	}
}

// breaking is a store whose n-th write fails.
type breaking struct {
	store.Store
	left atomic.Int64
	puts atomic.Int64
}

var errBroken = errors.New("broken on purpose")

func (b *breaking) step() error {
	if b.left.Add(-1) < 0 {
		return errBroken
	}
	return nil
}

func (b *breaking) Put(ctx context.Context, path string, body io.ReaderAt, size int64) error {
	if err := b.step(); err != nil {
		return err
	}
	err := b.Store.Put(ctx, path, body, size)
	// One that another failure has cut off has stored nothing.
	if kind, _, _ := storepath.Parse(path); kind == storepath.KindBlock && err == nil {
		b.puts.Add(1)
	}
	return err
}

func (b *breaking) Replace(ctx context.Context, path string, data []byte, tag string) error {
	if kind, _, _ := storepath.Parse(path); kind == storepath.KindMark {
		return b.Store.Replace(ctx, path, data, tag)
	}
	if err := b.step(); err != nil {
		return err
	}
	return b.Store.Replace(ctx, path, data, tag)
}

func (b *breaking) Create(ctx context.Context, path string, data []byte, base string) error {
	if err := b.step(); err != nil {
		return err
	}
	return b.Store.Create(ctx, path, data, base)
}

func TestInterruptedPushResumes(t *testing.T) {
	ctx := context.Background()
	program := testtree.Program(t)
	src := testtree.New(t, 1)
	dir, k := newStore(t, t.TempDir())
	st := &breaking{Store: dir}
	before, _, err := dir.Load(ctx, storepath.Timestamp, tuf.MaxTimestamp)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range 40 {
		st.left.Store(int64(1 + rnd.IntN(8)))
		res, err := push.Push(ctx, st, k, options(src, program, "1"), &quiet{})
		if err == nil {
			total := int64(res.Manifest.Root.Files[0].Blocks + res.Manifest.Root.Files[1].Blocks)
			if got := st.puts.Load(); got != total {
				t.Errorf("after %d interruptions %d blocks had been sent; want each of %d once", n, got, total)
			}
			if n < 3 {
				t.Errorf("only %d pushes were interrupted", n)
			}
			checkImage(t, dir, k, target1, src)
			return
		}
		if !errors.Is(err, errBroken) {
			t.Fatalf("interrupted Push() = %v; want the store's error", err)
		}
		now, _, err := dir.Load(ctx, storepath.Timestamp, tuf.MaxTimestamp)
		if err != nil || !bytes.Equal(now, before) {
			t.Fatalf("an interrupted push changed the catalog: %v", err)
		}
	}
	t.Error("the push never came to an end")
}

func TestCancelledPush(t *testing.T) {
	program := testtree.Program(t)
	src := testtree.New(t, 1)
	dir, k := newStore(t, t.TempDir())
	for n := range int64(12) {
		ctx, cancel := context.WithCancel(context.Background())
		st := &cancelling{Store: dir, cancel: cancel}
		st.left.Store(n)
		_, err := push.Push(ctx, st, k, options(src, program, "1"), &quiet{})
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("Push() cancelled at write %d = %v; want context.Canceled", n, err)
		}
	}
}

// cancelling cancels a context at the n-th write.
type cancelling struct {
	store.Store
	left   atomic.Int64
	cancel context.CancelFunc
}

func (c *cancelling) Put(ctx context.Context, path string, body io.ReaderAt, size int64) error {
	if c.left.Add(-1) < 0 {
		c.cancel()
	}
	return c.Store.Put(ctx, path, body, size)
}

func TestTwoPublishers(t *testing.T) {
	program := testtree.Program(t)
	for _, kind := range []string{"directory", "server"} {
		t.Run(kind, func(t *testing.T) {
			ctx := context.Background()
			open := storeOf(t, kind)
			k := initStore(t, open())
			const publishers = 4
			src := make([]string, publishers)
			errs := make([]error, publishers)
			var wg sync.WaitGroup
			for i := range publishers {
				src[i] = testtree.New(t, uint64(i))
				st := open()
				wg.Go(func() {
					_, errs[i] = push.Push(ctx, st, k, options(src[i], program, fmt.Sprint(i)), &quiet{})
				})
			}
			wg.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			for i := range publishers {
				checkImage(t, open(), k, fmt.Sprintf("images/test/%d/amd64.json", i), src[i])
			}
			c, _, err := push.Load(ctx, open(), k.Trust())
			if err != nil || c.Version() < 1+publishers {
				t.Errorf("catalog version %d, %v; want at least %d", c.Version(), err, 1+publishers)
			}
		})
	}
}

// Whoever finds a version taken goes on behind it, and not over what others have
// published since the catalog was read.
func TestNoUpdateIsLost(t *testing.T) {
	for _, kind := range []string{"directory", "server"} {
		t.Run(kind, func(t *testing.T) {
			ctx := context.Background()
			st := storeOf(t, kind)()
			k := initStore(t, st)
			add := func(id string) func(*push.Edition) error {
				return func(e *push.Edition) error {
					e.Menu.Entries = append(e.Menu.Entries, catalog.Entry{ID: id, Title: id, Action: catalog.ActionReboot})
					return nil
				}
			}
			// The others are faster, each time but the last.
			tries := 0
			if _, err := push.Publish(ctx, st, k, 0, func(e *push.Edition) error {
				if tries++; tries <= 3 {
					if _, err := push.Publish(ctx, st, k, 0, add(fmt.Sprint("other-", tries))); err != nil {
						return err
					}
				}
				return add("own")(e)
			}); err != nil {
				t.Fatal(err)
			}
			c, _, err := push.Load(ctx, st, k.Trust())
			if err != nil {
				t.Fatal(err)
			}
			m, err := c.Menu(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{"other-1", "other-2", "other-3", "own"} {
				if m.Find(id) == nil {
					t.Errorf("the entry %s is lost", id)
				}
			}
			if tries != 4 {
				t.Errorf("%d tries; want 4", tries)
			}
		})
	}
}

func TestFullStore(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	ctx := context.Background()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	st, k := newStore(t, dir)
	before, _, err := st.Load(ctx, storepath.Timestamp, tuf.MaxTimestamp)
	if err != nil {
		t.Fatal(err)
	}
	src, program := testtree.New(t, 1), testtree.Program(t)
	if _, err := push.Push(ctx, st, k, options(src, program, "1"), &quiet{}); !errors.Is(err, store.ErrFull) {
		t.Errorf("Push() to a full store = %v; want ErrFull", err)
	}
	if now, _, err := st.Load(ctx, storepath.Timestamp, tuf.MaxTimestamp); err != nil || !bytes.Equal(now, before) {
		t.Errorf("the catalog changed: %v", err)
	}
	// With room the same push goes on.
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	if _, err := push.Push(ctx, st, k, options(src, program, "1"), &quiet{}); err != nil {
		t.Fatalf("Push() with room = %v", err)
	}
	checkImage(t, st, k, target1, src)
}

func TestRefusals(t *testing.T) {
	ctx := context.Background()
	program := testtree.Program(t)
	st, k := newStore(t, t.TempDir())
	src := testtree.New(t, 1)
	arm := options(src, program, "1")
	arm.Arch = "arm64"
	noKernel := t.TempDir()
	testtree.Write(t, noKernel, "etc/x", []byte("x"))
	_, other := newStore(t, t.TempDir())
	empty, err := store.NewDir(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		st   store.Store
		k    *keys.Folder
		o    push.Options
		want error
	}{
		{"no kernel", st, k, options(noKernel, program, "1"), kernel.ErrNoKernel},
		{"no source", st, k, options(src+"/missing", program, "1"), source.ErrUnreadable},
		{"no tarball", st, k, options(filepath.Join(src, "etc/os-release"), program, "1"), source.ErrUnreadable},
		{"other architecture", st, k, arm, kernel.ErrArch},
		{"foreign key", st, other, options(src, program, "1"), catalog.ErrUnknownKey},
		{"no catalog", empty, k, options(src, program, "1"), push.ErrNoCatalog},
	} {
		if _, err := push.Push(ctx, tc.st, tc.k, tc.o, &quiet{}); !errors.Is(err, tc.want) {
			t.Errorf("%s: Push() = %v; want %v", tc.name, err, tc.want)
		}
	}
	if err := push.Init(ctx, st, k, push.InitOptions{Title: "again"}); !errors.Is(err, push.ErrHasCatalog) {
		t.Errorf("Init() of a store with a catalog = %v; want ErrHasCatalog", err)
	}
}

func TestLifetimes(t *testing.T) {
	ctx := context.Background()
	st, k := newStore(t, t.TempDir())
	nothing := func(*push.Edition) error { return nil }
	for _, tc := range []struct{ lifetime, want time.Duration }{{0, time.Hour}, {48 * time.Hour, 48 * time.Hour}, {0, time.Hour}} {
		if _, err := push.Publish(ctx, st, k, tc.lifetime, nothing); err != nil {
			t.Fatal(err)
		}
		c, _, err := push.Load(ctx, st, k.Trust())
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Until(c.Expires()); got > tc.want || got < tc.want-time.Minute {
			t.Errorf("Publish(lifetime %v): the catalog lasts %v; want %v", tc.lifetime, got, tc.want)
		}
	}
}

func TestEntryID(t *testing.T) {
	for _, tc := range []struct{ name, version, want string }{
		{"debian", "12", "debian-12"}, {"a.b", "1+2~3", "a.b-1+2~3"}, {strings.Repeat("n", 90), strings.Repeat("v", 90), strings.Repeat("n", 90) + "-" + strings.Repeat("v", 9)},
	} {
		got := push.EntryID(tc.name, tc.version)
		if got != tc.want || !storepath.ValidElement(got) {
			t.Errorf("EntryID(%q, %q) = %q; want %q", tc.name, tc.version, got, tc.want)
		}
	}
}

func TestMemory(t *testing.T) {
	if got, want := push.Memory(8<<20, 10<<20, 30<<20), int64(272<<20); got != want {
		t.Errorf("Memory() = %d; want %d", got, want)
	}
}

// An image of a filesystem gives the same root as the directory that it was
// made of; as it is, it is a root of one file.
func TestImages(t *testing.T) {
	ctx := context.Background()
	program := testtree.Program(t)
	src := testtree.New(t, 1)
	ext := filepath.Join(t.TempDir(), "ext4")
	sourcetest.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", src, ext, "64M")
	disk := filepath.Join(t.TempDir(), "disk.qcow2")
	sourcetest.Run(t, "qemu-img", "convert", "-c", "-O", "qcow2", ext, disk)
	squash := filepath.Join(t.TempDir(), "squashfs")
	sourcetest.Run(t, "mksquashfs", src, squash, "-quiet", "-no-progress")
	st, k := newStore(t, t.TempDir())
	from, err := push.Push(ctx, st, k, options(src, program, "dir"), &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	for n, image := range []string{ext, disk, squash} {
		o := options(image, program, fmt.Sprint("whole", n))
		o.AsIs = true
		res, err := push.Push(ctx, st, k, o, &quiet{})
		if err != nil {
			t.Fatal(err)
		}
		m := res.Manifest
		kind, size := "ext4", int64(64<<20)
		if image == squash {
			fi, err := os.Stat(squash)
			if err != nil {
				t.Fatal(err)
			}
			kind, size = "squashfs", fi.Size()
		}
		if m.Root.Type != kind || len(m.Root.Files) != 1 || m.Root.Files[0].Size != size {
			t.Errorf("%s as it is: root %+v; want one file of %d bytes of type %s", image, m.Root, size, kind)
		}
		o = options(image, program, fmt.Sprint("apart", n))
		if res, err = push.Push(ctx, st, k, o, &quiet{}); err != nil {
			t.Fatal(err)
		}
		if got, want := res.Manifest.Kernel, from.Manifest.Kernel; got != want {
			t.Errorf("%s: kernel %v; want %v", image, got, want)
		}
		if image == squash {
			continue // times have no fractions there
		}
		if got, want := res.Manifest.Root.Files[1].Stored, from.Manifest.Root.Files[1].Stored; got != want {
			t.Errorf("%s: %d bytes stored; want %d, as of the directory", image, got, want)
		}
	}
	changed := options(squash, program, "changed")
	changed.AsIs, changed.Reading.Exclude = true, []string{"/etc"}
	if _, err := push.Push(ctx, st, k, changed, &quiet{}); !errors.Is(err, source.ErrUnreadable) {
		t.Errorf("an image as it is without /etc: Push() = %v; want ErrUnreadable", err)
	}
	o := options(src, program, "no")
	o.AsIs = true
	if _, err := push.Push(ctx, st, k, o, &quiet{}); !errors.Is(err, source.ErrUnreadable) {
		t.Errorf("a directory as it is: Push() = %v; want ErrUnreadable", err)
	}
}
