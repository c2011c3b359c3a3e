package boot

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrLoad is wrapped when the kernel does not take what it shall start.
var ErrLoad = errors.New("the kernel cannot be loaded")

// ErrKind is wrapped when kexec_file_load is not for kernels of this kind, or is
// not there: another way may start them.
var ErrKind = errors.New("it is no kernel for kexec_file_load")

// Load gives kernel and initrd, which may be nil, to the running kernel, which
// checks that they can be started and keeps a copy. Files have to be open for
// reading only.
func Load(kernel, initrd *os.File, cmdline string) error {
	fd, flags := -1, unix.KEXEC_FILE_NO_INITRAMFS
	if initrd != nil {
		fd, flags = int(initrd.Fd()), 0
	}
	err := unix.KexecFileLoad(int(kernel.Fd()), fd, cmdline, flags)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("%w: %w (a bzImage for 64-bit x86 is wanted): %w", ErrLoad, ErrKind, err)
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS):
		return fmt.Errorf("%w: %w: %w", ErrLoad, ErrKind, err)
	case errors.Is(err, syscall.ENOMEM):
		return fmt.Errorf("%w: memory ran out: %w", ErrLoad, err)
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%w: this kernel is locked down and starts only kernels signed for it: %w", ErrLoad, err)
	}
	return fmt.Errorf("%w: kexec_file_load: %w", ErrLoad, err)
}

// Exec starts the loaded kernel. It returns only if that fails.
func Exec() error {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_KEXEC); err != nil {
		return fmt.Errorf("start the loaded kernel: %w", err)
	}
	return nil
}
