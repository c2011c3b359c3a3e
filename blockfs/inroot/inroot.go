// Package inroot finds files of a system whose root is a folder of this one,
// as a process of that system would: its symbolic links lead nowhere else.
package inroot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks bounds how many symbolic links are followed, as the kernel does.
const maxLinks = 40

// Resolve follows the symbolic links of name as a process with the given root
// would, and returns an absolute path in it that has none.
func Resolve(root, name string) (string, error) {
	path, missing, err := resolve(root, name)
	if err == nil && missing {
		err = &os.PathError{Op: "resolve", Path: name, Err: unix.ENOENT}
	}
	return path, err
}

// Create is Resolve for a file that need not be there: the end of the path may
// be missing, and is taken as it is.
func Create(root, name string) (string, error) {
	path, _, err := resolve(root, name)
	return path, err
}

func resolve(root, name string) (path string, missing bool, err error) {
	done, rest := "/", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		el := rest[0]
		rest = rest[1:]
		switch el {
		case "", ".":
			continue
		case "..":
			done = filepath.Dir(done)
			continue
		}
		next := filepath.Join(done, el)
		if missing {
			done = next
			continue
		}
		target, err := os.Readlink(filepath.Join(root, next))
		switch {
		case errors.Is(err, unix.EINVAL): // not a link
			done = next
			continue
		case errors.Is(err, os.ErrNotExist):
			missing, done = true, next
			continue
		case err != nil:
			return "", false, err
		}
		if links++; links > maxLinks {
			return "", false, &os.PathError{Op: "resolve", Path: name, Err: unix.ELOOP}
		}
		if filepath.IsAbs(target) {
			done = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done, missing, nil
}
