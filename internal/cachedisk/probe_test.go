package cachedisk

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func probeFile(t *testing.T, name string) (Superblock, error) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return Probe(f, st.Size())
}

const aUUID = "01234567-89ab-cdef-0123-456789abcdef"

// What the tools that make filesystems write is what is found, and blkid(8)
// agrees with each.
func TestProbe(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int64
		mkfs []string
		want Superblock
	}{
		{"FAT12", 4 * mib, []string{"mkfs.vfat", "-F", "12", "-i", "1234abcd", "-n", "STICK"}, Superblock{Type: FAT, UUID: "1234-ABCD", Label: "STICK"}},
		{"FAT16", 64 * mib, []string{"mkfs.vfat", "-F", "16", "-i", "1234abcd"}, Superblock{Type: FAT, UUID: "1234-ABCD"}},
		{"FAT32", 300 * mib, []string{"mkfs.vfat", "-F", "32", "-i", "00000001", "-n", "BIG STICK"}, Superblock{Type: FAT, UUID: "0000-0001", Label: "BIG STICK"}},
		{"FAT32, 4 KiB sectors", 300 * mib, []string{"mkfs.vfat", "-F", "32", "-S", "4096", "-i", "1234abcd"}, Superblock{Type: FAT, UUID: "1234-ABCD"}},
		{"exFAT", 64 * mib, []string{"mkfs.exfat", "-L", "Größe"}, Superblock{Type: ExFAT, Label: "Größe"}},
		{"exFAT without a label", 64 * mib, []string{"mkfs.exfat"}, Superblock{Type: ExFAT}},
		{"ext2", 16 * mib, []string{"mkfs.ext2", "-q", "-U", aUUID, "-L", "two"}, Superblock{Type: Ext2, UUID: aUUID, Label: "two"}},
		{"ext3", 16 * mib, []string{"mkfs.ext3", "-q", "-U", aUUID, "-L", "sixteen bytes ok"}, Superblock{Type: Ext3, UUID: aUUID, Label: "sixteen bytes ok"}},
		{"ext4", 16 * mib, []string{"mkfs.ext4", "-q", "-U", aUUID}, Superblock{Type: Ext4, UUID: aUUID}},
		{"ext4, 1 KiB blocks, no journal", 16 * mib, []string{"mkfs.ext4", "-q", "-b", "1024", "-O", "^has_journal", "-U", aUUID}, Superblock{Type: Ext4, UUID: aUUID}},
		{"XFS", 320 * mib, []string{"mkfs.xfs", "-q", "-m", "uuid=" + aUUID, "-L", "ex"}, Superblock{Type: XFS, UUID: aUUID, Label: "ex"}},
		{"btrfs", 128 * mib, []string{"mkfs.btrfs", "-q", "-U", aUUID, "-L", "butter"}, Superblock{Type: Btrfs, UUID: aUUID, Label: "butter"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := image(t, tt.size, tt.mkfs...)
			got, err := probeFile(t, img)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want.Type == ExFAT { // mkfs.exfat chooses the number
				if !regexp.MustCompile(`^[0-9A-F]{4}-[0-9A-F]{4}$`).MatchString(got.UUID) {
					t.Errorf("UUID %q", got.UUID)
				}
				tt.want.UUID = got.UUID
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
			blkid := map[string]string{}
			for line := range strings.Lines(tool(t, "blkid", "-p", "-o", "export", img)) {
				k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
				blkid[k] = strings.ReplaceAll(v, `\ `, " ")
			}
			if got.Label == "Größe" { // which blkid shows in a notation of its own
				blkid["LABEL"] = got.Label
			}
			if blkid["TYPE"] != got.Type || blkid["UUID"] != got.UUID || blkid["LABEL"] != got.Label {
				t.Errorf("blkid says %v; Probe says %+v", blkid, got)
			}
		})
	}
}

func patch(t *testing.T, img string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func TestProbeRefuses(t *testing.T) {
	ext4, vfat := []string{"mkfs.ext4", "-q"}, []string{"mkfs.vfat", "-F", "32"}
	for _, tt := range []struct {
		name   string
		size   int64
		mkfs   []string
		change func(t *testing.T, img string)
		want   error
	}{
		{"empty", 16 * mib, nil, nil, ErrUnknown},
		{"tiny", 32 << 10, nil, nil, ErrUnknown},
		{"ext4 larger than its disk", 16 * mib, ext4, func(t *testing.T, img string) {
			if err := os.Truncate(img, 15*mib); err != nil {
				t.Fatal(err)
			}
		}, ErrUnknown},
		{"FAT larger than its disk", 300 * mib, vfat, func(t *testing.T, img string) {
			if err := os.Truncate(img, 200*mib); err != nil {
				t.Fatal(err)
			}
		}, ErrUnknown},
		{"half of a RAID 1, metadata 1.0", 16 * mib, ext4, func(t *testing.T, img string) {
			patch(t, img, 16*mib-8<<10, []byte{0xfc, 0x4e, 0x2b, 0xa9})
		}, ErrMember},
		{"half of a RAID 1, metadata 0.90", 16 * mib, ext4, func(t *testing.T, img string) {
			patch(t, img, 16*mib-64<<10, []byte{0xfc, 0x4e, 0x2b, 0xa9})
		}, ErrMember},
		{"journal of another disk", 16 * mib, []string{"mkfs.ext4", "-q", "-O", "journal_dev"}, nil, ErrMember},
		{"btrfs of two", 128 * mib, []string{"mkfs.btrfs", "-q"}, func(t *testing.T, img string) {
			patch(t, img, btrfsAt+136, []byte{2})
		}, ErrMember},
		{"stale btrfs in ext4", 16 * mib, ext4, func(t *testing.T, img string) {
			other := image(t, 128*mib, "mkfs.btrfs", "-q")
			b, err := os.ReadFile(other)
			if err != nil {
				t.Fatal(err)
			}
			b[btrfsAt+115] = 0 // of its size, which has to fit
			patch(t, img, btrfsAt, b[btrfsAt:btrfsAt+btrfsLen])
			patch(t, img, btrfsAt+112, []byte{0, 0, 0x10, 0, 0, 0, 0, 0})
		}, ErrAmbiguous},
		{"NTFS", 16 * mib, nil, func(t *testing.T, img string) {
			patch(t, img, 0, []byte("\xebR\x90NTFS    \x00\x02\x08\x00\x00\x00\x00\x00\x00\x00\xf8"))
			patch(t, img, 510, []byte{0x55, 0xaa})
		}, ErrUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := image(t, tt.size, tt.mkfs...)
			if tt.change != nil {
				tt.change(t, img)
			}
			if got, err := probeFile(t, img); !errors.Is(err, tt.want) {
				t.Errorf("Probe = %+v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestProbeShortDevice(t *testing.T) {
	if _, err := Probe(bytes.NewReader(make([]byte, 1000)), mib); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("Probe of a device that ends early = %v; want the error of reading", err)
	}
}

// parts is a disk of 64 MiB of which only the beginning, the place of btrfs
// and the end are not zero, 4 KiB each.
type parts struct{ b []byte }

func (p parts) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	for i, at := range []int64{0, btrfsAt, 64*mib - 8<<10} {
		if rel := off - at; rel >= 0 && rel < 4096 && i*4096+int(rel) < len(p.b) {
			copy(b, p.b[i*4096+int(rel):min(len(p.b), (i+1)*4096)])
		}
	}
	return len(b), nil
}

// Whatever lies on a disk, Probe says one of the types it knows, and nothing
// that acts on a console.
func FuzzProbe(f *testing.F) {
	head := func(at int, s string, more ...string) []byte {
		b := make([]byte, 8<<10)
		copy(b[at:], s)
		b[510], b[511] = 0x55, 0xaa
		for i := 0; i+1 < len(more); i += 2 {
			copy(b[int(more[i][0])|int(more[i][1])<<8:], more[i+1])
		}
		return b
	}
	f.Add(head(0, "\xeb\x3c\x90mkfs.fat\x00\x02\x04\x04\x00\x02\x00\x02\x00\x00\xf8\x80\x00\x20\x00\x02\x00\x00\x00\x00\x00\x00\x00\x02\x00\x80\x00\x29\xcd\xab\x34\x12NO NAME    FAT16   "))
	f.Add(head(0, "\xeb\x58\x90mkfs.fat\x00\x02\x01\x20\x00\x02\x00\x00\x00\x00\xf8\x00\x00\x20\x00\x02\x00\x00\x00\x00\x00\x00\x00\x02\x00\xf0\x03\x00\x00"))
	f.Add(head(0, "\xeb\x76\x90EXFAT   ", "\x40\x00", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x80\x00\x00\x00\x80\x00\x00\x00\x00\x10\x00\x00\x00\x10\x00\x00\x05\x00\x00\x00\x01\x02\x03\x04\x00\x01\x00\x00\x09\x03\x01"))
	f.Add(head(1024, "\x00\x10\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00", "\x38\x04", "\x53\xef\x01\x00"))
	f.Add(head(0, "XFSB\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x20\x00", "\x64\x00", "\xb4\xa5"))
	f.Add(head(4096+64, "_BHRfS_M", "\x32\x10", "\x01", "\x73\x10", "\x02", "\x88\x10", "\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Probe(parts{b}, 64*mib)
		if err != nil {
			if !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrMember) && !errors.Is(err, ErrAmbiguous) {
				t.Errorf("Probe = %v", err)
			}
			return
		}
		switch s.Type {
		case FAT, ExFAT, Ext2, Ext3, Ext4, XFS, Btrfs:
		default:
			t.Errorf("type %q", s.Type)
		}
		for _, r := range s.Label + s.UUID {
			if r < ' ' || r == 0x7f || r == 0x202e || r == 0xfffd {
				t.Errorf("label %q, UUID %q", s.Label, s.UUID)
			}
		}
		if len(s.Label) > 256 || len(s.UUID) > 36 {
			t.Errorf("label of %d bytes, UUID %q", len(s.Label), s.UUID)
		}
	})
}
