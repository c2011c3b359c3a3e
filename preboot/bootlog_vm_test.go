package main

import (
	"bufio"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/handoff"
)

// logReceiver receives what a guest sends by syslog over "tcp" or "udp", until
// the machine is gone. It returns its URL there.
func logReceiver(t *testing.T, network string) (url string, lines <-chan string) {
	t.Helper()
	if network == "udp" {
		conn, err := net.ListenPacket(network, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		got := make(chan string, 1000)
		go func() {
			for buf := make([]byte, 64<<10); ; {
				n, _, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				got <- string(buf[:n])
			}
		}()
		return "udp://10.0.2.2:" + strconv.Itoa(conn.LocalAddr().(*net.UDPAddr).Port), got
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got := make(chan string, 1000)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					n := 0
					if _, err := fmt.Fscanf(r, "%d ", &n); err != nil {
						return
					}
					b := make([]byte, n)
					for i := range b {
						if b[i], err = r.ReadByte(); err != nil {
							return
						}
					}
					got <- string(b)
				}
			}()
		}
	}()
	return "tcp://10.0.2.2:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port), got
}

// checkLog expects the lines of a whole boot, from before there was a network
// until there is none, in order and with their times.
func checkLog(t *testing.T, lines <-chan string, h *handoff.Handoff) {
	t.Helper()
	format := regexp.MustCompile(`^<30>1 (\S+Z) ` + regexp.QuoteMeta(h.Network.MAC) + ` inetboot - - \[meta sequenceId="(\d+)"\]\[inetboot@32473 boot="` + h.BootID + `"\] (.*)$`)
	want := []string{`^InetBoot, amd64$`, `^lease 10\.0\.2\.15/24 on eth0 from 10\.0\.2\.2$`, `^catalog 2, valid until `, `^starting ` + h.Entry + `$`, `^leaving for ` + h.Entry + `$`, `^timeline: init=0\.000 .*link=.* dhcp=.* kexec=`}
	var last time.Time
	timeout := time.After(time.Duration(patience) * time.Second)
	for n := 1; len(want) > 0; n++ {
		var line string
		select {
		case line = <-lines:
		case <-timeout:
			t.Fatalf("no line %s was received", want[0])
		}
		m := format.FindStringSubmatch(line)
		if m == nil || m[2] != strconv.Itoa(n) {
			t.Fatalf("line %d is %q; want %s", n, line, format)
		}
		at, err := time.Parse(time.RFC3339Nano, m[1])
		if err != nil || at.Before(last) {
			t.Errorf("line %d is of %s (%v), the one before of %v", n, m[1], err, last)
		}
		last = at
		if regexp.MustCompile(want[0]).MatchString(m[3]) {
			want = want[1:]
		}
	}
}
