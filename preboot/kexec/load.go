package kexec

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// segment is struct kexec_segment of Linux (include/uapi/linux/kexec.h).
type segment struct {
	buf   *byte
	bufsz uintptr
	mem   uintptr
	memsz uintptr
}

// Load gives the layout to the running kernel, which keeps a copy.
func (l *Layout) Load() error {
	list := make([]segment, len(l.Segments))
	var pin runtime.Pinner
	defer pin.Unpin()
	for i, s := range l.Segments {
		list[i] = segment{unsafe.SliceData(s.Data), uintptr(len(s.Data)), uintptr(s.At), uintptr(s.Size)}
		if len(s.Data) > 0 {
			pin.Pin(list[i].buf)
		}
	}
	_, _, errno := unix.Syscall6(unix.SYS_KEXEC_LOAD, uintptr(l.Entry), uintptr(len(list)), uintptr(unsafe.Pointer(unsafe.SliceData(list))), 0, 0, 0)
	switch {
	case errno == 0:
		return nil
	case errors.Is(errno, syscall.EPERM):
		return fmt.Errorf("kexec_load: this kernel is locked down and starts no programs that are not signed for it: %w", errno)
	case errors.Is(errno, syscall.ENOSYS):
		return fmt.Errorf("kexec_load: this kernel lacks it (CONFIG_KEXEC): %w", errno)
	case errors.Is(errno, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("kexec_load: %w: %w", ErrMemory, errno)
	}
	return fmt.Errorf("kexec_load: %w", errno)
}
