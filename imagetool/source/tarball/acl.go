package tarball

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Tags of entries of an access control list (include/uapi/linux/posix_acl.h).
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	aclVersion = 2 // posix_acl_xattr.h
	aclNoID    = 1<<32 - 1

	maxACLText = 64 << 10
)

// acl is a POSIX access control list (acl(5)).
type acl []aclEntry

type aclEntry struct {
	tag  uint16
	perm uint16
	id   uint32
	name string // in place of id, until it is looked up
}

// parseACL reads the text form of acl(5) as tar programs write it: entries
// divided by commas or line feeds; star puts a number behind the permissions.
func parseACL(text string) (acl, error) {
	if len(text) > maxACLText {
		return nil, fmt.Errorf("it has more than %d bytes", maxACLText)
	}
	var out acl
	seen := make(map[uint16]bool)
	for _, s := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		s, _, _ = strings.Cut(s, "#") // "#effective:r--"
		f := strings.Split(strings.TrimSpace(s), ":")
		if len(f) == 1 && f[0] == "" {
			continue
		}
		if len(f) == 2 && (f[0] == "mask" || f[0] == "m" || f[0] == "other" || f[0] == "o") {
			f = []string{f[0], "", f[1]}
		}
		if len(f) < 3 || len(f) > 4 {
			return nil, fmt.Errorf("%q is no entry of one", s)
		}
		e := aclEntry{id: aclNoID}
		switch f[0] {
		case "user", "u":
			e.tag = aclUser
		case "group", "g":
			e.tag = aclGroup
		case "mask", "m":
			e.tag = aclMask
		case "other", "o":
			e.tag = aclOther
		default:
			return nil, fmt.Errorf("%q is no entry of one", s)
		}
		switch {
		case f[1] == "" && e.tag == aclUser:
			e.tag = aclUserObj
		case f[1] == "" && e.tag == aclGroup:
			e.tag = aclGroupObj
		case f[1] == "":
		case e.tag != aclUser && e.tag != aclGroup:
			return nil, fmt.Errorf("%q is no entry of one", s)
		default:
			number := f[1]
			if len(f) == 4 && f[3] != "" {
				number = f[3]
			}
			if n, err := strconv.ParseUint(number, 10, 32); err == nil && n != aclNoID {
				e.id = uint32(n)
			} else {
				e.name = f[1]
			}
		}
		for _, c := range f[2] {
			switch c {
			case 'r':
				e.perm |= 4
			case 'w':
				e.perm |= 2
			case 'x':
				e.perm |= 1
			case '-':
			default:
				return nil, fmt.Errorf("%q has no permissions", s)
			}
		}
		if e.tag != aclUser && e.tag != aclGroup {
			if seen[e.tag] {
				return nil, fmt.Errorf("%q is there twice", s)
			}
			seen[e.tag] = true
		}
		out = append(out, e)
	}
	if len(out) > 0 && !(seen[aclUserObj] && seen[aclGroupObj] && seen[aclOther]) {
		return nil, fmt.Errorf("%q lacks the entries of owner, group or others", text)
	}
	if len(out) > len(seen) && !seen[aclMask] {
		return nil, fmt.Errorf("%q lacks the mask", text)
	}
	return out, nil
}

// named tells whether there are names to be looked up.
func (a acl) named() bool {
	return slices.ContainsFunc(a, func(e aclEntry) bool { return e.name != "" })
}

// resolve looks names up. If one is missing it returns it and false.
func (a acl) resolve(users, groups map[string]uint32) (string, bool) {
	for i := range a {
		e := &a[i]
		if e.name == "" {
			continue
		}
		ids := users
		if e.tag == aclGroup {
			ids = groups
		}
		id, ok := ids[e.name]
		if !ok {
			return e.name, false
		}
		e.id, e.name = id, ""
	}
	return "", true
}

// binary returns the list as the value of an extended attribute
// (include/uapi/linux/posix_acl_xattr.h). For an access list that says no
// more than the mode does it is "", as the kernel keeps none then.
func (a acl) binary(access bool) string {
	if len(a) == 0 || access && len(a) == 3 {
		return ""
	}
	a = slices.Clone(a)
	slices.SortStableFunc(a, func(x, y aclEntry) int {
		if x.tag != y.tag {
			return int(x.tag) - int(y.tag)
		}
		return int(int64(x.id) - int64(y.id))
	})
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return string(b)
}

// mode returns the permission bits that go with an access list: the group's
// are the mask, if there is one (acl(5)).
func (a acl) mode() uint32 {
	var group, mask uint32
	mode, masked := uint32(0), false
	for _, e := range a {
		switch e.tag {
		case aclUserObj:
			mode |= uint32(e.perm) << 6
		case aclGroupObj:
			group = uint32(e.perm) << 3
		case aclMask:
			mask, masked = uint32(e.perm)<<3, true
		case aclOther:
			mode |= uint32(e.perm)
		}
	}
	if masked {
		group = mask
	}
	return mode | group
}

// parseAccounts returns the numbers of the names in passwd(5) or group(5).
func parseAccounts(data string) map[string]uint32 {
	out := make(map[string]uint32)
	for line := range strings.Lines(data) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 4)
		if len(f) < 3 {
			continue
		}
		if id, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			if _, ok := out[f[0]]; !ok {
				out[f[0]] = uint32(id)
			}
		}
	}
	return out
}
