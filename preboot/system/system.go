// Package system does what the first process of a machine has to do.
package system

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Prepare makes a bare initramfs usable. It goes on after errors, which it
// joins, since there is nobody to go back to.
func Prepare() error {
	// Wait for randomness once, here: libraries that ask with GRND_NONBLOCK in
	// a loop keep an idle machine from ever gathering any.
	var b [1]byte
	_, err := unix.Getrandom(b[:], 0)
	if err != nil {
		err = fmt.Errorf("wait for randomness: %w", err)
	}
	// Ctrl-C is a key to us, and a console that hangs up is only one less.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGTSTP)
	for _, m := range []struct {
		kind, at string
		flags    uintptr
		data     string
	}{
		{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=0755"},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"tmpfs", "/tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		if e := os.MkdirAll(m.at, 0o755); e != nil {
			err = errors.Join(err, fmt.Errorf("make a mount point: %w", e))
		}
		if e := unix.Mount(m.kind, m.at, m.kind, m.flags, m.data); e != nil && !errors.Is(e, syscall.EBUSY) {
			err = errors.Join(err, fmt.Errorf("mount %s on %s: %w", m.kind, m.at, e))
		}
	}
	if e := os.MkdirAll("/etc", 0o755); e != nil {
		err = errors.Join(err, fmt.Errorf("make a folder: %w", e))
	}
	// Only emergencies may paint over the menu.
	if e := os.WriteFile("/proc/sys/kernel/printk", []byte("1 4 1 1"), 0o644); e != nil {
		err = errors.Join(err, fmt.Errorf("silence the kernel: %w", e))
	}
	return err
}

// RaiseClock sets the machine's clock to floor if it is earlier, which a clock
// that runs without a battery is. It tells whether it did.
func RaiseClock(floor time.Time) (bool, error) {
	if !time.Now().Before(floor) {
		return false, nil
	}
	if err := SetClock(floor); err != nil {
		return false, err
	}
	return true, nil
}

// SetClock sets the machine's clock.
func SetClock(t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	if err := unix.Settimeofday(&tv); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}

// Driver returns the name of the driver of a network link, "" if it is not
// known: virtual links have none.
func Driver(link string) string {
	to, err := os.Readlink("/sys/class/net/" + link + "/device/driver")
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// Links returns the names of the network links that have hardware behind them,
// sorted.
func Links() []string {
	found, err := filepath.Glob("/sys/class/net/*/device")
	if err != nil {
		return nil // only for a bad pattern
	}
	var out []string
	for _, f := range found {
		out = append(out, filepath.Base(filepath.Dir(f)))
	}
	return out
}

// KernelLog returns the kernel's messages, line by line, the oldest first.
func KernelLog() ([]string, error) {
	const readAll, bufferSize = 3, 10 // syslog(2)
	n, err := unix.Klogctl(bufferSize, nil)
	if err != nil {
		return nil, fmt.Errorf("read the kernel's messages: %w", err)
	}
	b := make([]byte, min(max(n, 0), 1<<20))
	if n, err = unix.Klogctl(readAll, b); err != nil {
		return nil, fmt.Errorf("read the kernel's messages: %w", err)
	}
	var lines []string
	for l := range strings.Lines(string(b[:n])) {
		_, text, ok := strings.Cut(l, ">") // without the priority
		if !ok {
			text = l
		}
		lines = append(lines, strings.TrimRight(text, "\n"))
	}
	return lines, nil
}

// Reboot restarts the machine. It returns only if that fails.
func Reboot() error { return end(unix.LINUX_REBOOT_CMD_RESTART, "restart") }

// PowerOff switches the machine off. It returns only if that fails.
func PowerOff() error { return end(unix.LINUX_REBOOT_CMD_POWER_OFF, "switch off") }

func end(cmd int, what string) error {
	unix.Sync()
	if err := unix.Reboot(cmd); err != nil {
		return fmt.Errorf("%s the machine: %w", what, err)
	}
	return nil
}
