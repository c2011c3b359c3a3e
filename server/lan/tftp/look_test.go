package tftp

import (
	"bytes"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (in, out int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// What is there is read; where nothing comes in time, looking becomes rare, and
// one that succeeds makes it more frequent again. One looks at a time.
func TestLook(t *testing.T) {
	in, out := pair(t)
	var turn atomic.Bool
	l := look{turn: &turn}
	buf := make([]byte, 100)
	send := func() {
		if _, err := unix.Write(out, []byte("packet")); err != nil {
			t.Fatal(err)
		}
	}
	send()
	n, ok, err := l.read(in, buf)
	if runtime.GOMAXPROCS(0) == 1 {
		if ok {
			t.Error("with one processor packets are looked for")
		}
		return
	}
	if !ok || err != nil || string(buf[:n]) != "packet" {
		t.Fatalf("%q, %t, %v", buf[:n], ok, err)
	}
	looks := 0
	for range 10000 {
		if before := l.skip; before == 0 {
			looks++
		}
		if _, ok, _ := l.read(in, buf); ok {
			t.Fatal("a packet out of nothing")
		}
	}
	if looks > 15 || l.skip > mostSkipped {
		t.Errorf("looked %d times for 10000 packets that did not come in time; %d are skipped", looks, l.skip)
	}
	missed := l.missed
	l.skip = 0
	send()
	if _, ok, _ := l.read(in, buf); !ok || l.missed != missed-1 {
		t.Errorf("after a success %d are missed; want %d", l.missed, missed-1)
	}
	turn.Store(true)
	send()
	if _, ok, _ := l.read(in, buf); ok {
		t.Error("a second one looks at the same time")
	}
	turn.Store(false)
	if _, ok, err := l.read(-1, buf); !ok || !errors.Is(err, unix.EBADF) {
		t.Errorf("a socket that is none: %t, %v", ok, err)
	}
}

// BenchmarkTransfer reads a file without windows over the loopback interface, by
// a client that blocks in the kernel.
func BenchmarkTransfer(b *testing.B) {
	const size, blksize = 4 << 20, 1428
	content := noise(size)
	for _, name := range []string{"looking", "sleeping", "poller"} {
		b.Run(name, func(b *testing.B) {
			s, addr := start(b, Options{FS: fstest.MapFS{"f": {Data: content}}})
			switch name {
			case "sleeping":
				s.looking.Store(true) // as if another one did all the time
			case "poller":
				for range maxQuick {
					s.quick <- struct{}{}
				}
			}
			b.SetBytes(size)
			for b.Loop() {
				var got bytes.Buffer
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					b.Fatal(err)
				}
				tv := unix.NsecToTimeval(int64(10 * time.Second))
				if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
					b.Fatal(err)
				}
				if err := unix.Sendto(fd, rrq("f", "octet", "blksize", "1428"), 0, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
					b.Fatal(err)
				}
				buf := make([]byte, 4+blksize)
				receive := func() (n int, from unix.Sockaddr, err error) {
					for err = unix.EINTR; errors.Is(err, unix.EINTR); {
						n, from, err = unix.Recvfrom(fd, buf, 0)
					}
					return n, from, err
				}
				n, from, err := receive()
				if err == nil {
					err = unix.Connect(fd, from)
				}
				for k := uint16(0); err == nil; {
					if _, err = unix.Write(fd, ack(k)); err != nil || k > 0 && n < len(buf) {
						break
					}
					if n, _, err = receive(); err == nil {
						got.Write(buf[4:n])
						k++
					}
				}
				if err != nil || !bytes.Equal(got.Bytes(), content) {
					b.Fatalf("%d bytes, %v", got.Len(), err)
				}
				unix.Close(fd)
			}
		})
	}
}
