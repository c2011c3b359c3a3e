package source

import (
	"io"
	"strings"
)

// Origin is what the reader of an image knows beside the tree.
type Origin struct {
	// Kind says what it was, for people, such as "Debian live ISO".
	Kind string
	// Cmdline are options that programs in the tree look for on the kernel's
	// command line.
	Cmdline string
	// Kernels are kernel files that lie beside the tree.
	Kernels []*Entry
	// Whole is the filesystem that the tree, or what is at its root, was read
	// from; nil if there is none, or several that make up the tree together.
	Whole *Whole
}

// Whole is a filesystem as it is.
type Whole struct {
	Type string // as in mount(2)
	Size int64  // in bytes
	io.ReaderAt
}

// SetOrigin remembers o for the tree.
func (b *Builder) SetOrigin(o Origin) { b.origin = o }

// FstabComment begins the lines of fstab(5) that a reader of disks takes out.
const FstabComment = "# taken out by imagetool, the disk is not there: "

// Text is the content of a file in memory.
type Text string

// Open implements [Contents].
func (t Text) Open(*Entry) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(string(t))), nil
}
