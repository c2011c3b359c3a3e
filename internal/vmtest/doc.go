// Package vmtest runs virtual machines for tests and demonstrations: QEMU with
// BIOS or UEFI, CDs and USB sticks, several network cards, user networking or
// virtual LANs, a serial console to expect lines on and a keyboard and screen
// to look at.
//
// It needs Debian's qemu-system-x86 and, for UEFI, ovmf. Virtual LANs need
// root: they are network namespaces with a bridge and tap devices.
//
// A VM is started with [Start] and always ended with [VM.Close]; tests use
// [StartT], which does that and prints the exact QEMU command when the test
// fails.
package vmtest
