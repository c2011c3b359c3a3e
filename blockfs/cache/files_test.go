package cache

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/faultdisk"
	"github.com/inetboot/inetboot/internal/storepath"
)

// putFile stores content under its hash and returns its path in the store.
func putFile(t testing.TB, c *Cache, content []byte) string {
	t.Helper()
	p := storepath.File(digest.Of(content))
	if err := c.PutFile(t.Context(), p, int64(len(content)), bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return p
}

func checkFile(t testing.TB, c *Cache, p string, want []byte) {
	t.Helper()
	f, size, err := c.OpenFile(p)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) || size != int64(len(want)) || !c.HasFile(p, size) {
		t.Errorf("%s has %d bytes, size %d, %v; want %d bytes", p, len(got), size, err, len(want))
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{})
	kernel, catalog, menu := fixedBlock(1, 3*mib+17), []byte("catalog 1"), []byte("{}")
	kp := putFile(t, c, kernel)
	for _, content := range [][]byte{catalog, []byte("catalog, version 2")} {
		if err := c.PutFile(t.Context(), storepath.Timestamp, int64(len(content)), bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		checkFile(t, c, storepath.Timestamp, content)
	}
	mp := storepath.Target("images/debian/12/amd64.json", digest.Of(menu))
	if err := c.PutFile(t.Context(), mp, int64(len(menu)), bytes.NewReader(menu)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		checkFile(t, c, kp, kernel)
		checkFile(t, c, mp, menu)
		checkFile(t, c, storepath.Timestamp, []byte("catalog, version 2"))
		if s := c.Stats(); s.Files != 3 || s.FileSize != diskUse(t, filepath.Join(dir, "store")) {
			t.Errorf("%+v; the folder has %d bytes", s, diskUse(t, filepath.Join(dir, "store")))
		}
		mustClose(t, c)
		c = mustOpen(t, dir, Options{})
	}
	// It is as in a store: what reads a store reads this.
	if b, err := os.ReadFile(filepath.Join(dir, "store", filepath.FromSlash(kp))); err != nil || !bytes.Equal(b, kernel) {
		t.Errorf("the file in the folder: %v", err)
	}
	if err := c.RemoveFile(t.Context(), kp); err != nil {
		t.Error(err)
	}
	if _, _, err := c.OpenFile(kp); !errors.Is(err, ErrNotCached) || c.HasFile(kp, int64(len(kernel))) {
		t.Errorf("after RemoveFile: %v", err)
	}
}

func TestPutFileRefuses(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{Quota: 16 * mib})
	good := []byte("good")
	p := storepath.File(digest.Of(good))
	broken := errors.New("line broken")
	for _, tt := range []struct {
		name, path string
		size       int64
		r          io.Reader
		want       error
	}{
		{"other content", p, 3, bytes.NewReader([]byte("bad")), digest.ErrMismatch},
		{"short", p, 4, bytes.NewReader(good[:2]), io.ErrUnexpectedEOF},
		{"broken", p, 4, io.MultiReader(bytes.NewReader(good[:2]), iotest.ErrReader(broken)), broken},
		{"too large", p, 15 * mib, bytes.NewReader(good), ErrNoRoom},
		{"outside", "../x", 4, bytes.NewReader(good), fs.ErrInvalid},
		{"a block", storepath.Block(digest.Of(good)), 4, bytes.NewReader(good), fs.ErrInvalid},
	} {
		if err := c.PutFile(t.Context(), tt.path, tt.size, tt.r); !errors.Is(err, tt.want) {
			t.Errorf("%s: PutFile = %v; want %v", tt.name, err, tt.want)
		}
	}
	if s := c.Stats(); s.Files != 0 || s.FileSize != 0 || s.State != StateOK || diskUse(t, filepath.Join(dir, "store")) != 0 {
		t.Errorf("%+v; the folder has %d bytes", s, diskUse(t, filepath.Join(dir, "store")))
	}
}

// Files count towards the quota; those that nobody needs any more make room,
// those that are kept do not.
func TestFilesMakeRoom(t *testing.T) {
	dir := t.TempDir()
	const quota = 48 * mib
	c := mustOpen(t, dir, Options{Quota: quota})
	for i := range 300 {
		put(t, c, fixedBlock(i, 100_000), false)
	}
	flush(t, c)
	var paths []string
	for i := range 4 {
		paths = append(paths, putFile(t, c, fixedBlock(10_000+i, 8*mib)))
		if use := diskUse(t, dir); use > quota {
			t.Errorf("after file %d the folder takes %d bytes, quota %d", i, use, quota)
		}
	}
	if s := c.Stats(); s.Files != 4 || s.Evicted == 0 {
		t.Errorf("%+v", s)
	}
	mustClose(t, c)
	for i, p := range paths { // a different age for each
		at := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, "store", p), at, at); err != nil {
			t.Fatal(err)
		}
	}
	c = mustOpen(t, dir, Options{Quota: quota})
	for i := 1000; i < 1200; i++ { // before Keep no file goes
		put(t, c, fixedBlock(i, 100_000), false)
	}
	flush(t, c)
	if s := c.Stats(); s.Files != 4 {
		t.Errorf("files went before Keep was called: %+v", s)
	}
	c.Keep(paths[0], paths[3])
	for i := 2000; i < 2400; i++ {
		put(t, c, fixedBlock(i, 100_000), false)
	}
	flush(t, c)
	for i, want := range []bool{true, false, false, true} {
		if c.HasFile(paths[i], 8*mib) != want {
			t.Errorf("file %d is there: %v; want %v", i, !want, want)
		}
	}
	if use := diskUse(t, dir); use > quota {
		t.Errorf("the folder takes %d bytes, quota %d", use, quota)
	}
}

// What was left unfinished is gone after the next opening, whatever was
// written to the folder by others is not touched.
func TestUnfinishedFile(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir, Options{}))
	part := filepath.Join(dir, "store", "files", digest.Of(nil).String()+partSuffix)
	foreign := filepath.Join(dir, "store", "files", "README")
	if err := errors.Join(os.MkdirAll(filepath.Dir(part), 0o700), os.WriteFile(part, []byte("x"), 0o600), os.WriteFile(foreign, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	c := mustOpen(t, dir, Options{})
	if _, err := os.Stat(part); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the unfinished file: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Files != 0 {
		t.Errorf("%+v", s)
	}
}

// A disk that fails while a file is written fails the call, and leaves nothing.
func TestPutFileOnFailingDisk(t *testing.T) {
	folder := t.TempDir()
	d := faultdisk.New(t, folder)
	c := mustOpen(t, d.Dir, Options{})
	content := fixedBlock(1, 2*mib)
	p := storepath.File(digest.Of(content))
	r := io.MultiReader(bytes.NewReader(content[:mib]), readerFunc(func([]byte) (int, error) {
		d.FailWrites(syscall.EIO)
		return 0, io.EOF
	}), bytes.NewReader(content[mib:]))
	if err := c.PutFile(t.Context(), p, int64(len(content)), r); !errors.Is(err, syscall.EIO) {
		t.Errorf("PutFile = %v; want EIO", err)
	}
	if s := c.Stats(); s.State != StateReadOnly || s.Files != 0 || s.FileSize != 0 {
		t.Errorf("%+v", s)
	}
	if err := c.PutFile(t.Context(), p, int64(len(content)), bytes.NewReader(content)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("PutFile after that = %v; want ErrReadOnly", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
