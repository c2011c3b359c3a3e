package marks

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// machine returns a name for where process numbers mean the same: this boot
// of this machine, and this PID namespace (pid_namespaces(7)). It is empty
// where that cannot be told.
func machine() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + namespace
}

// killed tells whether the process that wrote the note is known to be gone.
func (n Note) killed() bool {
	if n.Machine == "" || n.Machine != machine() || n.PID <= 0 {
		return false
	}
	return errors.Is(unix.Kill(n.PID, 0), unix.ESRCH)
}
