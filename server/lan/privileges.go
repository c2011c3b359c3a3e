package lan

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capability is a privilege of capabilities(7), by its number.
type Capability uint

// The capabilities that services of a LAN may need.
const (
	NetBindService Capability = unix.CAP_NET_BIND_SERVICE
	NetRaw         Capability = unix.CAP_NET_RAW
)

// User is who the server runs as after the start.
type User struct {
	Name     string
	UID, GID int
	Groups   []int
}

// FindUser looks a user up, by name or number.
func FindUser(name string) (*User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return nil, fmt.Errorf("there is no user %s to run as: useradd --system --no-create-home --shell /usr/sbin/nologin %s, or name another one with --user", name, name)
		}
	}
	r := &User{Name: u.Username}
	if r.UID, err = strconv.Atoi(u.Uid); err == nil {
		r.GID, err = strconv.Atoi(u.Gid)
	}
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of user %s: %w", name, err)
	}
	for _, id := range ids {
		if g, err := strconv.Atoi(id); err == nil {
			r.Groups = append(r.Groups, g)
		}
	}
	return r, nil
}

// ownDepth is how deep below the data folder Own looks at each start: what a
// server makes at its start lies there. Deeper there may be millions of files.
const ownDepth = 2

// Own gives a user the data folder: all of it when the folder was not the
// user's before, else only what a start may just have made. Symbolic links are
// not followed.
func Own(path string, u *User) error {
	// Confined to the folder: whoever has the user's rights must not make root
	// give away other folders by putting links there meanwhile.
	root, err := os.OpenRoot(path)
	if err != nil {
		return fmt.Errorf("give the data folder to %s: %w", u.Name, err)
	}
	defer root.Close()
	info, err := root.Stat(".")
	if err != nil {
		return fmt.Errorf("give the data folder to %s: %w", u.Name, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	all := !ok || int(st.Uid) != u.UID
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := root.Lchown(p, u.UID, u.GID); err != nil {
			return err
		}
		if !all && d.IsDir() && strings.Count(p, "/") >= ownDepth {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("give the data folder to %s: %w", u.Name, err)
	}
	return nil
}

// Drop changes to a user, if the process is root's, and gives up all
// capabilities but those in keep, for good and in all threads.
func Drop(u *User, keep []Capability) error {
	if os.Geteuid() == 0 && u != nil && u.UID != 0 {
		if err := everyThread(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0); err != nil {
			return fmt.Errorf("keep capabilities: %w", err)
		}
		groups := u.Groups
		if len(groups) == 0 {
			groups = []int{u.GID}
		}
		if err := syscall.Setgroups(groups); err != nil {
			return fmt.Errorf("change to the groups of %s: %w", u.Name, err)
		}
		if err := syscall.Setresgid(u.GID, u.GID, u.GID); err != nil {
			return fmt.Errorf("change to the group of %s: %w", u.Name, err)
		}
		if err := syscall.Setresuid(u.UID, u.UID, u.UID); err != nil {
			return fmt.Errorf("change to user %s: %w", u.Name, err)
		}
	}
	// What the process does not have it cannot keep.
	var now [2]unix.CapUserData
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&head, &now[0]); err != nil {
		return fmt.Errorf("read the capabilities: %w", err)
	}
	var set [2]unix.CapUserData
	for _, c := range keep {
		bit := uint32(1) << (c % 32) & now[c/32].Permitted
		set[c/32].Effective |= bit
		set[c/32].Permitted |= bit
	}
	if err := errors.Join(
		everyThread(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0),
		everyThread(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0),
	); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	head = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&set[0])), 0); errno != 0 {
		return fmt.Errorf("give up capabilities: %w", errno)
	}
	return nil
}

// everyThread makes a system call in all threads of the process, since
// capabilities belong to threads. It works in programs without C only, as the
// server is built.
func everyThread(call, a, b, c uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(call, a, b, c, 0, 0, 0)
	if errno == unix.ENOTSUP {
		return errors.New("this program has been built with cgo, which knows no system calls in all threads: build it with CGO_ENABLED=0")
	}
	if errno != 0 {
		return errno
	}
	return nil
}
