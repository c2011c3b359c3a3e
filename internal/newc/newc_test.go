package newc

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"
)

var records = []Record{
	{Name: "inetboot", Perm: 0o755, Dir: true},
	{Name: "inetboot/odd", Perm: 0o644, Data: []byte("12345")},
	{Name: "inetboot/empty", Perm: 0o600},
	{Name: "inetboot/even", Perm: 0o600, Data: bytes.Repeat([]byte{7}, 4096)},
}

// u-root's package reads and writes the same format.
func TestArchiveIsWhatCPIOPackageWrites(t *testing.T) {
	var want bytes.Buffer
	w := cpio.Newc.Writer(&want)
	for i, r := range records {
		rec := cpio.StaticFile(r.Name, string(r.Data), uint64(r.Perm))
		if r.Dir {
			rec = cpio.Directory(r.Name, uint64(r.Perm))
			rec.NLink = 2
		}
		rec.Ino = uint64(i + 1)
		if !r.Dir {
			rec.NLink = 1
		}
		if err := w.WriteRecord(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	got := Archive(records)
	rd := func(b []byte) (out []string) {
		r := cpio.Newc.Reader(bytes.NewReader(b))
		for {
			rec, err := r.ReadRecord()
			if err == io.EOF {
				return out
			}
			if err != nil {
				t.Fatalf("ReadRecord: %v", err)
			}
			var data []byte
			if rec.FileSize > 0 {
				if data, err = io.ReadAll(io.NewSectionReader(rec.ReaderAt, 0, int64(rec.FileSize))); err != nil {
					t.Fatal(err)
				}
			}
			out = append(out, rec.Info.String(), string(data))
		}
	}
	if diff := cmp.Diff(rd(want.Bytes()), rd(got)); diff != "" {
		t.Errorf("records differ (-u-root +newc):\n%s", diff)
	}
	if len(got)%4 != 0 {
		t.Errorf("len(Archive) = %d; want a multiple of 4", len(got))
	}
}

// GNU cpio is stricter than most.
func TestArchiveUnpacksWithCPIO(t *testing.T) {
	bin, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("cpio is not installed")
	}
	dir := t.TempDir()
	cmd := exec.Command(bin, "-i", "-d", "--quiet")
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(Archive(records))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio -i: %v: %s", err, out)
	}
	for _, r := range records[1:] {
		got, err := os.ReadFile(filepath.Join(dir, r.Name))
		if err != nil || !bytes.Equal(got, r.Data) {
			t.Errorf("%s unpacks to %q, %v; want %q", r.Name, got, err, r.Data)
		}
	}
}
