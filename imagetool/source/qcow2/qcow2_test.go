package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/source/qcow2"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
)

// disk writes a raw disk with data, holes and repetition.
func disk(t testing.TB, size int) (name string, data []byte) {
	t.Helper()
	data = make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{9})
	for at := 0; at < size; at += 100_000 {
		part := data[at:min(at+100_000, size)]
		switch at / 100_000 % 3 {
		case 0:
			_, _ = rnd.Read(part)
		case 1:
			copy(part, strings.Repeat("compressible ", len(part)/13))
		}
	}
	name = filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return name, data
}

func open(t testing.TB, name string) (*qcow2.Image, error) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return qcow2.Open(f, fi.Size())
}

func TestSameDisk(t *testing.T) {
	raw, want := disk(t, 5_000_192)
	for _, args := range []string{
		"-o compat=0.10",
		"-o compat=1.1",
		"-c -o compat=0.10",
		"-c -o compression_type=zlib",
		"-c -o compression_type=zstd",
		"-o cluster_size=512",
		"-c -o cluster_size=2M,compression_type=zstd",
		"-c -o cluster_size=4k",
		"-o preallocation=metadata",
		"-o lazy_refcounts=on,refcount_bits=1",
	} {
		t.Run(args, func(t *testing.T) {
			image := filepath.Join(t.TempDir(), "disk.qcow2")
			sourcetest.Run(t, "qemu-img", append(append([]string{"convert", "-O", "qcow2"}, strings.Fields(args)...), raw, image)...)
			m, err := open(t, image)
			if err != nil {
				t.Fatal(err)
			}
			if m.Size() != int64(len(want)) {
				t.Fatalf("Size() = %d; want %d", m.Size(), len(want))
			}
			got, err := io.ReadAll(io.NewSectionReader(m, 0, m.Size()))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("the disk reads differently: %v", err)
			}
			rnd := rand.New(rand.NewPCG(1, 1))
			for range 200 {
				at := rnd.IntN(len(want))
				b := make([]byte, rnd.IntN(200_000))
				n, err := m.ReadAt(b, int64(at))
				if end := min(len(want), at+len(b)); n != end-at || !bytes.Equal(b[:n], want[at:end]) || (err != nil) != (n < len(b)) {
					t.Fatalf("ReadAt(%d bytes, %d) = %d, %v", len(b), at, n, err)
				}
			}
			if n, err := m.ReadAt(make([]byte, 1), m.Size()); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("ReadAt behind the end = %d, %v; want 0, EOF", n, err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	raw, _ := disk(t, 300_032)
	dir := t.TempDir()
	make := func(name string, args ...string) string {
		p := filepath.Join(dir, name)
		sourcetest.Run(t, "qemu-img", append(append([]string{}, args...), p)...)
		return p
	}
	base := make("base", "convert", "-O", "qcow2", raw)
	for _, tc := range []struct {
		name, image string
		want        error
		text        string
	}{
		{"backing file", make("child", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2"), qcow2.ErrUnsupported, "backing file"},
		{"extended L2", make("ext", "convert", "-O", "qcow2", "-o", "extended_l2=on", raw), qcow2.ErrUnsupported, "extended L2"},
		{"data file", make("df", "convert", "-O", "qcow2", "-o", "data_file="+filepath.Join(dir, "data"), raw), qcow2.ErrUnsupported, "another file"},
		{"raw", raw, qcow2.ErrFormat, ""},
	} {
		if _, err := open(t, tc.image); !errors.Is(err, tc.want) || !strings.Contains(fmt.Sprint(err), tc.text) {
			t.Errorf("%s: Open() = %v; want %v with %q", tc.name, err, tc.want, tc.text)
		}
	}
	good, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	for _, tc := range []struct {
		name   string
		change func(h []byte)
		want   error
	}{
		{"version", func(h []byte) { be.PutUint32(h[4:], 1) }, qcow2.ErrUnsupported},
		{"encrypted", func(h []byte) { be.PutUint32(h[32:], 2) }, qcow2.ErrUnsupported},
		{"corrupt", func(h []byte) { h[79] |= 2 }, qcow2.ErrDamaged},
		{"unknown feature", func(h []byte) { h[72] = 0x80 }, qcow2.ErrUnsupported},
		{"cluster size", func(h []byte) { be.PutUint32(h[20:], 40) }, qcow2.ErrDamaged},
		{"huge disk", func(h []byte) { be.PutUint64(h[24:], 1<<62) }, qcow2.ErrDamaged},
		{"large disk, small table", func(h []byte) { be.PutUint64(h[24:], 1<<45) }, qcow2.ErrDamaged},
		{"table outside", func(h []byte) { be.PutUint64(h[40:], 1<<50) }, qcow2.ErrDamaged},
	} {
		b := bytes.Clone(good)
		tc.change(b)
		if _, err := qcow2.Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, tc.want) {
			t.Errorf("%s: Open() = %v; want %v", tc.name, err, tc.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	raw, _ := disk(f, 20_480)
	for _, args := range []string{"-c", "-c -o compression_type=zstd", "-o compat=0.10"} {
		image := filepath.Join(f.TempDir(), "disk.qcow2")
		sourcetest.Run(f, "qemu-img", append(append([]string{"convert", "-O", "qcow2"}, strings.Fields(args+" -o cluster_size=512")...), raw, image)...)
		b, err := os.ReadFile(image)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := qcow2.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		buf := make([]byte, 64<<10)
		for _, at := range []int64{0, 700, m.Size() / 2, m.Size() - 10} {
			n, err := m.ReadAt(buf, max(at, 0))
			if n < len(buf) && err == nil {
				t.Errorf("ReadAt(%d) = %d without an error", at, n)
			}
		}
	})
}
