package source

import (
	"fmt"
	"strings"
)

// Child returns the path of what the directory at dir has under name. Names
// that no filesystem of Linux can have are refused: they would lead elsewhere.
func Child(dir, name string) (string, error) {
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return "", fmt.Errorf("%w: /%s has the name %.200q in it", ErrRefused, dir, name)
	case len(name) > maxName || len(dir)+len(name) > maxPath:
		return "", fmt.Errorf("%w: the name %.60q… in /%.60s is too long", ErrRefused, name, dir)
	}
	return join(dir, name), nil
}

// SetXattr gives e an extended attribute if it is of a kind that belongs to a
// tree; else it leaves a note.
func SetXattr(b *Builder, e *Entry, name, value string) {
	if !KeepXattr(name) || len(name) > MaxXattrName || len(value) > MaxXattrValue {
		b.Note("extended attributes %s are left out, the first is of /%s", name, e.Path)
		return
	}
	if e.Xattrs == nil {
		e.Xattrs = make(map[string]string)
	}
	e.Xattrs[name] = value
}
