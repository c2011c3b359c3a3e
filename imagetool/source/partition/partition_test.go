package partition_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/imagetool/source/partition"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
)

// make writes a table with sfdisk and returns the disk.
func sfdisk(t testing.TB, size int64, script string, args ...string) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), sourcetest.Tool(t, "sfdisk"), append(args, "-q", name)...)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	gptScript = `label: gpt
label-id: 11111111-2222-3333-4444-555555555555
start=2048, size=2048, type=C12A7328-F81F-11D2-BA4B-00C04FC93EC1, uuid=AAAAAAAA-0000-0000-0000-000000000001, name="EFI"
start=4096, size=8192, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=AAAAAAAA-0000-0000-0000-000000000002, name="Wurzel ü"
`
	mbrScript = `label: dos
label-id: 0xdeadbeef
start=2048, size=2048, type=83, bootable
start=4096, size=20480, type=5
start=6144, size=2048, type=82
start=10240, size=4096, type=83
`
)

func read(b []byte) (*partition.Table, error) {
	return partition.Read(bytes.NewReader(b), int64(len(b)))
}

func TestRead(t *testing.T) {
	const mib = 1 << 20
	gpt := &partition.Table{Kind: "gpt", Partitions: []partition.Partition{
		{Number: 1, Start: mib, Size: mib, Type: "c12a7328-f81f-11d2-ba4b-00c04fc93ec1", UUID: "aaaaaaaa-0000-0000-0000-000000000001", Name: "EFI"},
		{Number: 2, Start: 2 * mib, Size: 4 * mib, Type: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", UUID: "aaaaaaaa-0000-0000-0000-000000000002", Name: "Wurzel ü"},
	}}
	mbr := &partition.Table{Kind: "mbr", Partitions: []partition.Partition{
		{Number: 1, Start: mib, Size: mib, Type: "0x83", UUID: "deadbeef-01"},
		{Number: 5, Start: 3 * mib, Size: mib, Type: "0x82", UUID: "deadbeef-05"},
		{Number: 6, Start: 5 * mib, Size: 2 * mib, Type: "0x83", UUID: "deadbeef-06"},
	}}
	second := sfdisk(t, 16*mib, gptScript)
	clear(second[512:1024]) // only the copy at the end is left
	for _, tc := range []struct {
		name string
		disk []byte
		want *partition.Table
	}{
		{"GPT", sfdisk(t, 16*mib, gptScript), gpt},
		{"GPT, the copy", second, gpt},
		{"MBR", sfdisk(t, 16*mib, mbrScript), mbr},
	} {
		got, err := read(tc.disk)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestRefused(t *testing.T) {
	gpt, mbr := sfdisk(t, 16<<20, gptScript), sfdisk(t, 16<<20, mbrScript)
	le := binary.LittleEndian
	// sums makes both checksums of the first GPT right, so that only its values are wrong.
	sums := func(b []byte) {
		if n := int(le.Uint32(b[512+80:]) * le.Uint32(b[512+84:])); n <= 1<<20 {
			le.PutUint32(b[512+88:], crc32.ChecksumIEEE(b[1024:1024+n]))
		}
		clear(b[512+16 : 512+20])
		le.PutUint32(b[512+16:], crc32.ChecksumIEEE(b[512:512+92]))
		clear(b[len(b)-512:]) // no copy
	}
	for _, tc := range []struct {
		name   string
		disk   []byte
		change func(b []byte)
		want   error
	}{
		{"nothing", make([]byte, 1<<20), func([]byte) {}, partition.ErrNone},
		{"too small", make([]byte, 100), func([]byte) {}, partition.ErrNone},
		{"wrong checksums", gpt, func(b []byte) { b[1024+33] ^= 1; clear(b[len(b)-512:]) }, partition.ErrRefused},
		{"many entries", gpt, func(b []byte) { le.PutUint32(b[512+80:], 1<<31); sums(b) }, partition.ErrRefused},
		{"large entries", gpt, func(b []byte) { le.PutUint32(b[512+84:], 1<<30); sums(b) }, partition.ErrRefused},
		{"table outside", gpt, func(b []byte) { le.PutUint64(b[512+72:], 1<<60); sums(b) }, partition.ErrRefused},
		{"partition outside", gpt, func(b []byte) { le.PutUint64(b[1024+40:], 1<<62); sums(b) }, partition.ErrRefused},
		{"partition ends before it begins", gpt, func(b []byte) { le.PutUint64(b[1024+40:], 1); sums(b) }, partition.ErrRefused},
		{"partitions overlap", gpt, func(b []byte) { le.PutUint64(b[1024+40:], 5000); sums(b) }, partition.ErrRefused},
		{"MBR outside", mbr, func(b []byte) { le.PutUint32(b[446+12:], 1<<31) }, partition.ErrRefused},
		{"MBR from 0", mbr, func(b []byte) { le.PutUint32(b[446+8:], 0) }, partition.ErrRefused},
		{"logical chain leads back", mbr, func(b []byte) { le.PutUint32(b[2<<20+462+8:], 0) }, partition.ErrRefused},
		{"logical partition outside", mbr, func(b []byte) { le.PutUint32(b[2<<20+462+8:], 1<<31) }, partition.ErrRefused},
	} {
		b := bytes.Clone(tc.disk)
		tc.change(b)
		if _, err := read(b); !errors.Is(err, tc.want) {
			t.Errorf("%s: Read() = %v; want %v", tc.name, err, tc.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(sfdisk(f, 16<<20, mbrScript)[:8192])
	f.Add(sfdisk(f, 4<<20, "label: gpt\nstart=2048, size=100\n")[:20<<10])
	f.Fuzz(func(t *testing.T, b []byte) {
		// The disk goes on with zeros, so that partitions can be within it.
		size := int64(len(b)) + 32<<20
		tab, err := partition.Read(&padded{b, size}, size)
		if err != nil {
			return
		}
		for _, p := range tab.Partitions {
			if p.Start <= 0 || p.Size <= 0 || p.Start+p.Size > size {
				t.Errorf("partition %+v of a disk of %d bytes", p, size)
			}
		}
	})
}

// padded reads as b with zeros behind it.
type padded struct {
	b    []byte
	size int64
}

func (p *padded) ReadAt(out []byte, off int64) (int, error) {
	clear(out)
	if off < int64(len(p.b)) {
		copy(out, p.b[off:])
	}
	return len(out), nil
}
