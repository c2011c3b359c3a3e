// Package manager talks to the service manager that started the server, by the
// protocols of systemd: sd_notify(3), sd_pid_notify_with_fds(3) and
// sd_listen_fds(3). Without one, nothing happens.
package manager

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Notify tells how the service is doing, such as "READY=1".
func Notify(state string) error { return send(state, nil) }

func send(state string, f *os.File) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	failed := func(err error) error { return fmt.Errorf("tell the service manager: %w", err) }
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	var rights []byte
	if f != nil {
		rights = unix.UnixRights(int(f.Fd()))
	}
	// A name that begins with @ is one of the abstract namespace.
	if err := unix.Sendmsg(fd, []byte(state), rights, &unix.SockaddrUnix{Name: socket}, unix.MSG_NOSIGNAL); err != nil {
		return failed(err)
	}
	return nil
}

// Keeps tells whether there is a service manager that may keep files.
func Keeps() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// maxName is how long the names of kept files can be.
const maxName = 255

// Keep has the service manager hold f while the service is started anew, under
// a name of at most 255 printable ASCII characters without a colon. A unit
// without FileDescriptorStoreMax= has it closed instead. f stays the caller's.
func Keep(name string, f *os.File) error {
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' || r == ':' }) {
		return fmt.Errorf("keep an open file: the name %.300q is not one", name)
	}
	return send("FDSTORE=1\nFDNAME="+name, f)
}

// firstFile is the number of the first file that is passed
// (SD_LISTEN_FDS_START).
const firstFile = 3

// File is one that the manager has passed.
type File struct {
	Name string
	*os.File
}

// Take returns the files that the manager has passed to this process, which
// are the caller's from now on: the manager no longer keeps them. It is for the
// start, once.
func Take() ([]File, error) {
	count, pid := os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID")
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, v := range []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(v); err != nil {
			return nil, fmt.Errorf("take files from the service manager: %w", err)
		}
	}
	n, err := strconv.Atoi(count)
	if err != nil || n <= 0 || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // none, or for somebody else
	}
	var out []File
	var errs []error
	done := make(map[string]bool)
	for i := range n {
		unix.CloseOnExec(firstFile + i)
		f := File{File: os.NewFile(uintptr(firstFile+i), "file of the service manager")}
		if i < len(names) {
			f.Name = names[i]
		}
		out = append(out, f)
		if f.Name != "" && !done[f.Name] {
			done[f.Name] = true
			errs = append(errs, send("FDSTOREREMOVE=1\nFDNAME="+f.Name, nil))
		}
	}
	return out, errors.Join(errs...)
}
