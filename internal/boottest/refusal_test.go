package boottest

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/debianroot"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/testbed"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// store gives access to the files of a bed's store.
type store struct {
	bed  *testbed.Bed
	man  *catalog.Manifest
	path string // of the manifest
}

func openStore(t *testing.T, bed *testbed.Bed) *store {
	t.Helper()
	m, path, err := bed.Manifest(t.Context(), "debian", debianroot.Version)
	if err != nil {
		t.Fatal(err)
	}
	return &store{bed: bed, man: m, path: path}
}

func (s *store) read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.bed.Store(), path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *store) write(t *testing.T, path string, data []byte) {
	t.Helper()
	file := filepath.Join(s.bed.Store(), path)
	if err := os.WriteFile(file+".new", data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// flip returns data with one bit of the byte at half its length changed.
func flip(data []byte) []byte {
	out := bytes.Clone(data)
	out[len(out)/2] ^= 1
	return out
}

// metaBlock returns the path of the first stored block of the root's meta
// file, which every boot reads.
func (s *store) metaBlock(t *testing.T) string {
	t.Helper()
	for _, f := range s.man.Root.Files {
		if f.Name == "meta" {
			x, err := index.Parse(s.read(t, storepath.Index(f.Index.SHA256)))
			if err != nil {
				t.Fatal(err)
			}
			for i := range x.Len() {
				if e := x.Entry(i); !e.Zero() {
					return storepath.Block(e.SHA256)
				}
			}
		}
	}
	t.Fatal("the root has no file meta with a stored block")
	return ""
}

// TestRefusal changes the store under a running machine: every change must be
// named on the console, nothing of it may boot, and the menu stays usable.
func TestRefusal(t *testing.T) {
	t.Parallel()
	bed, _ := newBed(t)
	s := openStore(t, bed)

	t.Run("artefacts", func(t *testing.T) {
		vm := vmtest.StartT(t, vmtest.Config{CD: bed.ISO, VGA: true, NoReboot: true, NICs: []vmtest.NIC{{}}})
		vm.ExpectT(t, 600, `inetboot: menu ready`)
		for _, tt := range []struct {
			what, path, key, want string
			change                func([]byte) []byte
		}{
			{"kernel", storepath.File(s.man.Kernel.SHA256), "1\r", `inetboot: refused: kernel: .*SHA-256`, flip},
			{"initrd", storepath.File(s.man.Initrd.SHA256), "1\r", `inetboot: refused: initrd: .*SHA-256`, flip},
			{"index", storepath.Index(s.man.Root.Files[0].Index.SHA256), "1\r", `inetboot: refused: index ` + s.man.Root.Files[0].Name + `: .*SHA-256`, flip},
			{"manifest", s.path, "1\r", `inetboot: refused: manifest: .*SHA-256`, flip},
			{"catalog", storepath.Timestamp, "\x12", `inetboot: refused: catalog: .*changed after signing.*signature is wrong`, changeCatalog(t)},
			{"expired catalog", storepath.Timestamp, "\x12", `inetboot: refused: catalog: .*expired at .* clock says`, expire(t, bed)},
			{"unknown key", storepath.Timestamp, "\x12", `inetboot: refused: catalog: .*not signed by a trusted key`, foreign(t, bed)},
		} {
			good := s.read(t, tt.path)
			bad := tt.change(good)
			if cmp.Equal(good, bad) {
				t.Fatalf("%s: nothing was changed", tt.what)
			}
			s.write(t, tt.path, bad)
			t.Cleanup(func() { s.write(t, tt.path, good) })
			vm.SendT(t, tt.key)
			m := vm.ExpectT(t, 600, tt.want)
			t.Logf("%s: %s", tt.what, strings.TrimSpace(m[0]))
			if tt.what == "expired catalog" {
				// The machine has seen that it was the newest one: only a newer
				// one will do.
				if err := bed.Imagetool(t.Context(), "refresh", "--expires", "24h"); err != nil {
					t.Fatal(err)
				}
			} else {
				s.write(t, tt.path, good)
			}
			// What can be done is offered; the menu is drawn again and still works.
			vm.ExpectT(t, 600, `(?s)Try again.*Enter: choose`)
			vm.SendT(t, "\x1b")
			vm.ExpectT(t, 600, `(?s)Switch off.*Enter: start`)
			vm.SendT(t, "\x12")
			vm.ExpectT(t, 600, `inetboot: menu ready`)
		}
		if strings.Contains(vm.Text(), "inetboot: leaving for") {
			t.Error("something was booted")
		}
		// With everything in order again the same machine boots.
		vm.SendT(t, "1\r")
		vm.ExpectT(t, 600, `inetboot: leaving for debian-12`)
	})

	t.Run("catalog at the start", func(t *testing.T) {
		good := s.read(t, storepath.Timestamp)
		s.write(t, storepath.Timestamp, changeCatalog(t)(good))
		defer s.write(t, storepath.Timestamp, good)
		vm := vmtest.StartT(t, vmtest.Config{CD: bed.ISO, VGA: true, NoReboot: true, NICs: []vmtest.NIC{{Model: "e1000"}}})
		vm.ExpectT(t, 600, `inetboot: refused: catalog: .*signature is wrong`)
		vm.ExpectT(t, 600, `Try again`)
		s.write(t, storepath.Timestamp, good)
		vm.SendT(t, "1\r")
		vm.ExpectT(t, 600, `inetboot: menu ready`)
	})

	// A machine that meets a wrong block starts nothing, restarts, and is back
	// at the menu. Once the block is right it boots.
	t.Run("blocks", func(t *testing.T) {
		path := s.metaBlock(t)
		good := s.read(t, path)
		defer s.write(t, path, good)
		vm := vmtest.StartT(t, vmtest.Config{CD: bed.ISO, VGA: true, NICs: []vmtest.NIC{{}}})
		for _, tt := range []struct {
			name  string
			wrong []byte
		}{
			{"changed", flip(good)},
			{"truncated", good[:len(good)*2/3]},
		} {
			s.write(t, path, tt.wrong)
			vm.ExpectT(t, 600, `inetboot: menu ready`)
			vm.SendT(t, "1\r")
			vm.ExpectT(t, 600, `inetboot: leaving for debian-12`)
			m := vm.ExpectT(t, 600, `inetboot: .*`+filepath.Base(path)[:12]+`.*`)
			t.Logf("%s: %s", tt.name, m[0])
		}
		s.write(t, path, good)
		vm.ExpectT(t, 600, `inetboot: menu ready`)
		if m := regexp.MustCompile(`inetboot: starting /sbin/init|login: `).FindString(vm.Text()); m != "" {
			t.Errorf("the target started with a wrong block: %s", m)
		}
		vm.SendT(t, "1\r")
		vm.ExpectT(t, 600, `login: `)
	})
}

// changeCatalog changes one digit of a version in the timestamp.
func changeCatalog(t *testing.T) func([]byte) []byte {
	return func(good []byte) []byte {
		i := bytes.Index(good, []byte(`"version":`))
		if i < 0 {
			t.Fatal("the catalog has no version")
		}
		out := bytes.Clone(good)
		out[i+len(`"version":`)] ^= 1
		return out
	}
}

// expire returns a timestamp that leads to a list of targets by the publisher
// that has expired.
func expire(t *testing.T, bed *testbed.Bed) func([]byte) []byte {
	return func([]byte) []byte {
		if err := bed.Imagetool(t.Context(), "refresh", "--expires", "1s"); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(bed.Store(), storepath.Timestamp))
		if err != nil {
			t.Fatal(err)
		}
		c, err := bed.Catalog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// An emulated machine's clock may be some seconds behind.
		time.Sleep(time.Until(c.Expires().Add(5 * time.Second)))
		return b
	}
}

// foreign returns a timestamp by somebody else.
func foreign(t *testing.T, bed *testbed.Bed) func([]byte) []byte {
	return func([]byte) []byte {
		dir := t.TempDir()
		other := filepath.Join(dir, "store")
		if err := bed.ImagetoolAs(t.Context(), filepath.Join(dir, "config"), "init", "--to", other, "--keys", filepath.Join(dir, "keys"), "--no-passphrase"); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(other, storepath.Timestamp))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}
