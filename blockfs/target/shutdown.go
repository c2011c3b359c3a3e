package target

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/daemon"
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
	releaseConsole()
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

// releaseConsole opens the standard files anew: the ones inherited are on the
// old root's /dev.
func releaseConsole() {
	null, err := unix.Open("/dev/null", unix.O_RDWR, 0)
	if err != nil {
		return
	}
	for fd := range 3 {
		_ = unix.Dup3(null, fd, 0)
	}
	unix.Close(null)
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
// made of, and waits for the daemon, which ends with its last file.
func leaveRoot() error {
	var last error
	for pass := 0; ; pass++ { // what holds a mount may be another mount
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return err
		}
		mounts := toUnmount(string(b))
		if len(mounts) == 0 {
			break
		}
		if pass == 20 {
			return last
		}
		for _, m := range mounts {
			flags := unix.UMOUNT_NOFOLLOW
			if m.lazy {
				flags |= unix.MNT_DETACH
			}
			if err := unix.Unmount(m.dir, flags); err != nil {
				last = fmt.Errorf("unmount %s: %w", m.dir, err)
			}
		}
		if pass > 0 {
			time.Sleep(100 * time.Millisecond)
		}
	}
	for daemonRuns() {
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func daemonRuns() bool {
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return false
	}
	for _, p := range procs {
		if b, err := os.ReadFile(p); err == nil && strings.HasPrefix(string(b), daemon.Name+"\x00") {
			return true
		}
	}
	return false
}

type mounted struct {
	dir  string
	lazy bool // nothing is lost when it goes only from sight
}

// lazyTypes are filesystems without anything to write back. Some process has
// files open on them always. The daemon's is busy until the overlay has gone,
// which may in turn have it below itself: it goes out of the way first.
var lazyTypes = []string{"proc", "sysfs", "devtmpfs", "devpts", "tmpfs", "ramfs", "cgroup", "cgroup2", "mqueue", "securityfs", "fuse.blockfs"}

// toUnmount returns what of /proc/self/mountinfo belongs to the root, in the
// order in which it can be unmounted: first what was mounted last. systemd
// binds or moves /run, so the parts of the root may be at two places.
func toUnmount(mountinfo string) []mounted {
	var out []mounted
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		dir := unescape(f[4])
		if dir == "/oldroot" || strings.HasPrefix(dir, "/oldroot/") || strings.HasPrefix(dir, stateDir+"/") {
			kind := ""
			if i := slices.Index(f, "-"); i > 0 && i+1 < len(f) {
				kind = f[i+1]
			}
			out = append(out, mounted{dir, slices.Contains(lazyTypes, kind)})
		}
	}
	slices.Reverse(out)
	return out
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
