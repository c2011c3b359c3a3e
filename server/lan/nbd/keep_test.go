package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/imagestest"
	"github.com/inetboot/inetboot/server/lan/lantest"
	"github.com/inetboot/inetboot/server/lan/swap"
	"github.com/inetboot/inetboot/server/store/storetest"
)

// duplicate is what a service manager does with a connection.
func duplicate(k Kept) (Kept, error) {
	f, err := k.Conn.(*net.TCPConn).File()
	if err != nil {
		return k, err
	}
	c, err := net.FileConn(f)
	return Kept{Conn: c, State: k.State}, errors.Join(err, f.Close())
}

// slow is a disk whose first read waits.
type slow struct {
	asked, answer chan struct{}
}

func (s *slow) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off == 0 {
		close(s.asked)
		select {
		case <-s.answer:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	for i := range p {
		p[i] = byte(off >> 12)
	}
	return len(p), nil
}

// A client whose server ends gets the answers to what it has asked for, and
// goes on with the next server in the midst of a request; one that is still
// negotiating is closed.
func TestKeep(t *testing.T) {
	disk := &slow{asked: make(chan struct{}), answer: make(chan struct{})}
	kept := make(chan Kept, 2)
	serve := func(from []Kept) (at string, end func()) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		export := &Export{Name: "x", Size: 1 << 20, Disk: disk, ID: "the-x"}
		s := &Server{
			Find: func(context.Context, netip.Addr, string) (*Export, error) { return export, nil },
			Resume: func(_ context.Context, client netip.Addr, id string) (*Export, error) {
				if id != "the-x" || client != netip.MustParseAddr("127.0.0.1") {
					t.Errorf("Resume(%s, %q); want the-x of 127.0.0.1", client, id)
				}
				return export, nil
			},
			Keep: func(k Kept) error {
				k, err := duplicate(k)
				kept <- k
				return err
			},
			Kept: from, Logger: storetest.Silent(),
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, ln) }()
		ended := false
		end = func() {
			if !ended {
				ended = true
				cancel()
				if err := <-done; err != nil {
					t.Errorf("Serve() = %v", err)
				}
			}
		}
		t.Cleanup(end)
		return ln.Addr().String(), end
	}
	answered := func(c net.Conn, cookie uint64, content byte) {
		t.Helper()
		b := make([]byte, 16+4096)
		if _, err := io.ReadFull(c, b); err != nil || binary.BigEndian.Uint64(b[8:]) != cookie || b[16] != content || b[len(b)-1] != content {
			t.Fatalf("% x…, %v; want the answer %d with %d", b[:17], err, cookie, content)
		}
	}

	at, end := serve(nil)
	c := exportName(t, at)
	late, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if _, err := io.ReadFull(late, make([]byte, 18)); err != nil {
		t.Fatal(err)
	}
	next := readRequest(2, 4096, 4096)
	_, _ = c.Write(append(readRequest(1, 0, 4096), next[:10]...))
	<-disk.asked
	over := make(chan struct{})
	go func() { end(); close(over) }()
	if _, err := late.Read(make([]byte, 1)); err == nil {
		t.Error("a client that negotiates is kept")
	}
	select {
	case <-kept:
		t.Fatal("a client is kept while a request of its is not answered")
	case <-time.After(50 * time.Millisecond):
	}
	close(disk.answer)
	answered(c, 1, 0)
	<-over

	// Twice, as the connection is another one after the first time.
	_, end = serve([]Kept{<-kept})
	_, _ = c.Write(next[10:])
	answered(c, 2, 1)
	end()
	_, end = serve([]Kept{<-kept})
	_, _ = c.Write(readRequest(3, 8192, 4096))
	answered(c, 3, 2)
	_, _ = c.Write(append(readRequest(0, 0, 0)[:4], 0, 0, 0, cmdDisc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the client has left: %d bytes, %v; want the end", n, err)
	}
	end()
	if len(kept) > 0 {
		t.Error("a client that has left is kept")
	}
}

// The service finds an image again by its manifest, and swap by who asks; the
// data of a write come partly before the end of the server and partly after.
func TestKeepService(t *testing.T) {
	root, base := imagestest.NewRoot(t), t.TempDir()
	p := storetest.New(t, base)
	p.AddRoot(t, "debian", "12", "erofs", root.Files()...)
	library := imagestest.Library(t, p, base)
	files := &swap.Files{Dir: filepath.Join(t.TempDir(), "swap")}
	kept := make(chan Kept, 2)
	run := func(from ...Kept) (at string, end func()) {
		s := &Service{
			Addr: "127.0.0.1:0", Logger: storetest.Silent(), Library: library, Kept: from,
			Swap: &Swap{
				Files: files,
				Neighbour: func(context.Context, netip.Addr) (net.HardwareAddr, error) {
					return net.HardwareAddr{2, 0, 0, 0, 0, 1}, nil
				},
				Size: func(context.Context, net.HardwareAddr) (int64, error) { return 1 << 20, nil },
			},
			Keep: func(k Kept) error {
				k, err := duplicate(k)
				kept <- k
				return err
			},
		}
		end = lantest.Run(t, s)
		return s.Address().String(), end
	}
	at, end := run()
	image, disk := exportOf(t, at, "debian/latest"), exportOf(t, at, SwapName)
	write, data := readRequest(1, 4096, piece+8192), bytes.Repeat([]byte{0x5a}, piece+8192)
	binary.BigEndian.PutUint16(write[6:], cmdWrite)
	_, _ = disk.Write(append(write, data[:piece+5000]...))
	for b := make([]byte, 1); b[0] != 0x5a; { // the write has begun
		f, err := os.Open(filepath.Join(files.Dir, "02-00-00-00-00-01.swap"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(b, 4096); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	over := make(chan struct{})
	go func() { end(); close(over) }()
	first := <-kept // the image's: the other one has a request under way
	_, _ = disk.Write(data[piece+5000:])
	if _, err := io.ReadFull(disk, make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	<-over
	p.AddRoot(t, "debian", "13", "erofs", root.Files()[0], storetest.RootFile{Name: "data", Data: make([]byte, 1<<20)})
	run(first, <-kept)
	_, _ = image.Write(readRequest(2, 0, uint32(len(root.Image))&^4095))
	got := make([]byte, 16+len(root.Image)&^4095)
	if _, err := io.ReadFull(image, got); err != nil || string(got[16:]) != string(root.Image[:len(got)-16]) {
		t.Errorf("the image is another one, %v", err)
	}
	_, _ = disk.Write(readRequest(3, piece+8192, 4096))
	got = make([]byte, 16+4096)
	if _, err := io.ReadFull(disk, got); err != nil || got[15] != 3 || got[len(got)-1] != 0x5a {
		t.Errorf("swap: % x, %v", got[:16], err)
	}
}

func TestState(t *testing.T) {
	for _, s := range []state{{id: "swap"}, {id: "0123", structured: true, rest: []byte{0, 255}}} {
		got, err := parseState(s.String())
		if err != nil || got.String() != s.String() || got.structured != s.structured {
			t.Errorf("parseState(%q) = %+v, %v", s, got, err)
		}
	}
	for _, bad := range []string{"", "nbd1", "nbd1,x,simple,0", "nbd1,x,other,", "nbd2,x,simple,", "nbd1,x,simple,00,"} {
		if IsState(bad) {
			t.Errorf("%q is taken for a state", bad)
		}
	}
}
