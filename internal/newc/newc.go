// Package newc writes cpio archives as the Linux kernel unpacks them into its
// initramfs. It exists because the boot medium's program counts kilobytes:
// u-root's cpio package, which also reads archives and lists files, costs it
// about 90 of them.
package newc

import (
	"bytes"
	"fmt"
)

// Record is a directory or a regular file of an archive. Owner is root, the
// time is 1970, so that equal records give equal bytes.
type Record struct {
	Name string // without leading slash; directories come before what is in them
	Perm uint32 // permission bits, such as 0o644
	Dir  bool
	Data []byte // of a file
}

const (
	modeDir  = 0o040000
	modeFile = 0o100000
	align    = 4 // name and data are padded to this many bytes
)

// Archive returns an archive of records in the "newc" format
// (Documentation/driver-api/early-userspace/buffer-format.rst). Its length is
// a multiple of 4, so archives can be put behind one another.
func Archive(records []Record) []byte {
	var b bytes.Buffer
	for i, r := range records {
		mode, links := r.Perm|modeFile, 1
		if r.Dir {
			mode, links = r.Perm|modeDir, 2
		}
		record(&b, i+1, mode, links, r.Name, r.Data)
	}
	record(&b, 0, 0, 1, "TRAILER!!!", nil)
	return b.Bytes()
}

func record(b *bytes.Buffer, ino int, mode uint32, links int, name string, data []byte) {
	// magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
	// rdevmajor, rdevminor, namesize, check
	fmt.Fprintf(b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		ino, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	b.WriteString(name)
	b.WriteByte(0)
	pad(b)
	b.Write(data)
	pad(b)
}

func pad(b *bytes.Buffer) {
	for b.Len()%align != 0 {
		b.WriteByte(0)
	}
}
