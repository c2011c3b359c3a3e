package target

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/kmsg"
)

// Shutdown is /run/initramfs/shutdown: systemd has killed all processes but
// those whose names begin with "@", moved into /run/initramfs, left the root at
// /oldroot, and runs this as process 1 with what to do as its first argument:
// poweroff, reboot, halt or kexec (systemd-shutdown(8),
// https://systemd.io/INITRD_INTERFACE). It does not return.
//
// Nothing has to be saved: the root is read-only and what lies over it is in
// memory. So everything here is tried for a bounded time and then left.
func Shutdown(args []string) {
	log := slog.New(slog.DiscardHandler)
	if k, err := os.OpenFile("/dev/kmsg", os.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		log = slog.New(kmsg.NewHandler(k, "inetboot", slog.LevelInfo))
	}
	verb := "poweroff"
	if len(args) > 0 {
		verb = args[0]
	}
	done := make(chan error, 1)
	go func() { done <- leaveRoot() }()
	select {
	case err := <-done:
		if err != nil {
			log.Warn("not all of the root could be unmounted", "error", err)
		} else {
			log.Info("root unmounted: " + verb)
		}
	case <-time.After(8 * time.Second):
		log.Warn("the root does not let go: " + verb + " without waiting for it")
	}
	for {
		if err := unix.Reboot(rebootCommand(verb)); err != nil {
			log.Error("cannot "+verb, "error", err)
			_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		}
		time.Sleep(time.Second)
	}
}

func rebootCommand(verb string) int {
	switch verb {
	case "reboot":
		return unix.LINUX_REBOOT_CMD_RESTART
	case "halt":
		return unix.LINUX_REBOOT_CMD_HALT
	case "kexec":
		return unix.LINUX_REBOOT_CMD_KEXEC
	}
	return unix.LINUX_REBOOT_CMD_POWER_OFF
}

// leaveRoot unmounts everything on the root, then the root, then what it was
// made of; the daemon ends when its filesystem is unmounted.
func leaveRoot() error {
	var last error
	for range 5 { // what holds a mount may be another mount
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return err
		}
		mounts := toUnmount(string(b))
		if len(mounts) == 0 {
			return nil
		}
		last = nil
		for _, m := range mounts {
			if err := unix.Unmount(m, unix.UMOUNT_NOFOLLOW); err != nil {
				last = fmt.Errorf("unmount %s: %w", m, err)
			}
		}
		if last == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return last
}

// toUnmount returns what of /proc/self/mountinfo belongs to the root, in the
// order in which it can be unmounted: first what was mounted last.
func toUnmount(mountinfo string) []string {
	var out []string
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		dir := unescape(f[4])
		if dir == "/oldroot" || strings.HasPrefix(dir, "/oldroot/") || strings.Contains(dir+"/", "/inetboot/") && strings.HasPrefix(dir, "/run/initramfs/") {
			out = append(out, dir)
		}
	}
	slices.Reverse(out)
	// The overlay and what is on it go before what it consists of.
	slices.SortStableFunc(out, func(a, b string) int {
		return layer(a) - layer(b)
	})
	return out
}

func layer(dir string) int {
	switch {
	case strings.HasPrefix(dir, "/oldroot"):
		return 0
	case dir == filesDir:
		return 2
	}
	return 1
}

// unescape undoes the octal escapes of mountinfo (proc(5)).
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v := (int(s[i+1])-'0')<<6 | (int(s[i+2])-'0')<<3 | (int(s[i+3]) - '0'); v > 0 && v < 256 {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
