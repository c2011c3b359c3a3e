package root

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/imagetool/source"
)

// errLayout is wrapped when the metadata is not what its writer writes.
var errLayout = errors.New("unexpected EROFS layout")

// joinLinks makes all names of a file lead to one inode. The EROFS writer
// gives every name an inode of its own; here the directory entries of the
// second and further names get the number of the first one's inode. The
// inodes that no name leads to any more stay, a hundred bytes each.
func (p *Plan) joinLinks(img interface {
	io.ReaderAt
	io.WriterAt
}) error {
	linked := false
	for _, e := range p.tree.Entries() {
		linked = linked || e.First != nil
	}
	if !linked {
		return nil
	}
	im, err := openMeta(img)
	if err != nil {
		return err
	}
	nids := make(map[*source.Entry]uint64) // of names that others share
	return im.walk(p.tree.Root(), im.rootNid, func(e *source.Entry, nid uint64, at int64) error {
		switch {
		case e.First == nil && e.Nlink > 1 && !e.IsDir():
			nids[e] = nid
		case e.First != nil:
			first, ok := nids[e.First]
			if !ok {
				return fmt.Errorf("%w: /%s before /%s", errLayout, e.Path, e.First.Path)
			}
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], first)
			if _, err := img.WriteAt(b[:], at); err != nil {
				return fmt.Errorf("join the names of /%s: %w", e.First.Path, err)
			}
		}
		return nil
	})
}

// meta reads the directories of an image (fs/erofs/erofs_fs.h).
type meta struct {
	r       io.ReaderAt
	inodes  int64 // offset of inode 0
	rootNid uint64
}

func openMeta(r io.ReaderAt) (*meta, error) {
	var sb [128]byte
	if _, err := r.ReadAt(sb[:], 1024); err != nil {
		return nil, fmt.Errorf("read the EROFS superblock: %w", err)
	}
	if binary.LittleEndian.Uint32(sb[0:]) != 0xe0f5e1e2 || sb[12] != 12 {
		return nil, fmt.Errorf("%w: magic number or block size", errLayout)
	}
	return &meta{
		r:       r,
		inodes:  int64(binary.LittleEndian.Uint32(sb[40:])) * PageSize,
		rootNid: uint64(binary.LittleEndian.Uint16(sb[14:])),
	}, nil
}

// dirent is one directory entry: where it stands and what it says.
type dirent struct {
	name string
	nid  uint64
	at   int64 // offset of the entry, which begins with the inode number
}

// walk calls visit for everything below dir, in the order of the tree.
func (m *meta) walk(dir *source.Entry, nid uint64, visit func(e *source.Entry, nid uint64, at int64) error) error {
	entries, err := m.readDir(nid)
	if err != nil {
		return fmt.Errorf("/%s: %w", dir.Path, err)
	}
	byName := make(map[string]dirent, len(entries))
	for _, d := range entries {
		byName[d.name] = d
	}
	for _, c := range dir.Children() {
		d, ok := byName[c.Name()]
		if !ok {
			return fmt.Errorf("%w: /%s is missing", errLayout, c.Path)
		}
		if err := visit(c, d.nid, d.at); err != nil {
			return err
		}
		if c.IsDir() {
			if err := m.walk(c, d.nid, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *meta) readDir(nid uint64) ([]dirent, error) {
	at := m.inodes + int64(nid)*32
	var ino [64]byte
	// A compact inode at the very end has fewer bytes behind it.
	if n, err := m.r.ReadAt(ino[:], at); err != nil && (n < 32 || !errors.Is(err, io.EOF)) {
		return nil, fmt.Errorf("read inode %d: %w", nid, err)
	}
	format := binary.LittleEndian.Uint16(ino[0:])
	length, size := int64(32), int64(binary.LittleEndian.Uint32(ino[8:]))
	if format&1 != 0 {
		length, size = 64, int64(binary.LittleEndian.Uint64(ino[8:]))
	}
	if n := int64(binary.LittleEndian.Uint16(ino[2:])); n > 0 {
		length += 12 + (n-1)*4
	}
	var start int64
	switch layout := format >> 1 & 7; layout {
	case 0: // in blocks of its own
		start = int64(binary.LittleEndian.Uint32(ino[16:])) * PageSize
	case 2: // behind the inode
		start = at + length
	default:
		return nil, fmt.Errorf("%w: directory with layout %d", errLayout, layout)
	}
	if size < 0 || size > 1<<32 {
		return nil, fmt.Errorf("%w: directory of %d bytes", errLayout, size)
	}
	data := make([]byte, size)
	if _, err := m.r.ReadAt(data, start); err != nil {
		return nil, fmt.Errorf("read the directory at inode %d: %w", nid, err)
	}
	var out []dirent
	for block := 0; block < len(data); block += PageSize {
		b := data[block:min(block+PageSize, len(data))]
		if len(b) < 12 {
			return nil, fmt.Errorf("%w: directory block of %d bytes", errLayout, len(b))
		}
		names := int(binary.LittleEndian.Uint16(b[8:]))
		if names < 12 || names%12 != 0 || names > len(b) {
			return nil, fmt.Errorf("%w: names at %d", errLayout, names)
		}
		for i := 0; i < names; i += 12 {
			from, to := int(binary.LittleEndian.Uint16(b[i+8:])), len(b)
			if i+12 < names {
				to = int(binary.LittleEndian.Uint16(b[i+12+8:]))
			}
			if from > to || to > len(b) {
				return nil, fmt.Errorf("%w: name from %d to %d", errLayout, from, to)
			}
			name := string(bytes.TrimRight(b[from:to], "\x00"))
			out = append(out, dirent{name: name, nid: binary.LittleEndian.Uint64(b[i:]), at: start + int64(block+i)})
		}
	}
	return out, nil
}
