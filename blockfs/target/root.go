package target

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/module"
)

// mountRoot mounts the root's files by type, read-only, and an overlay in
// memory over them at newRoot.
func (b *booter) mountRoot(d *child) error {
	kind := b.h.Root.Type
	for _, m := range []string{kind, "overlay"} {
		if err := b.mods.Load(m); err != nil && !knownFilesystem(m) {
			return &failure{"load the kernel module " + m, err, "push the image anew: its initramfs needs it"}
		}
	}
	for _, dir := range []string{lowerDir, upperDir, newRoot} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return &failure{"prepare the root", err, "the machine may have too little memory"}
		}
	}
	var files []string
	for _, f := range b.h.Root.Files {
		files = append(files, filepath.Join(filesDir, f.Name))
	}
	if err := b.mountLower(kind, files); err != nil {
		return &failure{"mount the " + kind + " root", err, "the image's kernel has to know this filesystem; push the image anew"}
	}
	if err := unix.Mount("inetboot", upperDir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, "mode=0755,size="+b.cmd.overlay); err != nil {
		return &failure{"mount memory for the overlay", err, "give another size with inetboot.overlay= on the command line"}
	}
	for _, dir := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(upperDir, dir), 0o755); err != nil {
			return &failure{"prepare the overlay", err, "give another size with inetboot.overlay= on the command line"}
		}
	}
	// The overlay's own root has the attributes of upper, which are not the image's.
	if err := copyAttributes(lowerDir, filepath.Join(upperDir, "upper")); err != nil {
		return &failure{"prepare the overlay", err, "try again"}
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lowerDir, upperDir, upperDir)
	if err := unix.Mount("inetboot", newRoot, "overlay", 0, data); err != nil {
		return &failure{"mount the overlay", err, "the image's kernel has to know overlayfs; push the image anew"}
	}
	return nil
}

func copyAttributes(from, to string) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if err := os.Chown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Chmod(to, st.Mode&0o7777)
}

// mountLower mounts the read-only root. An EROFS is mounted from the files
// where the kernel can (Linux 6.12); otherwise loop devices stand in between.
func (b *booter) mountLower(kind string, files []string) error {
	if kind == "erofs" && mountsErofsFiles() {
		var devices []string
		for _, f := range files[1:] {
			devices = append(devices, "device="+f)
		}
		err := unix.Mount(files[0], lowerDir, kind, unix.MS_RDONLY, strings.Join(devices, ","))
		if err == nil {
			return nil
		}
		// A kernel without CONFIG_EROFS_FS_BACKED_BY_FILE wants a block device.
		if !errors.Is(err, unix.ENOTBLK) {
			return err
		}
	}
	if err := b.mods.Load("loop"); err != nil && !errors.Is(err, module.ErrNotFound) {
		return err
	}
	var devs []string
	for i, f := range files {
		// Contents go past the page cache of the daemon's file, which would keep
		// them a second time: twice as fast, measured on Linux 6.18 with 709 MiB.
		// The small file of metadata is read in single pages at random, so there
		// the page cache and its read-ahead pay.
		dev, err := attachLoop(f, len(files) == 1 || i > 0)
		if err != nil {
			return err
		}
		defer dev.Close() // the mount holds it from then on
		devs = append(devs, dev.Name())
	}
	var data []string
	if kind == "erofs" {
		for _, d := range devs[1:] {
			data = append(data, "device="+d)
		}
	} else if len(devs) != 1 {
		return fmt.Errorf("a root of type %s has one file, this one has %d", kind, len(devs))
	}
	return unix.Mount(devs[0], lowerDir, kind, unix.MS_RDONLY, strings.Join(data, ","))
}

// mountsErofsFiles tells whether the kernel is Linux 6.12 or later. Asking an
// older one to mount a file would put an error message on the console.
func mountsErofsFiles() bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	major, minor, ok := release(unix.ByteSliceToString(u.Release[:]))
	return ok && (major > 6 || major == 6 && minor >= 12)
}

func release(s string) (major, minor int, ok bool) {
	n, err := fmt.Sscanf(s, "%d.%d", &major, &minor)
	return major, minor, n == 2 && err == nil
}

// attachLoop makes a loop device of a file. It disappears with its last user.
// direct asks for direct I/O; a kernel that cannot goes without.
func attachLoop(file string, direct bool) (*os.File, error) {
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	defer ctl.Close()
	back, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	defer back.Close()
	for {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("free loop device: %w", err)
		}
		dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("loop device: %w", err)
		}
		info := unix.LoopInfo64{Flags: unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR}
		if direct {
			info.Flags |= unix.LO_FLAGS_DIRECT_IO
		}
		copy(info.File_name[:len(info.File_name)-1], file)
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &unix.LoopConfig{Fd: uint32(back.Fd()), Info: info})
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) {
			// Before Linux 5.8 it takes two steps.
			if err = unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_FD, int(back.Fd())); err == nil {
				err = unix.IoctlLoopSetStatus64(int(dev.Fd()), &info)
				if direct {
					_ = unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_DIRECT_IO, 1)
				}
			}
		}
		if err == nil {
			return dev, nil
		}
		dev.Close()
		if !errors.Is(err, unix.EBUSY) { // somebody else took it
			return nil, fmt.Errorf("loop device for %s: %w", file, err)
		}
	}
}

// knownFilesystem tells whether the kernel has a filesystem, perhaps built in.
func knownFilesystem(name string) bool {
	b, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 && f[len(f)-1] == name {
			return true
		}
	}
	return false
}
