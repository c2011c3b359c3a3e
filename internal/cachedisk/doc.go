// Package cachedisk finds the storage that has a cache folder, mounts it, and
// reads and writes the small state file in that folder.
//
// A cache folder is a folder named "inetboot-cache", or by its old name
// "knxblock", at the top of a FAT, exFAT, ext2/3/4, XFS or btrfs filesystem.
// Nobody but the owner of the disk makes it: a disk without one is never
// written to.
//
// # Other people's disks
//
// The disks of a machine may belong to systems that are hibernated, that
// crashed a moment ago, or that are half of a mirror. So [Find] looks into each
// of them read-only and without replaying a journal; only the one that has the
// folder, and was chosen, is mounted for writing. Not looked at are disks that
// have partitions, members of RAID sets and of filesystems on several disks,
// and places where two filesystems seem to lie one over the other. On XFS, a
// folder that was made just before a crash is not seen until its own system has
// replayed the journal.
//
// # Hanging
//
// A disk that does not answer blocks whoever asks it, for minutes and beyond the
// reach of signals. Every question to a disk is asked by a goroutine that is
// abandoned after [Options.Limit], together with its mount. What
// reads from the mounted folder later has to take the same care.
//
// # Size
//
// The package is part of the boot medium's program and imports little.
package cachedisk
