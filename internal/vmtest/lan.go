package vmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netns"
)

// ErrNotRoot is returned where a virtual LAN is asked for without the right
// to make one.
var ErrNotRoot = errors.New("virtual LANs need root")

// LAN is an Ethernet of its own: a network namespace with a bridge, to which
// the machines' cards are plugged. Nothing on it reaches any other network.
type LAN struct {
	Name string // of the namespace
	Host net.IP // this machine's address on the LAN

	mu   sync.Mutex
	taps int
}

const lanPrefix = "inetboot-"

// NewLAN makes a LAN on which this machine has the address, such as
// 192.168.77.1/24.
func NewLAN(ctx context.Context, address string) (*LAN, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	ip, _, err := net.ParseCIDR(address)
	if err != nil {
		return nil, fmt.Errorf("virtual LAN: %w", err)
	}
	removeOrphans(ctx)
	for n := 0; ; n++ {
		l := &LAN{Name: fmt.Sprintf("%s%d-%d", lanPrefix, os.Getpid(), n), Host: ip}
		if _, err := os.Stat("/run/netns/" + l.Name); err == nil {
			continue
		}
		if err := ipCommand(ctx, "netns", "add", l.Name); err != nil {
			// Another test of this process may have taken the name meanwhile.
			if strings.Contains(err.Error(), "File exists") {
				continue
			}
			return nil, fmt.Errorf("virtual LAN: %w", err)
		}
		for _, args := range [][]string{
			{"link", "set", "lo", "up"},
			{"link", "add", "br0", "type", "bridge", "forward_delay", "0"},
			{"address", "add", address, "dev", "br0"},
			{"link", "set", "br0", "up"},
		} {
			if err := ipCommand(ctx, append([]string{"-n", l.Name}, args...)...); err != nil {
				l.Close()
				return nil, fmt.Errorf("virtual LAN: %w", err)
			}
		}
		return l, nil
	}
}

// Close removes the LAN.
func (l *LAN) Close() error {
	return ipCommand(context.Background(), "netns", "delete", l.Name)
}

// removeOrphans removes the LANs of processes that no longer live.
func removeOrphans(ctx context.Context) {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return // none was ever made
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), lanPrefix)
		if !ok {
			continue
		}
		pid, err := strconv.Atoi(strings.SplitN(rest, "-", 2)[0])
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			ipCommand(ctx, "netns", "delete", e.Name())
		}
	}
}

func ipCommand(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// addTap plugs a new tap device into the bridge.
func (l *LAN) addTap() (name string, remove func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name = fmt.Sprintf("tap%d", l.taps)
	l.taps++
	ctx := context.Background()
	for _, args := range [][]string{
		{"tuntap", "add", name, "mode", "tap"},
		{"link", "set", name, "master", "br0", "up"},
	} {
		if err := ipCommand(ctx, append([]string{"-n", l.Name}, args...)...); err != nil {
			return "", nil, err
		}
	}
	return name, func() { ipCommand(ctx, "-n", l.Name, "link", "delete", name) }, nil
}

// Command is exec.CommandContext for a program that runs on the LAN.
func (l *LAN) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", l.Name, name}, args...)...)
}

// Do calls f with the LAN as its network. Sockets that f opens stay on it.
func (l *LAN) Do(f func() error) error {
	done := make(chan error)
	go func() {
		// Without UnlockOSThread the thread ends with the goroutine, so
		// that no other one inherits the namespace.
		runtime.LockOSThread()
		ns, err := netns.GetFromName(l.Name)
		if err != nil {
			done <- fmt.Errorf("virtual LAN: %w", err)
			return
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			done <- fmt.Errorf("virtual LAN: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Listen is net.Listen on the LAN.
func (l *LAN) Listen(network, address string) (ln net.Listener, err error) {
	err = l.Do(func() (err error) { ln, err = net.Listen(network, address); return err })
	return ln, err
}

// ListenPacket is net.ListenPacket on the LAN.
func (l *LAN) ListenPacket(network, address string) (pc net.PacketConn, err error) {
	err = l.Do(func() (err error) { pc, err = net.ListenPacket(network, address); return err })
	return pc, err
}

// Dial connects to a numeric address on the LAN.
func (l *LAN) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = l.Do(func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
