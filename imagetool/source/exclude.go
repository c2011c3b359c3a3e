package source

import (
	"fmt"
	"path"
	"strings"
)

// Exclude is a set of patterns of paths that stay out of a tree.
type Exclude struct{ patterns []string }

// NewExclude returns the set of the patterns: paths below the root in which
// "*" and "?" stand for parts of one element (path.Match). Whatever lies in a
// directory that matches stays out with it.
func NewExclude(patterns []string) (*Exclude, error) {
	x := &Exclude{}
	for _, p := range patterns {
		p = strings.Trim(p, "/")
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return nil, fmt.Errorf("the pattern %q is not one of paths, such as /var/cache/apt/archives/*.deb", p)
		}
		x.patterns = append(x.patterns, p)
	}
	return x, nil
}

// Match tells whether the entry at p stays out. Entries in a directory that
// matches are not asked about.
func (x *Exclude) Match(p string) bool {
	if x == nil || p == "" {
		return false
	}
	for _, pattern := range x.patterns {
		if ok, err := path.Match(pattern, p); ok && err == nil {
			return true
		}
	}
	return false
}
