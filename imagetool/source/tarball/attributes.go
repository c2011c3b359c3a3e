package tarball

import (
	"archive/tar"
	"encoding/base64"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/imagetool/source"
)

// Prefixes and names of pax records that extend a file's attributes.
const (
	paxXattr        = "SCHILY.xattr."     // star, GNU tar, Go, libarchive
	paxLibarchive   = "LIBARCHIVE.xattr." // libarchive: the name as in a URL, the value in base64
	paxACL          = "SCHILY.acl."       // as text
	paxACLAccess    = "SCHILY.acl.access"
	paxACLDefault   = "SCHILY.acl.default"
	paxSELinux      = "RHT.security.selinux"
	attrSELinux     = "security.selinux"
	attrACLAccess   = "system.posix_acl_access"
	attrACLDefault  = "system.posix_acl_default"
	maxAccountsFile = 16 << 20
)

// gnuName decodes what GNU tar does to names of attributes, since "=" ends a
// pax record's name.
var gnuName = strings.NewReplacer("%3D", "=", "%25", "%")

// attributes sets e's extended attributes.
func (r *reader) attributes(h *tar.Header, e *source.Entry) {
	set := func(name, value string) {
		if !source.KeepXattr(name) || len(name) > source.MaxXattrName || len(value) > source.MaxXattrValue {
			r.b.Note("extended attributes %q are left out, the first is of /%s", name, e.Path)
			return
		}
		if e.Xattrs == nil {
			e.Xattrs = make(map[string]string)
		}
		e.Xattrs[name] = value
	}
	keys := make([]string, 0, 8)
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, paxXattr) || strings.HasPrefix(k, paxLibarchive) || strings.HasPrefix(k, paxACL) || k == paxSELinux {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys) // SCHILY's after LIBARCHIVE's, so that they count
	for _, k := range keys {
		v := h.PAXRecords[k]
		if name, ok := strings.CutPrefix(k, paxXattr); ok {
			set(gnuName.Replace(name), v)
		} else if name, ok := strings.CutPrefix(k, paxLibarchive); ok {
			name, err := url.PathUnescape(name)
			value, verr := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
			if err != nil || verr != nil {
				r.b.Note("an extended attribute of /%s is left out: it is not in libarchive's form", e.Path)
				continue
			}
			set(name, string(value))
		}
	}
	for _, k := range keys {
		v := h.PAXRecords[k]
		attr := ""
		switch k {
		case paxACLAccess:
			attr = attrACLAccess
		case paxACLDefault:
			attr = attrACLDefault
		case paxSELinux:
			if _, ok := e.Xattrs[attrSELinux]; !ok {
				set(attrSELinux, v+"\x00") // as the kernel returns it
			}
			continue
		default:
			if strings.HasPrefix(k, paxACL) {
				r.b.Note("access control lists in the form %s are left out, the first is of /%s", k, e.Path)
			}
			continue
		}
		if _, ok := e.Xattrs[attr]; ok {
			continue // the attribute itself is there
		}
		list, err := parseACL(v)
		if err != nil {
			r.b.Note("the access control list of /%s is left out: %v", e.Path, err)
			continue
		}
		if list.named() {
			r.lists = append(r.lists, namedList{e.Path, attr, list})
			continue
		}
		r.setACL(e, attr, list)
	}
}

// setACL sets an access control list. The mode follows it, as the kernel sees
// to (libarchive writes the mode without it).
func (r *reader) setACL(e *source.Entry, attr string, list acl) {
	value := list.binary(attr == attrACLAccess)
	if value == "" {
		return
	}
	if e.Xattrs == nil {
		e.Xattrs = make(map[string]string)
	}
	e.Xattrs[attr] = value
	if attr == attrACLAccess {
		e.Mode = e.Mode&^0o777 | list.mode()
	}
}

// namedList is an access control list that has names instead of numbers.
type namedList struct {
	path, attr string
	list       acl
}

// namedLists puts the numbers that the tree's own accounts give into lists
// with names.
func (r *reader) namedLists() error {
	if len(r.lists) == 0 {
		return nil
	}
	users, err := r.accounts("etc/passwd")
	if err != nil {
		return err
	}
	groups, err := r.accounts("etc/group")
	if err != nil {
		return err
	}
	for _, n := range r.lists {
		e := r.b.Lookup(n.path)
		if e == nil {
			continue
		}
		if name, ok := n.list.resolve(users, groups); !ok {
			r.b.Note("the access control list of /%s is left out: nobody in the tarball is called %q: make it with tar --numeric-owner", n.path, name)
			continue
		}
		r.setACL(e, n.attr, n.list)
	}
	return nil
}

// accounts reads passwd(5) or group(5).
func (r *reader) accounts(p string) (map[string]uint32, error) {
	e := r.b.Lookup(p)
	if e == nil || !e.IsRegular() || e.Size > maxAccountsFile || e.Contents == nil {
		return nil, nil
	}
	f, err := e.Contents.Open(e)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxAccountsFile))
	if err != nil {
		return nil, source.ReadError(e, err)
	}
	return parseAccounts(string(data)), nil
}
