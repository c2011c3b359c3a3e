package cachedisk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const mountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME

// attempt is one way to call mount(2).
type attempt struct{ fstype, data string }

// attempts says how a filesystem of a type may be mounted, best first. The
// next is tried when the kernel does not know the one before, or its options.
func attempts(fstype string, readOnly bool) []attempt {
	switch fstype {
	case FAT:
		// Which character sets a kernel has, and which one it takes without being
		// asked, is its configuration's choice.
		const common = "fmask=0177,dmask=0077,shortname=mixed,errors=remount-ro"
		return []attempt{{FAT, common}, {FAT, common + ",iocharset=ascii"}, {FAT, common + ",iocharset=utf8"}, {FAT, common + ",iocharset=iso8859-1"}}
	case ExFAT:
		return []attempt{{ExFAT, "fmask=0177,dmask=0077,errors=remount-ro"}}
	case Ext2, Ext3, Ext4:
		// errors=: the filesystem's own choice may be to stop the machine.
		data := "errors=remount-ro"
		if readOnly && fstype != Ext2 {
			data += ",noload"
		}
		// ext4 reads the older ones as well, and may be the only one there.
		list := []attempt{{fstype, data}}
		if fstype != Ext4 {
			list = append(list, attempt{Ext4, data})
		}
		return list
	case XFS:
		if readOnly {
			return []attempt{{XFS, "norecovery"}}
		}
	case Btrfs:
		if readOnly {
			return []attempt{{Btrfs, "rescue=nologreplay"}, {Btrfs, "nologreplay"}} // the second before Linux 5.9
		}
	}
	return []attempt{{fstype, ""}}
}

// mountDevice mounts a device. load, if not nil, gets a type's kernel module.
func mountDevice(node, dir, fstype string, readOnly bool, load func(string) error) error {
	flags := uintptr(mountFlags)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	loaded := map[string]error{}
	var err error
	for _, a := range attempts(fstype, readOnly) {
		if _, done := loaded[a.fstype]; load != nil && !done {
			loaded[a.fstype] = load(a.fstype) // may fail, and be built in
		}
		if err = unix.Mount(node, dir, a.fstype, flags, a.data); err == nil {
			return nil
		}
		if errors.Is(err, unix.ENODEV) && loaded[a.fstype] != nil {
			err = fmt.Errorf("%w: %w", err, loaded[a.fstype])
		}
		err = fmt.Errorf("mount %s (%s) at %s: %w", node, a.fstype, dir, err)
		if !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	return err
}

// unmount takes a mount away, at once if it can, else as soon as nobody uses it.
func unmount(dir string) error {
	err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}
