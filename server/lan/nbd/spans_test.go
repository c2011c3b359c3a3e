package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/internal/digest"
)

// blocks is a Source in memory.
type blocks map[digest.SHA256][]byte

func (b blocks) Block(_ context.Context, e index.Entry, dst []byte) ([]byte, error) {
	if plain, ok := b[e.SHA256]; ok {
		return append(dst[:0], plain...), nil
	}
	return nil, read.ErrNotFound
}

// spanDisk is a file of blocks.
type spanDisk struct{ f *read.File }

var _ SpanDisk = spanDisk{}

func (d spanDisk) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return d.f.ReadAt(ctx, p, off)
}

func (d spanDisk) Spans(ctx context.Context, off int64, n int) (*read.Spans, error) {
	return d.f.Spans(ctx, off, n)
}

func (d spanDisk) Ready(off int64, n int) bool { return d.f.Ready(off, n) }

// newSpanDisk returns a disk of blocks with lengths: below 0 of zeros, 0 for
// one that the source does not have; and its content.
func newSpanDisk(t testing.TB, lengths ...int) (spanDisk, []byte) {
	t.Helper()
	r := rand.NewChaCha8([32]byte{1})
	src := make(blocks)
	var all []byte
	var b index.Builder
	for _, n := range lengths {
		if n < 0 {
			b.AddZero(int64(-n))
			all = append(all, make([]byte, -n)...)
			continue
		}
		plain := make([]byte, max(n, 1))
		_, _ = r.Read(plain)
		if n > 0 {
			src[digest.Of(plain)] = plain
		}
		b.Add(len(plain), len(plain), digest.Of(plain))
		all = append(all, plain...)
	}
	raw, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, err := index.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	keep := read.New(src, read.Options{Memory: 4 << 20, InFlight: 8 << 20})
	t.Cleanup(keep.Close)
	return spanDisk{keep.Open(x)}, all
}

// patience is for all of a test, on a busy machine.
const patience = 3 * time.Minute

// structured negotiates structured replies and takes the export.
func structured(t testing.TB, at string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	be := binary.BigEndian
	b := be.AppendUint32(nil, flagFixed|flagNoZeroes)
	b = be.AppendUint64(b, magicOption)
	b = be.AppendUint32(b, optStructured)
	b = be.AppendUint32(b, 0)
	b = be.AppendUint64(b, magicOption)
	b = be.AppendUint32(b, optExportName)
	b = append(be.AppendUint32(b, 1), 'x')
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 18+20+10)); err != nil {
		t.Fatal(err)
	}
	return c
}

// readStructured reads n bytes at off. It returns them and how many of them
// came as holes, and the error of the reply.
func readStructured(t *testing.T, c net.Conn, off uint64, n uint32, flags uint16) (data []byte, holes int, code uint32) {
	t.Helper()
	be := binary.BigEndian
	q := readRequest(77, off, n)
	be.PutUint16(q[4:], flags)
	if _, err := c.Write(q); err != nil {
		t.Fatal(err)
	}
	data = bytes.Repeat([]byte{0xee}, int(n))
	had := 0
	for {
		var h [20]byte
		if _, err := io.ReadFull(c, h[:]); err != nil {
			t.Fatal(err)
		}
		if be.Uint32(h[:]) != magicChunk || be.Uint64(h[8:]) != 77 {
			t.Fatalf("a chunk begins with % x", h)
		}
		p := make([]byte, be.Uint32(h[16:]))
		if _, err := io.ReadFull(c, p); err != nil {
			t.Fatal(err)
		}
		switch be.Uint16(h[6:]) {
		case chunkData:
			had += copy(data[be.Uint64(p)-off:], p[8:])
		case chunkHole:
			k := int(be.Uint32(p[8:]))
			clear(data[be.Uint64(p)-off:][:k])
			had += k
			holes += k
		case chunkError:
			code = be.Uint32(p)
		default:
			t.Fatalf("a chunk of the kind %d", be.Uint16(h[6:]))
		}
		if be.Uint16(h[4:])&chunkDone != 0 {
			if code == 0 && had != int(n) {
				t.Fatalf("%d bytes at %d: %d came", n, off, had)
			}
			return data, holes, code
		}
	}
}

// What comes out of memory without a copy is the disk's content: whole and in
// pieces, with structured replies, where zeros are holes, and with simple ones.
func TestSpans(t *testing.T) {
	lengths := []int{300_000, -1_000_000, 70_001, -100, 5, -4096, 66_000, -3 << 20, 1 << 20, 1, -1}
	for range 300 {
		lengths = append(lengths, 17, -5000) // more slices than one system call sends
	}
	d, want := newSpanDisk(t, lengths...)
	at := serveDisk(t, d, int64(len(want)))
	c, simple := structured(t, at), exportName(t, at)
	r := rand.New(rand.NewPCG(1, 2))
	_ = simple.SetDeadline(time.Now().Add(patience))
	for i := range 60 {
		off := r.IntN(len(want) - 1)
		n := min(1+r.IntN(1<<(4+i%16)), len(want)-off)
		if i == 0 {
			off, n = 0, len(want)
		}
		part := want[off : off+n]
		got, holes, code := readStructured(t, c, uint64(off), uint32(n), 0)
		if code != 0 || !bytes.Equal(got, part) {
			t.Fatalf("structured read of %d bytes at %d: error %d, equal %t", n, off, code, bytes.Equal(got, part))
		}
		if i == 0 && holes < 4_000_000 {
			t.Errorf("%d bytes of the disk come as holes; want those of the long runs of zeros", holes)
		}
		if n <= maxWhole {
			if got, holes, code := readStructured(t, c, uint64(off), uint32(n), cmdFlagDF); code != 0 || holes != 0 || !bytes.Equal(got, part) {
				t.Fatalf("read in one chunk, %d bytes at %d: error %d, %d bytes of holes", n, off, code, holes)
			}
		}
		if _, err := simple.Write(readRequest(9, uint64(off), uint32(n))); err != nil {
			t.Fatal(err)
		}
		reply := make([]byte, 16+n)
		if _, err := io.ReadFull(simple, reply); err != nil {
			t.Fatal(err)
		}
		if binary.BigEndian.Uint32(reply[4:]) != 0 || !bytes.Equal(reply[16:], part) {
			t.Fatalf("simple read of %d bytes at %d differs", n, off)
		}
	}
}

// A block that cannot be read is an error of that read, and of nothing else.
func TestSpansFail(t *testing.T) {
	d, want := newSpanDisk(t, piece, 0, 5000)
	at := serveDisk(t, d, int64(len(want)))
	c := structured(t, at)
	if _, _, code := readStructured(t, c, 0, uint32(len(want)), 0); code != errIO {
		t.Errorf("a read that fails in the middle: error %d; want %d", code, errIO)
	}
	if got, _, code := readStructured(t, c, piece+1, 5000, 0); code != 0 || !bytes.Equal(got, want[piece+1:]) {
		t.Errorf("a read behind: error %d", code)
	}
	simple := exportName(t, at)
	_, _ = simple.Write(readRequest(9, piece, 100))
	var b [16]byte
	if _, err := io.ReadFull(simple, b[:]); err != nil || binary.BigEndian.Uint32(b[4:]) != errIO {
		t.Errorf("a simple read that fails: % x, %v", b, err)
	}
}

// Clients that take nothing of what they have asked for hold no blocks, of
// which there is room for 8 MiB, so others are served.
func TestStalledClients(t *testing.T) {
	lengths := make([]int, 12)
	for i := range lengths {
		lengths[i] = 1 << 20
	}
	d, want := newSpanDisk(t, lengths...)
	at := serveDisk(t, d, int64(len(want)))
	for i := range 30 {
		c := exportName(t, at)
		if i%2 == 0 {
			c = structured(t, at)
		}
		for k := range uint64(workers) {
			if _, err := c.Write(readRequest(k, k<<20, uint32(len(want)-4<<20))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, _, code := readStructured(t, structured(t, at), 0, uint32(len(want)), 0); code != 0 || !bytes.Equal(got, want) {
		t.Fatalf("a client among those: error %d", code)
	}
}

// A client that was idle for longer than an answer may take is not cut off.
func TestIdleClient(t *testing.T) {
	d, want := newSpanDisk(t, 10000)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetWriteDeadline(time.Unix(1, 0)) // of the last answer
	c := &conn{s: &Server{}, c: nc, mu: newLock()}
	q := request{kind: cmdRead, length: uint32(len(want))}
	if err := c.readSimple(t.Context(), &Export{Name: "x", Size: int64(len(want)), Disk: d}, &q, make([]byte, headRoom+piece)); err != nil {
		t.Fatal(err)
	}
	_ = client.SetDeadline(time.Now().Add(patience))
	got := make([]byte, 16+len(want))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got[16:], want) {
		t.Errorf("the data differ, %v", err)
	}
}

// BenchmarkRead reads a disk that is in memory, with and without a copy.
func BenchmarkRead(b *testing.B) {
	d, want := newSpanDisk(b, 300_000, 400_000, 500_000, 600_000, 700_000)
	for _, bb := range []struct {
		name string
		disk Disk
	}{{"spans", d}, {"copy", struct{ Disk }{d}}} {
		b.Run(bb.name, func(b *testing.B) {
			c := exportName(b, serveDisk(b, bb.disk, int64(len(want))))
			_ = c.SetDeadline(time.Time{})
			b.SetBytes(int64(len(want)))
			buf := make([]byte, 256<<10)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(readRequest(1, 0, uint32(len(want)))); err != nil {
					b.Fatal(err)
				}
				for rest := 16 + len(want); rest > 0; {
					n, err := c.Read(buf)
					if err != nil {
						b.Fatal(err)
					}
					rest -= n
				}
			}
		})
	}
}
