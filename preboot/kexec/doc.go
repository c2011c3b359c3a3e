// Package kexec lays programs out in memory for kexec_load(2) of Linux on x86,
// and leads from the 64-bit mode in which Linux leaves
// (Linux, arch/x86/kernel/relocate_kernel_64.S) to their entries in 32-bit
// protected mode without paging.
package kexec

import "errors"

// ErrMemory is wrapped when there is no room in memory.
var ErrMemory = errors.New("not enough memory below 4 GiB")

// Page is the size of a page in bytes.
const Page = 4096
