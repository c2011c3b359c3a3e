// Package cache keeps blocks and plain files of a store in a folder, from one
// boot to the next: on a disk, on a partition of the boot stick, or in RAM on
// tmpfs.
//
// Blocks lie one behind the other in segment files that are only ever appended
// to, which suits sticks and FAT; what is to make room goes a whole segment at
// a time. Images share blocks because they are named by their content.
// docs/formats.md has the format byte by byte.
//
// # What it promises
//
// Get returns what was stored, or damaged bytes: it does not verify. Whoever
// reads verifies on every hit, and calls Drop when the bytes are bad; the next
// Put of that block repairs the cache, also for the time after the next Open.
// Losing power, being killed and damage to any byte cost the blocks concerned
// and nothing else, and never keep a cache from being opened.
//
// No failure of the disk reaches a reader. When the disk is full the cache
// makes room or stops writing; when it cannot be written any more, what is there is
// still served; when it does not answer, a read is given up
// after Options.ReadLimit and counts as a miss, and after some of these the cache
// is out of service. Put never waits for the disk.
//
// # Deadlocks
//
// The process that uses a cache serves the root filesystem of its machine. So
// nothing in here touches a path outside of the cache's folder once it is open:
// no symbolic link in it is followed out of it, no pipe in it is waited for.
// The folder must not lie on a filesystem whose blocks come through this cache.
//
// # Memory
//
// The index has some 50 bytes for each block, in all about 10 MB with the
// default Options.MaxBlocks; the queue for writing has Options.Queue; reading
// needs a buffer of up to 1 MiB for each of the few reads that are under way.
package cache
