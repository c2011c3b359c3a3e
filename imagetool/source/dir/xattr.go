package dir

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/source"
)

// xattrPath names a file in a directory that is open, for system calls that
// take no descriptor of one.
func xattrPath(dirfd int, name string) string {
	if name == "" {
		name = "."
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dirfd, name)
}

// xattrs returns the extended attributes that belong to the tree.
func (r *reader) xattrs(dirfd int, name, p string) (map[string]string, error) {
	full := xattrPath(dirfd, name)
	list := r.small[:]
	n, err := unix.Llistxattr(full, list)
	for errors.Is(err, unix.ERANGE) && len(list) < 1<<20 {
		list = make([]byte, 2*len(list))
		n, err = unix.Llistxattr(full, list)
	}
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, r.fail(p, fmt.Errorf("list extended attributes: %w", err))
	}
	var out map[string]string
	for _, raw := range bytes.Split(bytes.TrimSuffix(list[:n], []byte{0}), []byte{0}) {
		attr := string(raw)
		if r.o.Whiteouts && isOverlayAttr(attr) {
			continue
		}
		if !source.KeepXattr(attr) {
			r.b.Note("extended attributes %s are left out, the first is of /%s", attr, p)
			continue
		}
		value := make([]byte, source.MaxXattrValue)
		vn, err := unix.Lgetxattr(full, attr, value)
		if errors.Is(err, unix.ENODATA) {
			continue // has just been removed
		}
		if err != nil {
			return nil, r.fail(p, fmt.Errorf("extended attribute %s: %w", attr, err))
		}
		if out == nil {
			out = make(map[string]string)
		}
		out[attr] = string(value[:vn])
	}
	return out, nil
}
