package boots

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/server/store/storetest"
)

type fixture struct {
	*Keeper
	pub  *storetest.Publisher
	base string
	img  *storetest.Image
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{base: t.TempDir()}
	f.pub = storetest.New(t, f.base)
	f.img = f.pub.Add(t, "debian")
	f.open(t)
	return f
}

// open starts a keeper on the folder, as the next process would.
func (f *fixture) open(t *testing.T) {
	t.Helper()
	k, err := Open(Options{Dir: filepath.Join(f.base, "boots"), Store: f.pub.Dir, Log: storetest.Silent(), Delay: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	f.Keeper = k
}

// settle does what Run does, until nothing is left.
func (f *fixture) settle(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	clear(f.rest)
	f.mu.Unlock()
	f.pass(t.Context())
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.dirty) > 0 {
		t.Errorf("%d images are still to be looked at", len(f.dirty))
	}
}

func report(img *storetest.Image, client int, blocks ...int) *pack.Report {
	r := &pack.Report{
		Format: pack.Format, BootID: fmt.Sprintf("%032x", client), Client: storetest.Client(client),
		Image: handoff.Image{Name: "debian", Version: "1", Arch: "amd64", Manifest: img.Manifest},
		Files: []string{"meta", "data"}, Stages: []handoff.Stage{{Name: "dhcp", Unix: 1000}, {Name: "root", Unix: 3500}, {Name: "quiet", Unix: 9000}},
	}
	for i, b := range blocks {
		r.Trace = append(r.Trace, pack.Access{File: b / 1000, Block: b % 1000, MS: i})
	}
	return r
}

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

func (f *fixture) add(t *testing.T, from netip.Addr, r *pack.Report) error {
	t.Helper()
	data, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return f.Add(t.Context(), from, data)
}

func (f *fixture) mustAdd(t *testing.T, from netip.Addr, r *pack.Report) {
	t.Helper()
	if err := f.add(t, from, r); err != nil {
		t.Fatal(err)
	}
}

// pack returns the bytes of the image's pack, nil if there is none.
func (f *fixture) pack(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(f.base, "store", storepath.Pack(f.img.Manifest)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return data
}

// want returns the pack that reports give.
func (f *fixture) want(t *testing.T, reports ...*pack.Report) []byte {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "pack"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := pack.Build(t.Context(), out, f.img.Manifest, pack.Merge(f.img.Root, reports, 0).Blocks, f.pub.Dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (f *fixture) files(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(f.base, "boots", "*", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestPackFromReports(t *testing.T) {
	f := newFixture(t)
	f.settle(t)
	if f.pack(t) != nil {
		t.Error("there is a pack without a report")
	}
	one, two, three := report(f.img, 1, 3, 1, 1007, 2), report(f.img, 2, 3, 1007, 1, 9), report(f.img, 3, 3, 1007, 1, 9)
	f.mustAdd(t, addr(1), one)
	f.settle(t)
	first := f.pack(t)
	if !bytes.Equal(first, f.want(t, one)) {
		t.Error("the pack after one report is not the one that it gives")
	}
	f.mustAdd(t, addr(2), two)
	f.mustAdd(t, addr(3), three)
	f.settle(t)
	second := f.pack(t)
	if !bytes.Equal(second, f.want(t, one, two, three)) || bytes.Equal(first, second) {
		t.Error("the pack after three reports is not the one that they give")
	}
	before, err := f.store.StatPack(f.img.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	f.mustAdd(t, addr(3), three)
	f.settle(t)
	if after, err := f.store.StatPack(f.img.Manifest); err != nil || !os.SameFile(before, after) {
		t.Errorf("a report that changes nothing replaced the pack (%v)", err)
	}
	s, err := f.Summary(f.img.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Reports) != 3 || s.Newest.Client != three.Client || s.Newest.Seconds != 8 || len(s.Newest.Steps) != 2 || s.Pack.Bytes != int64(len(second)) || s.Pack.Publisher {
		t.Errorf("Summary = %+v, newest %+v, pack %+v", s, s.Newest, s.Pack)
	}
	left, err := os.ReadDir(filepath.Join(f.base, "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if e.Name() != "unsynced" {
			t.Errorf("left over: %s", e.Name())
		}
	}
}

func TestRun(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				if err := f.add(t, addr(i), report(f.img, i, j, i+20, 1001)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	want := report(f.img, 0, 1, 2)
	deadline := time.Now().Add(20 * time.Second)
	for {
		for i := range 8 {
			f.mustAdd(t, addr(i), report(f.img, i, 1, 2))
		}
		if bytes.Equal(f.pack(t), f.want(t, want)) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the pack was not built in 20 s")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestAddRefuses(t *testing.T) {
	f := newFixture(t)
	other := f.pub.Add(t, "other")
	change := func(c func(*pack.Report)) *pack.Report { r := report(f.img, 1, 1, 2); c(r); return r }
	for name, r := range map[string]*pack.Report{
		"unknown manifest":        change(func(r *pack.Report) { r.Image.Manifest = digest.Of(nil) }),
		"manifest of another":     change(func(r *pack.Report) { r.Image.Manifest = other.Manifest }),
		"other version":           change(func(r *pack.Report) { r.Image.Version = "2" }),
		"other files":             change(func(r *pack.Report) { r.Files = []string{"data", "meta"} }),
		"one file":                change(func(r *pack.Report) { r.Files, r.Trace = r.Files[:1], nil }),
		"block that is not there": report(f.img, 1, 1, storetest.Blocks),
	} {
		if err := f.add(t, addr(1), r); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: Add = %v; want ErrUnknown", name, err)
		}
	}
	for _, garbage := range []string{"", "{", "null", `{"format":"inetboot-boot/1"}`, string(make([]byte, pack.MaxReport+1))} {
		if err := f.Add(t.Context(), addr(1), []byte(garbage)); !errors.Is(err, pack.ErrReport) {
			t.Errorf("Add(%.20q) = %v; want ErrReport", garbage, err)
		}
	}
	if files := f.files(t); len(files) != 0 {
		t.Errorf("refused reports are kept: %v", files)
	}
	f.settle(t)
	if f.pack(t) != nil {
		t.Error("refused reports gave a pack")
	}
}

func TestReportsAreBounded(t *testing.T) {
	f := newFixture(t)
	for i := range 50 {
		f.mustAdd(t, addr(1), report(f.img, i, 1, 2))
		if n := len(f.files(t)); n > MaxShare {
			t.Fatalf("%d reports of one address are kept; want %d", n, MaxShare)
		}
	}
	for i := range 50 {
		f.mustAdd(t, addr(i), report(f.img, i, 1, 2))
		if n := len(f.files(t)); n > MaxReports {
			t.Fatalf("%d reports are kept; want %d", n, MaxReports)
		}
	}
	for range 3 { // the same client again and again
		f.mustAdd(t, addr(49), report(f.img, 49, 3, 4))
	}
	if n, m := len(f.files(t)), len(f.kept[f.img.Manifest]); n != MaxReports || m != MaxReports {
		t.Errorf("%d files for %d reports; want %d", n, m, MaxReports)
	}

	for m := range MaxImages - 1 {
		f.kept[digest.Of([]byte{byte(m)})] = []kept{{received: time.Now()}}
	}
	more := f.pub.Add(t, "more")
	r := report(more, 1, 1)
	r.Image.Name = "more"
	if err := f.add(t, addr(1), r); !errors.Is(err, ErrBusy) {
		t.Errorf("a report of one image too many = %v; want ErrBusy", err)
	}
	old := digest.Of([]byte{5})
	f.kept[old] = []kept{{received: time.Now().Add(-8 * 24 * time.Hour)}}
	if err := f.add(t, addr(1), r); err != nil {
		t.Errorf("a report with an image that had none for long = %v; want nil", err)
	}
	if _, ok := f.kept[old]; ok || len(f.kept) != MaxImages {
		t.Errorf("%d images are kept; want %d without the oldest", len(f.kept), MaxImages)
	}
}

// One machine that lies as much as it can, under as many names as it likes,
// leaves the pack as it is when the others tell the truth.
func TestLiar(t *testing.T) {
	f := newFixture(t)
	good := []int{5, 4, 3, 1001, 1002}
	for i := range 5 {
		f.mustAdd(t, addr(i), report(f.img, i, good...))
	}
	f.settle(t)
	want := f.want(t, report(f.img, 0, good...))
	if !bytes.Equal(f.pack(t), want) {
		t.Fatal("the pack is not the one that five equal reports give")
	}
	for i := range 200 {
		lie := report(f.img, i%40, 30, 31, 32, 1033) // also under the others' names
		if i%2 == 0 {
			lie.Trace = nil
		}
		f.mustAdd(t, addr(77), lie)
		if i%20 == 0 {
			f.settle(t)
		}
	}
	f.settle(t)
	if !bytes.Equal(f.pack(t), want) {
		t.Error("a single machine has changed the pack against five others")
	}
	// Reports without a trace are no reason to remove a pack.
	f2 := newFixture(t)
	f2.mustAdd(t, addr(1), report(f2.img, 1, good...))
	f2.settle(t)
	f2.mustAdd(t, addr(1), report(f2.img, 1))
	f2.settle(t)
	if f2.pack(t) == nil {
		t.Error("an empty report has removed the pack")
	}
}

func TestPublishersPackStays(t *testing.T) {
	f := newFixture(t)
	f.mustAdd(t, addr(1), report(f.img, 1, 1, 2))
	f.settle(t)
	mine := f.want(t, report(f.img, 0, 7, 8, 9))
	if created, err := f.PutPack(t.Context(), f.img.Manifest, bytes.NewReader(mine)); err != nil || created {
		t.Fatalf("PutPack = %v, %v; want false, nil", created, err)
	}
	f.mustAdd(t, addr(2), report(f.img, 2, 1, 3))
	f.settle(t)
	if !bytes.Equal(f.pack(t), mine) {
		t.Error("a report has replaced a publisher's pack")
	}
	if s, err := f.Summary(f.img.Manifest); err != nil || !s.Pack.Publisher {
		t.Errorf("Summary = %+v, %v; want a publisher's pack", s.Pack, err)
	}
	for name, bad := range map[string][]byte{"garbage": []byte("garbage"), "truncated": mine[:len(mine)-1], "nothing": nil} {
		if _, err := f.PutPack(t.Context(), f.img.Manifest, bytes.NewReader(bad)); err == nil {
			t.Errorf("PutPack of %s = nil; want an error", name)
		}
	}
	if _, err := f.PutPack(t.Context(), digest.Of(nil), bytes.NewReader(mine)); err == nil {
		t.Error("PutPack of the pack of another manifest = nil; want an error")
	}
	if !bytes.Equal(f.pack(t), mine) {
		t.Error("a bad pack has replaced a good one")
	}
	if err := f.RemovePack(f.img.Manifest); err != nil {
		t.Fatal(err)
	}
	if err := f.RemovePack(f.img.Manifest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("RemovePack of nothing = %v; want fs.ErrNotExist", err)
	}
	f.mustAdd(t, addr(2), report(f.img, 2, 1, 3))
	f.settle(t)
	if !bytes.Equal(f.pack(t), f.want(t, report(f.img, 1, 1, 2), report(f.img, 2, 1, 3))) {
		t.Error("after the publisher's pack was removed, a report does not give the next one")
	}
}

func TestOldImagesGo(t *testing.T) {
	f := newFixture(t)
	f.mustAdd(t, addr(1), report(f.img, 1, 1, 2))
	f.settle(t)
	if f.pack(t) == nil {
		t.Fatal("no pack")
	}
	f.pub.Remove(t, f.img)
	f.settle(t)
	if _, err := os.Stat(f.reports.of(f.img.Manifest)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the reports of an image that is not listed are still there: %v", err)
	}
	if f.pack(t) != nil {
		t.Error("the pack of an image that is not listed is still there")
	}
	if err := f.add(t, addr(1), report(f.img, 1, 1, 2)); !errors.Is(err, ErrUnknown) {
		t.Errorf("Add for an image that is not listed = %v; want ErrUnknown", err)
	}
}

func TestNextStart(t *testing.T) {
	f := newFixture(t)
	var reports []*pack.Report
	for i := range 3 {
		r := report(f.img, i, 1, 2, i+10)
		reports = append(reports, r)
		f.mustAdd(t, netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::17", i)), r)
	}
	before := f.kept[f.img.Manifest]
	// A crash left these.
	dir := f.reports.of(f.img.Manifest)
	for name, data := range map[string]string{".new-123": "x", storetest.Client(9)[:0] + "52-54-00-00-00-09_10.0.0.9.json": "{", "README": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f.open(t)
	after := f.kept[f.img.Manifest]
	if len(after) != len(before)+1 {
		t.Fatalf("%d reports after the start; want %d and the damaged one", len(after), len(before))
	}
	for i, b := range before {
		if a := after[i]; a.client != b.client || a.from != b.from || a.file != b.file {
			t.Errorf("report %d = %+v; want %+v", i, a, b)
		}
	}
	f.settle(t)
	if !bytes.Equal(f.pack(t), f.want(t, reports...)) {
		t.Error("the reports from before the start do not give their pack")
	}
	if _, err := os.Stat(filepath.Join(dir, ".new-123")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("an unfinished file is still there")
	}
	if n := len(f.files(t)); n != 3 {
		t.Errorf("%d reports; want 3 without the damaged one", n)
	}
}

// A crash between the two steps in which a pack gets into its place leaves
// one that the next start knows as its own, and replaces.
func TestCrashWhilePlacing(t *testing.T) {
	f := newFixture(t)
	f.mustAdd(t, addr(1), report(f.img, 1, 1, 2))
	f.settle(t)
	old := f.pack(t)
	f.mustAdd(t, addr(1), report(f.img, 1, 5, 6))
	f.settle(t)
	want := f.pack(t)
	for _, tt := range []struct {
		name string
		data []byte
	}{{"the old one", old}, {"none", nil}, {"half of it", want[:len(want)/2]}} {
		file := filepath.Join(f.base, "store", storepath.Pack(f.img.Manifest))
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if tt.data != nil {
			if err := os.WriteFile(file, tt.data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		f.open(t)
		f.settle(t)
		if !bytes.Equal(f.pack(t), want) {
			t.Errorf("%s after a crash: the pack is not built again", tt.name)
		}
	}
}

func TestNeighbourhood(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.7": "10.0.0.7", "::ffff:10.0.0.7": "10.0.0.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::", "::1": "::",
	} {
		if got := Neighbourhood(netip.MustParseAddr(in)); got != want {
			t.Errorf("Neighbourhood(%s) = %s; want %s", in, got, want)
		}
		if got := address(fileName("", want)[1 : len(fileName("", want))-len(".json")]); got != want {
			t.Errorf("the address %s becomes %s on its way through a file's name", want, got)
		}
	}
}

// The disk is full, or the folder cannot be written: nothing is half there.
func TestNowhereToKeep(t *testing.T) {
	f := newFixture(t)
	if err := os.WriteFile(filepath.Join(f.base, "boots"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := f.add(t, addr(1), report(f.img, 1, 1)); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("Add without a folder = %v; want an error about the disk", err)
	}
	if len(f.kept[f.img.Manifest]) != 0 {
		t.Error("a report that could not be written counts")
	}
}
