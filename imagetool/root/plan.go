// Package root writes a tree as an EROFS root in two files: meta (inodes,
// directories, chunk indexes) and data (the contents of files, each
// beginning on a page, uncompressed), as the kernel's documentation
// (Documentation/filesystems/erofs.rst, multiple devices) has it.
//
// The same tree always gives the same bytes: contents stand in the order of
// the tree, the build time is fixed, the UUID is zero.
//
// The metadata are written here and not with go-erofs, which is used to read
// them: its writer takes 1.5 KB of memory for each entry, gives every name of
// a file an inode of its own, and does not align what follows attributes.
package root

import (
	"errors"
	"fmt"

	"github.com/inetboot/inetboot/imagetool/source"
)

// PageSize is the alignment of contents and the block size of the
// filesystem, in bytes.
const PageSize = 4096

// maxData is what 32-bit block numbers reach, in bytes.
const maxData = 1 << 44

// ErrTooLarge is wrapped when a tree does not fit into EROFS.
var ErrTooLarge = errors.New("too large for EROFS")

// Plan says where in the data file the contents of a tree lie.
type Plan struct {
	tree    *source.Tree
	files   []*source.Entry // with content, in order
	offsets []int64         // of contents, by the index of a file's first name
	size    int64
}

// NewPlan lays the contents of t out.
func NewPlan(t *source.Tree) (*Plan, error) {
	has := func(e *source.Entry) bool { return e.IsRegular() && e.Size > 0 && e.First == nil }
	n := 0
	for _, e := range t.Entries() {
		if has(e) {
			n++
		}
	}
	p := &Plan{tree: t, files: make([]*source.Entry, 0, n), offsets: make([]int64, len(t.Entries()))}
	for _, e := range t.Entries() {
		if !has(e) {
			continue
		}
		p.files = append(p.files, e)
		p.offsets[e.Index()] = p.size
		p.size += pages(e.Size) * PageSize
		if p.size > maxData || p.size < 0 {
			return nil, fmt.Errorf("the contents of the tree are %w: at most %d TiB", ErrTooLarge, int64(maxData)>>40)
		}
	}
	return p, nil
}

func pages(size int64) int64 { return (size + PageSize - 1) / PageSize }

// DataSize returns the length of the data file in bytes. It is 0 for a tree
// without any content.
func (p *Plan) DataSize() int64 { return p.size }

// Files returns how many files have content.
func (p *Plan) Files() int { return len(p.files) }
