package dir

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxArgument is how long a path may be that goes to one system call.
const maxArgument = 3000

// openBeneath opens the file p below the directory root, without following
// symbolic links and without touching its access time where that is allowed.
// p may be longer than PATH_MAX.
func openBeneath(root int, p string, flags int) (*os.File, error) {
	at := root
	name := p
	for len(p) > maxArgument {
		cut := strings.LastIndexByte(p[:maxArgument], '/')
		if cut <= 0 {
			return nil, &os.PathError{Op: "open", Path: name, Err: unix.ENAMETOOLONG}
		}
		fd, err := openat(at, p[:cut], unix.O_PATH|unix.O_DIRECTORY)
		if at != root {
			_ = unix.Close(at) // nothing was written through it
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		at, p = fd, p[cut+1:]
	}
	if p == "" {
		p = "."
	}
	fd, err := openat(at, p, flags|unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) {
		fd, err = openat(at, p, flags)
	}
	if at != root {
		_ = unix.Close(at)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openat is openat2(2) that refuses symbolic links anywhere in p, or, where
// the kernel is older than 5.6 or a sandbox does not know it, openat(2), which
// refuses them at the end.
func openat(dir int, p string, flags int) (int, error) {
	for {
		fd, err := unix.Openat2(dir, p, &unix.OpenHow{
			Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		})
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOSYS):
			return unix.Openat(dir, p, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		}
		return fd, err
	}
}
