package root

import (
	"encoding/binary"
	"slices"
	"strings"
)

// xattrIndex returns the number that stands for an attribute's prefix, and
// what is left of the name (fs/erofs/xattr.h).
func xattrIndex(name string) (index byte, rest string) {
	switch name {
	case "system.posix_acl_access":
		return 2, ""
	case "system.posix_acl_default":
		return 3, ""
	}
	for _, p := range []struct {
		prefix string
		index  byte
	}{{"user.", 1}, {"trusted.", 4}, {"security.", 6}} {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok {
			return p.index, rest
		}
	}
	return 0, name
}

// xattrLength returns how long the attributes are as they stand behind an
// inode.
func xattrLength(attrs map[string]string) int64 {
	if len(attrs) == 0 {
		return 0
	}
	n := int64(xattrHeaderLength)
	for name, value := range attrs {
		_, rest := xattrIndex(name)
		n += (int64(xattrEntryLength+len(rest)+len(value)) + 3) &^ 3
	}
	return n
}

// xattrCount is what an inode says about a length.
func xattrCount(length int64) uint16 {
	if length == 0 {
		return 0
	}
	return uint16((length-xattrHeaderLength)/4 + 1)
}

// appendXattrs adds the attributes in the order of their names.
func appendXattrs(b []byte, attrs map[string]string) []byte {
	if len(attrs) == 0 {
		return b
	}
	names := make([]string, 0, len(attrs))
	for name := range attrs {
		names = append(names, name)
	}
	slices.Sort(names)
	b = append(b, make([]byte, xattrHeaderLength)...)
	for _, name := range names {
		index, rest := xattrIndex(name)
		value := attrs[name]
		b = append(b, byte(len(rest)), index)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		b = append(append(b, rest...), value...)
		if pad := -(xattrEntryLength + len(rest) + len(value)) & 3; pad > 0 {
			b = append(b, make([]byte, pad)...)
		}
	}
	return b
}
