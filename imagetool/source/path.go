package source

import (
	"fmt"
	"strings"
)

const (
	maxName = 255      // bytes of one element (NAME_MAX)
	maxPath = 16 << 10 // bytes of a path: beyond PATH_MAX, which bounds arguments of system calls only
)

// CleanPath returns the path below the root that a name in an archive stands
// for: "" for the root itself. Names that are absolute or lead outside are
// refused.
func CleanPath(name string) (string, error) {
	if len(name) > maxPath {
		return "", fmt.Errorf("%w: the name %.60q… has more than %d bytes", ErrRefused, name, maxPath)
	}
	if strings.HasPrefix(name, "/") && strings.Trim(name, "/") != "" {
		return "", fmt.Errorf("%w: the name %.200q is absolute: names have to be relative to the root, as tar -C DIRECTORY . makes them", ErrRefused, name)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("%w: the name %.200q has a zero byte", ErrRefused, name)
	}
	out := make([]byte, 0, len(name))
	for el := range strings.SplitSeq(name, "/") {
		switch {
		case el == "" || el == ".":
			continue
		case el == "..":
			return "", fmt.Errorf("%w: the name %.200q leads outside", ErrRefused, name)
		case len(el) > maxName:
			return "", fmt.Errorf("%w: the name %.60q… has an element of more than %d bytes", ErrRefused, name, maxName)
		}
		if len(out) > 0 {
			out = append(out, '/')
		}
		out = append(out, el...)
	}
	return string(out), nil
}
