package daemon_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/daemon"
	"github.com/inetboot/inetboot/internal/bootlog"
)

// kernelLog returns a file that is read like /dev/kmsg, a record at a time,
// and what writes the records.
func kernelLog(t *testing.T) (r *os.File, write func(format string, args ...any)) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, w := os.NewFile(uintptr(fds[0]), "kmsg"), os.NewFile(uintptr(fds[1]), "kmsg")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, func(format string, args ...any) {
		t.Helper()
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			t.Fatal(err)
		}
		pri, text, _ := strings.Cut(strings.TrimPrefix(fmt.Sprintf(format, args...), "<"), ">")
		if _, err := fmt.Fprintf(w, "%s,1,%d,-;%s\n", pri, now.Nano()/1000, text); err != nil {
			t.Fatal(err)
		}
	}
}

// The kernel's log and the daemon's own lines go to the receiver of the
// handoff, with the time at which they were written, until the boot is over;
// its own lines go on. A receiver that takes nothing holds up nobody.
func TestLogIsSent(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := newRig(t)
	r.h.Syslog, r.h.BootID = "udp://"+c.LocalAddr().String(), strings.Repeat("0f", 16)
	var write func(string, ...any)
	r.kernel, write = kernelLog(t)
	begin := time.Now().Add(-time.Second)
	write("<6>Linux version 6.1.0-test")
	write("<29>inetboot: network eth0 up")
	write("<30>systemd[1]: Started something.")
	r.start(t)
	expect := func(want string) {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2000)
		n, _, err := c.ReadFrom(b)
		if err != nil {
			t.Fatalf("no line %q: %v", want, err)
		}
		format := regexp.MustCompile(`^<(\d+)>1 (\S+) ` + r.h.Network.MAC + ` (\S+ - - )\[meta sequenceId="\d+"\]\[inetboot@32473 boot="` + r.h.BootID + `"\] (.*)$`)
		m := format.FindStringSubmatch(string(b[:n]))
		if m == nil || m[1]+" "+m[3]+m[4] != want {
			t.Fatalf("received %q; want %s with %q", b[:n], format, want)
		}
		if at, err := time.Parse(time.RFC3339Nano, m[2]); err != nil || at.Before(begin) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("%q is of %s (%v); want about now", want, m[2], err)
		}
	}
	expect("6 kernel - - Linux version 6.1.0-test")
	expect("29 inetboot - - network eth0 up")
	expect("30 systemd - - Started something.")
	if m := r.message(t); !m.Ready {
		t.Fatalf("message %+v", m)
	}
	if b, err := os.ReadFile(filepath.Join(r.dir, "data")); err != nil || !bytes.Equal(b, r.data) {
		t.Fatalf("the file is not what it should be: %v", err)
	}
	fmt.Fprintln(r.orders, daemon.Patient)
	// The boot is over a moment later: what others log is left out then.
	for end := time.Now().Add(20 * time.Second); ; {
		write("<6>eth0: link up")
		write("<28>inetboot: no store answers")
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2000)
		n, _, err := c.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasSuffix(b[:n], []byte("] no store answers")) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the kernel's lines are still sent")
		}
		expect("28 inetboot - - no store answers")
	}
}

// A boot that init gives up is told to the server, with what was logged.
func TestFailureIsTold(t *testing.T) {
	r := newRig(t)
	r.h.BootID, r.h.Entry = strings.Repeat("0f", 16), "debian-12"
	told := make(chan *bootlog.Report, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/"+bootlog.Path {
			http.FileServer(http.Dir(r.store)).ServeHTTP(w, q)
			return
		}
		data, _ := io.ReadAll(q.Body)
		rep, err := bootlog.Parse(data)
		if err != nil {
			t.Error(err)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		told <- rep
	}))
	t.Cleanup(srv.Close)
	r.h.Mirrors = append(r.h.Mirrors, srv.URL) // the first one has files only
	var write func(string, ...any)
	r.kernel, write = kernelLog(t)
	r.start(t)
	if m := r.message(t); !m.Ready {
		t.Fatalf("message %+v", m)
	}
	write("<27>inetboot: cannot start this image: no init")
	// Until the line has been read, which nothing else shows.
	for end := time.Now().Add(20 * time.Second); ; {
		fmt.Fprintln(r.orders, daemon.FailureOrder("look for the image's init:\nnot there"))
		var rep *bootlog.Report
		select {
		case rep = <-told:
		case <-time.After(20 * time.Second):
			t.Fatal("the server is not told")
		}
		if rep.Part != bootlog.Target || rep.Failure != "look for the image's init: not there" || rep.Client != r.h.Network.MAC || rep.Entry != "debian-12" {
			t.Fatalf("the server is told %+v", rep)
		}
		if n := len(rep.Lines); n > 0 && rep.Lines[n-1].Text == "inetboot: cannot start this image: no init" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the log is %v", rep.Lines)
		}
	}
}
