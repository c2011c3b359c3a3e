// Package iso9660 reads files out of the image of a CD, and its whole tree: ISO
// 9660 (ECMA-119) with Rock Ridge (IEEE P1282, RRIP 1.12), or else with its own
// names without regard to case.
package iso9660

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/imagetool/source"
)

// ErrFormat is wrapped when there is no ISO 9660 filesystem.
var ErrFormat = errors.New("not an ISO 9660 image")

const (
	sector      = 2048
	maxDir      = 16 << 20 // bytes of one directory
	maxPieces   = 1 << 12  // of one file
	maxContinue = 16       // areas that one entry's names go on in
)

var le = binary.LittleEndian

// Volume is an open image. It is safe for concurrent use.
type Volume struct {
	Label string // at most 32 printable characters

	r    io.ReaderAt
	size int64
	root File
	skip int // bytes before the system use fields
}

// File is a file or a directory.
type File struct {
	Name string
	Dir  bool
	Size int64 // in bytes

	v      *Volume
	pieces []piece
}

type piece struct{ start, size int64 }

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: ISO 9660: %w", source.ErrRefused, fmt.Errorf(format, args...))
}

// Open reads the volume descriptor of the image in the size bytes of r.
func Open(r io.ReaderAt, size int64) (*Volume, error) {
	v := &Volume{r: r, size: size}
	var d [sector]byte
	for at := int64(16 * sector); at < 64*sector; at += sector {
		if at+sector > size {
			break
		}
		if _, err := r.ReadAt(d[:], at); err != nil {
			return nil, fmt.Errorf("read the volume descriptor: %w", err)
		}
		if string(d[1:6]) != "CD001" || d[0] == 255 {
			break
		}
		if d[0] != 1 {
			continue
		}
		if n := le.Uint16(d[128:]); n != sector {
			return nil, bad("blocks of %d bytes", n)
		}
		v.Label = printable(d[40:72])
		rec, _, err := v.record(d[156:190])
		if err != nil {
			return nil, err
		}
		if !rec.Dir {
			return nil, bad("the root is not a directory")
		}
		v.root = rec
		return v, v.findSkip()
	}
	return nil, ErrFormat
}

func printable(b []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(b)))
}

// findSkip reads how many bytes the system use fields begin with that are not
// Rock Ridge's: the entry "SP" of the root's first record says it.
func (v *Volume) findSkip() error {
	b := make([]byte, min(v.root.Size, sector))
	if _, err := v.root.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(b) < 34 || int(b[0]) > len(b) || int(b[0]) < 34 {
		return bad("the root has no entries")
	}
	if su := b[34:b[0]]; len(su) >= 7 && string(su[:2]) == "SP" && su[4] == 0xBE && su[5] == 0xEF {
		v.skip = int(su[6])
	}
	return nil
}

// record reads one directory record, and returns its system use field.
func (v *Volume) record(b []byte) (f File, use []byte, err error) {
	nameLen := int(b[32])
	if 33+nameLen > len(b) {
		return f, nil, bad("a name of %d bytes in a record of %d", nameLen, len(b))
	}
	f = File{v: v, Dir: b[25]&2 != 0, Size: int64(le.Uint32(b[10:]))}
	start := (int64(le.Uint32(b[2:])) + int64(b[1])) * sector
	if f.Size > 0 && (start >= v.size || f.Size > v.size-start) {
		return f, nil, fmt.Errorf("%w: a file of %d bytes at %d is not within the image of %d bytes: it was cut off", source.ErrRefused, f.Size, start, v.size)
	}
	f.pieces = []piece{{start, f.Size}}
	f.Name = string(b[33 : 33+nameLen])
	at := 33 + nameLen
	if nameLen%2 == 0 {
		at++
	}
	return f, b[min(at, len(b)):], nil
}

// List returns what is in a directory, in the order of the image.
func (v *Volume) List(dir string) ([]File, error) {
	d, err := v.Find(dir)
	if err != nil {
		return nil, err
	}
	return v.list(d)
}

func (v *Volume) list(d File) ([]File, error) {
	if !d.Dir {
		return nil, fmt.Errorf("/%s is not a directory", d.Name)
	}
	nodes, err := v.nodes(d)
	if err != nil {
		return nil, err
	}
	out := make([]File, len(nodes))
	for i, n := range nodes {
		out[i] = n.File
	}
	return out, nil
}

// nodes reads a directory, without what stands there for relocation only.
func (v *Volume) nodes(d File) ([]*node, error) {
	if d.Size > maxDir {
		return nil, bad("a directory of %d bytes", d.Size)
	}
	b := make([]byte, d.Size)
	if _, err := d.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var out []*node
	more := false // the last one goes on
	for at := 0; at < len(b); {
		n := int(b[at])
		if n == 0 { // records do not cross sectors
			at = (at/sector + 1) * sector
			continue
		}
		if n < 34 || at+n > len(b) {
			return nil, bad("a directory record of %d bytes", n)
		}
		rec := b[at : at+n]
		at += n
		f, use, err := v.record(rec)
		if err != nil {
			return nil, err
		}
		if f.Name == "\x00" || f.Name == "\x01" {
			continue
		}
		rr, err := v.rockRidge(use)
		if err != nil {
			return nil, err
		}
		if rr.relocated {
			continue // its place has a record with "CL"
		}
		if rr.name != "" {
			f.Name = rr.name
		} else {
			f.Name, _, _ = strings.Cut(f.Name, ";")
			f.Name = strings.TrimSuffix(f.Name, ".")
		}
		if more && len(out) > 0 && out[len(out)-1].Name == f.Name {
			last := out[len(out)-1]
			if len(last.pieces) >= maxPieces {
				return nil, bad("the file %q has more than %d pieces", f.Name, maxPieces)
			}
			last.pieces = append(last.pieces, f.pieces...)
			last.Size += f.Size
		} else {
			if !rr.dated {
				rr.mtime = shortTime(rec[18:25])
			}
			n := &node{File: f, rockRidge: rr}
			if rr.child != 0 {
				if n, err = v.directory(rr.child, f.Name); err != nil {
					return nil, err
				}
			}
			out = append(out, n)
		}
		more = rec[25]&0x80 != 0
	}
	return out, nil
}

// Find returns the file or directory at a path. A name that is not there as it
// is written is looked for without regard to case.
func (v *Volume) Find(p string) (File, error) {
	at := v.root
	for el := range strings.SplitSeq(strings.Trim(path.Clean("/"+p), "/"), "/") {
		if el == "" {
			continue
		}
		if !at.Dir {
			return File{}, fmt.Errorf("%s: %w", p, fs.ErrNotExist)
		}
		files, err := v.list(at)
		if err != nil {
			return File{}, err
		}
		i := slices.IndexFunc(files, func(f File) bool { return f.Name == el })
		if i < 0 {
			i = slices.IndexFunc(files, func(f File) bool { return strings.EqualFold(f.Name, el) })
		}
		if i < 0 {
			return File{}, fmt.Errorf("%s: %w", p, fs.ErrNotExist)
		}
		at = files[i]
	}
	return at, nil
}

// ReadAt implements io.ReaderAt.
func (f File) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= f.Size {
		return 0, io.EOF
	}
	if int64(len(p)) > f.Size-off {
		p, err = p[:f.Size-off], io.EOF
	}
	for _, pc := range f.pieces {
		if off >= pc.size {
			off -= pc.size
			continue
		}
		part := p[n:]
		part = part[:min(int64(len(part)), pc.size-off)]
		if _, rerr := f.v.r.ReadAt(part, pc.start+off); rerr != nil && !errors.Is(rerr, io.EOF) {
			return n, fmt.Errorf("read the image: %w", rerr)
		}
		n += len(part)
		off = 0
		if n == len(p) {
			break
		}
	}
	return n, err
}
