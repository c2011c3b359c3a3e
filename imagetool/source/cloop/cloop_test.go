package cloop_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/inetboot/inetboot/imagetool/source/cloop"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest/clooptest"
)

// disk returns a disk with data, holes and repetition.
func disk(size int) []byte {
	data := make([]byte, size)
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
	return data
}

func TestSameDisk(t *testing.T) {
	want := disk(500_160)
	all := []clooptest.Kind{clooptest.Zlib, clooptest.None, clooptest.XZ, clooptest.LZ4, clooptest.LZO}
	for _, o := range []clooptest.Options{
		{Version: "V2.0", BlockSize: 64 << 10},
		{Version: "V2.0", BlockSize: 1024},
		{Version: "V2.0", BlockSize: 64 << 10, Last: true},
		{Version: "V4.0", BlockSize: 128 << 10},
		{Version: "V4.0", BlockSize: 64 << 10, Kinds: all},
		{Version: "V4.0", BlockSize: 4096, Kinds: all, Last: true},
		{Version: "V4.0", BlockSize: 2 << 20, Kinds: []clooptest.Kind{clooptest.XZ}, Last: true},
	} {
		t.Run(fmt.Sprint(o), func(t *testing.T) {
			image := clooptest.Pack(t, want, o)
			m, err := cloop.Open(bytes.NewReader(image), int64(len(image)))
			if err != nil {
				t.Fatal(err)
			}
			blocks := (len(want) + o.BlockSize - 1) / o.BlockSize
			if m.Size() != int64(blocks*o.BlockSize) {
				t.Fatalf("Size() = %d; want %d", m.Size(), blocks*o.BlockSize)
			}
			want := append(bytes.Clone(want), make([]byte, blocks*o.BlockSize-len(want))...)
			got, err := io.ReadAll(io.NewSectionReader(m, 0, m.Size()))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("the disk reads differently: %v", err)
			}
			var wg sync.WaitGroup
			for seed := range uint64(3) {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(1, seed))
					for range 30 {
						at := rnd.IntN(len(want))
						b := make([]byte, rnd.IntN(100_000))
						n, err := m.ReadAt(b, int64(at))
						if end := min(len(want), at+len(b)); n != end-at || !bytes.Equal(b[:n], want[at:end]) || (err != nil) != (n < len(b)) {
							t.Errorf("ReadAt(%d bytes, %d) = %d, %v", len(b), at, n, err)
						}
					}
				})
			}
			wg.Wait()
			if n, err := m.ReadAt(make([]byte, 1), m.Size()); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("ReadAt behind the end = %d, %v; want 0, EOF", n, err)
			}
		})
	}
}

// QEMU reads V2.0, too: what the tests write is what others understand.
func TestQEMU(t *testing.T) {
	want := disk(20 * 64 << 10)
	dir := t.TempDir()
	image, raw := filepath.Join(dir, "image"), filepath.Join(dir, "raw")
	if err := os.WriteFile(image, clooptest.Pack(t, want, clooptest.Options{Version: "V2.0", BlockSize: 64 << 10}), 0o644); err != nil {
		t.Fatal(err)
	}
	sourcetest.Run(t, "qemu-img", "convert", "-f", "cloop", "-O", "raw", image, raw)
	got, err := os.ReadFile(raw)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("QEMU reads another disk: %v", err)
	}
}

func TestRefused(t *testing.T) {
	data := disk(10 * 4096)
	be := binary.BigEndian
	for _, tc := range []struct {
		name   string
		last   bool
		change func(b []byte) []byte
		want   error
	}{
		{"no header", false, func(b []byte) []byte { b[0] = 'x'; return b }, cloop.ErrFormat},
		{"empty", false, func([]byte) []byte { return nil }, cloop.ErrFormat},
		{"version 0.68", false, func(b []byte) []byte { copy(b[11:], "V0.68"); return b }, cloop.ErrUnsupported},
		{"version 1.0", false, func(b []byte) []byte { copy(b[11:], "V1.0"); return b }, cloop.ErrUnsupported},
		{"block size 0", false, func(b []byte) []byte { be.PutUint32(b[128:], 0); return b }, cloop.ErrDamaged},
		{"block size 513", false, func(b []byte) []byte { be.PutUint32(b[128:], 513); return b }, cloop.ErrDamaged},
		{"huge blocks", false, func(b []byte) []byte { be.PutUint32(b[128:], 1<<30); return b }, cloop.ErrDamaged},
		{"too many blocks", false, func(b []byte) []byte { be.PutUint32(b[132:], 1<<32-1); return b }, cloop.ErrDamaged},
		{"offset in the index", false, func(b []byte) []byte { be.PutUint64(b[136:], 7); return b }, cloop.ErrDamaged},
		{"offset outside", false, func(b []byte) []byte { be.PutUint64(b[136+80:], 1<<50); return b }, cloop.ErrDamaged},
		{"offsets backwards", false, func(b []byte) []byte { be.PutUint64(b[136+16:], 300); return b }, cloop.ErrDamaged},
		{"cut off", false, func(b []byte) []byte { return b[:len(b)-1] }, cloop.ErrDamaged},
		{"offset behind the blocks", true, func(b []byte) []byte { be.PutUint64(b[len(b)-136-8:], uint64(len(b))); return b }, cloop.ErrDamaged},
	} {
		b := tc.change(clooptest.Pack(t, data, clooptest.Options{Version: "V4.0", BlockSize: 4096, Last: tc.last}))
		if _, err := cloop.Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, tc.want) {
			t.Errorf("%s: Open() = %v; want %v", tc.name, err, tc.want)
		}
	}
	for _, tc := range []struct {
		name   string
		change func(b []byte)
		want   error
	}{
		{"unknown compression", func(b []byte) { b[136] |= 0x90 }, cloop.ErrUnsupported},
		{"wrong compression", func(b []byte) { b[136] |= 0x20 }, cloop.ErrDamaged},
		{"a short block that is not the last", func(b []byte) { b[136] |= 0x10 }, cloop.ErrDamaged},
		{"damaged data", func(b []byte) { b[136+11*8] ^= 0xff }, cloop.ErrDamaged},
	} {
		b := clooptest.Pack(t, bytes.Repeat([]byte("text"), 10240), clooptest.Options{Version: "V4.0", BlockSize: 4096})
		tc.change(b)
		m, err := cloop.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Errorf("%s: Open() = %v", tc.name, err)
			continue
		}
		if n, err := m.ReadAt(make([]byte, 100), 0); n != 0 || !errors.Is(err, tc.want) {
			t.Errorf("%s: ReadAt() = %d, %v; want %v", tc.name, n, err, tc.want)
		}
		if n, err := m.ReadAt(make([]byte, 100), 5000); n != 100 || err != nil {
			t.Errorf("%s: ReadAt() of another block = %d, %v; want 100 bytes", tc.name, n, err)
		}
	}
}

// A block that would unpack to more than a block is not taken.
func TestLongBlock(t *testing.T) {
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	_, _ = w.Write(make([]byte, 1<<20))
	_ = w.Close()
	b := append([]byte("#!/bin/sh\n#V2.0 Format\n"), make([]byte, 128-23)...)
	for _, v := range []any{uint32(512), uint32(1), uint64(152), uint64(152 + z.Len())} {
		b, _ = binary.Append(b, binary.BigEndian, v)
	}
	b = append(b, z.Bytes()...)
	m, err := cloop.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.ReadAt(make([]byte, 1), 0); !errors.Is(err, cloop.ErrDamaged) {
		t.Errorf("ReadAt() = %v; want ErrDamaged", err)
	}
}

func FuzzRead(f *testing.F) {
	all := []clooptest.Kind{clooptest.Zlib, clooptest.None, clooptest.XZ, clooptest.LZ4, clooptest.LZO}
	f.Add(clooptest.Pack(f, disk(5000), clooptest.Options{Version: "V2.0", BlockSize: 512}))
	f.Add(clooptest.Pack(f, disk(5000), clooptest.Options{Version: "V4.0", BlockSize: 1024, Kinds: all}))
	f.Add(clooptest.Pack(f, disk(5000), clooptest.Options{Version: "V4.0", BlockSize: 1024, Kinds: all, Last: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := cloop.Open(bytes.NewReader(b), int64(len(b)))
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
