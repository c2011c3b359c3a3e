package extract

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/inetboot/inetboot/imagetool/source"
)

// Tar writes the tree as a tar archive (pax, with extended attributes as GNU
// tar, bsdtar and star write them). add is told of bytes of contents.
func Tar(ctx context.Context, t *source.Tree, to io.Writer, add func(int64)) error {
	w := tar.NewWriter(to)
	for _, e := range t.Entries() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := tarEntry(t, w, e, add); err != nil {
			return fmt.Errorf("archive /%s: %w", e.Path, err)
		}
	}
	return w.Close()
}

func tarEntry(t *source.Tree, w *tar.Writer, e *source.Entry, add func(int64)) error {
	h := &tar.Header{
		Name: "./" + e.Path, Mode: int64(e.Mode & 0o7777), Uid: int(e.UID), Gid: int(e.GID),
		ModTime: time.Unix(e.Sec, int64(e.Nsec)), Format: tar.FormatPAX,
	}
	if e.First != nil {
		h.Typeflag, h.Linkname = tar.TypeLink, "./"+e.First.Path
		return w.WriteHeader(h)
	}
	if len(e.Xattrs) > 0 {
		h.PAXRecords = make(map[string]string, len(e.Xattrs))
		for name, value := range e.Xattrs {
			h.PAXRecords["SCHILY.xattr."+name] = value
		}
	}
	switch e.Type() {
	case source.TypeDir:
		h.Typeflag = tar.TypeDir
		if e.Path != "" {
			h.Name += "/"
		}
	case source.TypeRegular:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	case source.TypeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Target
	case source.TypeBlock, source.TypeChar:
		h.Typeflag = tar.TypeChar
		if e.Type() == source.TypeBlock {
			h.Typeflag = tar.TypeBlock
		}
		// As glibc's major(3) and minor(3) take it apart.
		h.Devmajor = int64(e.Rdev >> 8 & 0xfff)
		h.Devminor = int64(e.Rdev&0xff | e.Rdev>>12&0xfff00)
	case source.TypeFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil // a socket, which tar has no type for
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg || e.Size == 0 {
		return nil
	}
	in, err := t.Open(e)
	if err != nil {
		return err
	}
	defer in.Close()
	n, err := io.Copy(w, io.LimitReader(in, e.Size))
	add(n)
	if err != nil {
		return err
	}
	if n < e.Size {
		return source.ReadError(e, io.ErrUnexpectedEOF)
	}
	return nil
}
