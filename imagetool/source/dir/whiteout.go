package dir

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/source"
)

// whiteout does what the file name in the directory p means, if it stands for
// something that is taken away.
func (r *reader) whiteout(p, name string, st *unix.Stat_t) bool {
	in := func(name string) string {
		if p == "" {
			return name
		}
		return p + "/" + name
	}
	// Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"
	if st.Mode&source.TypeMask == source.TypeChar && st.Rdev == 0 {
		r.b.Remove(in(name))
		return true
	}
	rest, ok := strings.CutPrefix(name, source.WhiteoutPrefix)
	if !ok || rest == "" {
		return false
	}
	switch {
	case name == source.WhiteoutOpaque:
		r.b.Opaque(p)
	case strings.HasPrefix(rest, source.WhiteoutPrefix): // of old tools, means nothing
	default:
		r.b.Remove(in(rest))
	}
	return true
}

func isOverlayAttr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

// isOpaque tells whether overlayfs hides what is below a directory.
func (r *reader) isOpaque(dirfd int, name string) bool {
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		var v [1]byte
		if n, err := unix.Lgetxattr(xattrPath(dirfd, name), attr, v[:]); err == nil && n == 1 && v[0] == 'y' {
			return true
		}
	}
	return false
}
