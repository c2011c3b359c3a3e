package target

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/inroot"
)

// inits is where images have their init, if the command line names none.
var inits = []string{"/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/etc/init", "/bin/init"}

// findInit returns the path, in root, of the init to start.
func findInit(root, wanted string) (string, error) {
	candidates := inits
	if wanted != "" {
		candidates = []string{wanted}
	}
	var errs []error
	for _, c := range candidates {
		real, err := inroot.Resolve(root, c)
		if err == nil {
			var st unix.Stat_t
			if err = unix.Lstat(filepath.Join(root, real), &st); err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0) {
				err = errors.New("not a program")
			}
		}
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", c, err))
	}
	return "", errors.Join(errs...)
}

// switchRoot makes root the root of this process and empties the initramfs.
func switchRoot(root string) error {
	for _, dir := range []string{"proc", "sys", "dev", "run"} {
		to := filepath.Join(root, dir)
		if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := unix.Mount("/"+dir, to, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move /%s: %w", dir, err)
		}
	}
	old, err := os.Open("/")
	if err != nil {
		return err
	}
	defer old.Close()
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := emptyInitramfs(int(old.Fd())); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return os.Chdir("/")
}

// emptyInitramfs frees the memory of the initramfs in dir. It touches nothing
// unless dir is on a filesystem in memory.
func emptyInitramfs(dir int) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(dir, &fs); err != nil {
		return err
	}
	if fs.Type != unix.RAMFS_MAGIC && fs.Type != unix.TMPFS_MAGIC {
		return errors.New("the initramfs is not in memory")
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	removeIn(dir, st.Dev)
	return nil
}

// removeIn removes what is in a folder and on one device. What cannot be
// removed stays: it only costs memory.
func removeIn(dir int, dev uint64) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), "initramfs")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, name := range names {
		var st unix.Stat_t
		if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Dev != dev {
			continue
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			_ = unix.Unlinkat(fd, name, 0)
			continue
		}
		if sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
			removeIn(sub, dev)
			unix.Close(sub)
		}
		_ = unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
	}
}
