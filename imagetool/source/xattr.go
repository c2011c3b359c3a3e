package source

import "strings"

// What EROFS has room for, in bytes.
const (
	MaxXattrName  = 255   // it counts the name behind its prefix in a byte
	MaxXattrValue = 65535 // and the value in two
)

// KeepXattr tells whether an extended attribute belongs to the tree. What
// only means something on the filesystem that it was found on does not.
func KeepXattr(name string) bool {
	switch {
	case name == "system.posix_acl_access", name == "system.posix_acl_default":
		return true
	case strings.HasPrefix(name, "trusted.overlay."):
		return false
	}
	for _, prefix := range []string{"user.", "trusted.", "security."} {
		if strings.HasPrefix(name, prefix) && len(name) > len(prefix) {
			return true
		}
	}
	return false
}
