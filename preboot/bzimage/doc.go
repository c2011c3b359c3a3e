// Package bzimage starts kernels of the Linux x86 boot protocol (Linux,
// Documentation/arch/x86/boot.rst) that kexec_file_load(2) does not take: those
// whose header does not allow them above 4 GiB, such as memtest86+. It lays the
// kernel, its initrd and the zero page out below 4 GiB for kexec_load(2).
//
// The kernel starts at its 32-bit entry, which kernels of 64 bits have, too:
// protected mode without paging, ESI the address of the zero page.
package bzimage

import "errors"

// ErrFormat is wrapped when a file is no kernel that can be started so.
var ErrFormat = errors.New("it is no bzImage for this machine")
