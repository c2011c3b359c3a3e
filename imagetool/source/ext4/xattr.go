package ext4

import (
	"bytes"
	"fmt"
)

// xattrMagic begins both places of extended attributes
// (Documentation/filesystems/ext4/attributes.rst).
const xattrMagic = 0xEA020000

// maxXattrValue bounds a value, in bytes; Linux allows no longer ones.
const maxXattrValue = 64 << 10

// xattrPrefix returns what an attribute's name begins with.
func xattrPrefix(index byte) (string, bool) {
	p, ok := map[byte]string{
		1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security.", 7: "system.",
	}[index]
	return p, ok
}

// xattrs calls found for each extended attribute of i. Those of unknown kinds
// have a name that begins with "?".
func (f *filesystem) xattrs(i *inode, found func(name string, value []byte) error) error {
	if len(i.rest) >= 4 && le.Uint32(i.rest) == xattrMagic {
		if err := f.xattrEntries(i, i.rest[4:], i.rest[4:], found); err != nil {
			return err
		}
	}
	if i.acl == 0 {
		return nil
	}
	b := make([]byte, f.blockSize)
	if err := f.readBlocks(b, i.acl, 0); err != nil {
		return fmt.Errorf("extended attributes of inode %d: %w", i.number, err)
	}
	if le.Uint32(b) != xattrMagic {
		return bad("extended attributes of inode %d", i.number)
	}
	return f.xattrEntries(i, b[32:], b, found)
}

// xattrEntries reads a list of entries. Offsets of values count from the
// beginning of values.
func (f *filesystem) xattrEntries(i *inode, entries, values []byte, found func(name string, value []byte) error) error {
	for len(entries) >= 4 && le.Uint32(entries) != 0 {
		if len(entries) < 16 || len(entries) < 16+int(entries[0]) {
			return bad("extended attributes of inode %d", i.number)
		}
		nameLen, index := int(entries[0]), entries[1]
		offset, inum, size := int(le.Uint16(entries[2:])), le.Uint32(entries[4:]), int64(le.Uint32(entries[8:]))
		name := string(entries[16 : 16+nameLen])
		if size > maxXattrValue {
			return bad("an extended attribute of inode %d has %d bytes", i.number, size)
		}
		var value []byte
		if inum != 0 {
			v, err := f.xattrInode(inum, size)
			if err != nil {
				return fmt.Errorf("extended attributes of inode %d: %w", i.number, err)
			}
			value = v
		} else {
			if offset+int(size) > len(values) {
				return bad("extended attributes of inode %d", i.number)
			}
			value = values[offset : offset+int(size)]
		}
		prefix, ok := xattrPrefix(index)
		if !ok {
			prefix = fmt.Sprintf("?%d.", index)
		}
		if index == 2 || index == 3 {
			acl, err := accessList(value)
			if err != nil {
				return fmt.Errorf("inode %d: %w", i.number, err)
			}
			value, name = acl, ""
		}
		if err := found(prefix+name, value); err != nil {
			return err
		}
		next := (16 + nameLen + 3) &^ 3
		if next > len(entries) {
			break
		}
		entries = entries[next:]
	}
	return nil
}

// xattrInode reads a value that lies in an inode of its own.
func (f *filesystem) xattrInode(number uint32, size int64) ([]byte, error) {
	v, err := f.inode(number)
	if err != nil {
		return nil, err
	}
	if v.flags&flagEAInode == 0 || v.flags&flagInline != 0 || v.size != size {
		return nil, bad("inode %d does not hold an attribute of %d bytes", number, size)
	}
	c, err := f.content(v)
	if err != nil {
		return nil, err
	}
	return c.all(maxXattrValue)
}

// accessList turns an access control list from the form on the disk, which
// leaves out ids that mean nothing (fs/ext4/acl.h), into that of getxattr(2)
// (include/uapi/linux/posix_acl_xattr.h).
func accessList(b []byte) ([]byte, error) {
	if len(b) < 4 || le.Uint32(b) != 1 {
		return nil, bad("access control list of an unknown version")
	}
	out := le.AppendUint32(nil, 2)
	for b = b[4:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, bad("access control list")
		}
		tag, id, length := le.Uint16(b), uint32(0xffffffff), 4
		if tag == 0x02 || tag == 0x08 { // a user, a group
			if len(b) < 8 {
				return nil, bad("access control list")
			}
			id, length = le.Uint32(b[4:]), 8
		}
		out = append(out, b[:4]...)
		out = le.AppendUint32(out, id)
		b = b[length:]
	}
	return out, nil
}

// inlineData returns what lies in the inode itself: in i_block, and, if that
// is too small, in the attribute system.data
// (Documentation/filesystems/ext4/inlinedata.rst).
func (f *filesystem) inlineData(i *inode) ([]byte, error) {
	data := bytes.Clone(i.block[:])
	if len(i.rest) >= 4 && le.Uint32(i.rest) == xattrMagic {
		err := f.xattrEntries(i, i.rest[4:], i.rest[4:], func(name string, value []byte) error {
			if name == inlineName {
				data = append(data, value...)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return data, nil
}

// inlineName is the attribute that holds the rest of inline data.
const inlineName = "system.data"
