package swap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func client(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

// Files are allocated in full, keep their contents and size, and make room only
// when nobody has used them for long.
func TestFiles(t *testing.T) {
	const size = 1 << 20
	s := &Files{Dir: filepath.Join(t.TempDir(), "swap"), Quota: 2*size + 5000, Keep: time.Hour}
	open := func(n byte, want int64) *File {
		t.Helper()
		f, err := s.Open(t.Context(), client(n), want)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	one := open(1, size)
	path := filepath.Join(s.Dir, "02-00-00-00-00-01.swap")
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st := fi.Sys().(*syscall.Stat_t); st.Blocks*512 < size || fi.Mode() != 0o600 {
		t.Errorf("the file has %d bytes allocated and mode %s; want %d, -rw-------", st.Blocks*512, fi.Mode(), size)
	}
	if _, err := one.WriteAt([]byte("kept"), size-4); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{-1, size - 3, size} {
		if _, err := one.WriteAt([]byte("over"), off); err == nil {
			t.Errorf("writing at %d, over the end of %d, is no error", off, size)
		}
	}
	again := open(1, 2*size)
	got := make([]byte, 4)
	if _, err := again.ReadAt(t.Context(), got, size-4); err != nil || string(got) != "kept" || again.Size() != size {
		t.Errorf("opened again: %q, %d bytes, %v", got, again.Size(), err)
	}
	two := open(2, size)
	if _, err := s.Open(t.Context(), client(3), size); !errors.Is(err, ErrFull) {
		t.Errorf("beyond the quota: %v; want ErrFull", err)
	}
	// Old, but in use; then old and not.
	long := time.Now().Add(-2 * time.Hour)
	other := filepath.Join(s.Dir, "02-00-00-00-00-02.swap")
	if err := errors.Join(two.Close(), two.Close(), os.Chtimes(path, long, long)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), client(3), size); !errors.Is(err, ErrFull) {
		t.Errorf("files in use, and one just left, make room: %v", err)
	}
	if err := os.Chtimes(other, long, long); err != nil {
		t.Fatal(err)
	}
	open(3, size)
	if _, err := os.Stat(other); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what made room is there: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("what is in use made room: %v", err)
	}
	// What is no file of ours is not opened.
	if err := os.Symlink("/etc/passwd", filepath.Join(s.Dir, "02-00-00-00-00-04.swap")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), client(4), size); err == nil {
		t.Error("a symbolic link is followed")
	}
}

func TestNeighbour(t *testing.T) {
	for _, a := range []string{"192.0.2.77", "2001:db8::77"} {
		if mac, err := Neighbour(context.Background(), netip.MustParseAddr(a)); !errors.Is(err, ErrNotOnLAN) {
			t.Errorf("Neighbour(%s) = %s, %v; want ErrNotOnLAN", a, mac, err)
		}
	}
}
