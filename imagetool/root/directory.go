package root

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/imagetool/source"
)

// dirent is an entry of a directory.
type dirent struct {
	name  string
	entry *source.Entry
}

// direntsOf returns what stands in a directory, sorted by the bytes of the
// names, "." and ".." among them.
func direntsOf(dir, parent *source.Entry) []dirent {
	list := make([]dirent, 0, len(dir.Children())+2)
	list = append(list, dirent{".", dir}, dirent{"..", parent})
	prefix := len(dir.Path)
	if prefix > 0 {
		prefix++
	}
	for _, c := range dir.Children() {
		list = append(list, dirent{c.Path[prefix:], c})
	}
	slices.SortFunc(list, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	return list
}

// blockEnd returns how many of list fit into a block, and how many bytes they
// take there.
func blockEnd(list []dirent) (n, length int) {
	for n < len(list) {
		more := direntLength + len(list[n].name)
		if length+more > PageSize {
			break
		}
		length += more
		n++
	}
	return n, length
}

// directoryLength returns the length of a directory in bytes: all blocks but
// the last are whole.
func directoryLength(list []dirent) int64 {
	total := int64(0)
	for len(list) > 0 {
		n, length := blockEnd(list)
		if list = list[n:]; len(list) > 0 {
			length = PageSize
		}
		total += int64(length)
	}
	return total
}

// appendDirectory adds the blocks of a directory, the last one without filling
// it up. number returns the number of an entry's inode.
func appendDirectory(b []byte, list []dirent, number func(*source.Entry) uint64) []byte {
	le := binary.LittleEndian
	for len(list) > 0 {
		n, length := blockEnd(list)
		at := n * direntLength
		for _, d := range list[:n] {
			b = le.AppendUint64(b, number(d.entry))
			b = le.AppendUint16(b, uint16(at))
			b = append(b, fileType(d.entry), 0)
			at += len(d.name)
		}
		for _, d := range list[:n] {
			b = append(b, d.name...)
		}
		if list = list[n:]; len(list) > 0 {
			b = append(b, make([]byte, PageSize-length)...)
		}
	}
	return b
}

// fileType returns what entries of directories call a type.
func fileType(e *source.Entry) byte {
	switch e.Type() {
	case source.TypeRegular:
		return 1
	case source.TypeDir:
		return 2
	case source.TypeChar:
		return 3
	case source.TypeBlock:
		return 4
	case source.TypeFIFO:
		return 5
	case source.TypeSocket:
		return 6
	case source.TypeSymlink:
		return 7
	}
	return 0
}
