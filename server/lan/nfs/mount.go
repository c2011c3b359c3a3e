package nfs

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/inetboot/inetboot/server/lan/images"
)

// The mount protocol, RFC 1813 appendix I, version 3.
const (
	progMount  = 100005
	versMount  = 3
	procMount  = 1
	procDump   = 2
	procUmount = 3
	procUmAll  = 4
	procExport = 5

	mountOK        = 0
	mountNoEntry   = 2
	mountIO        = 5
	mountNotDir    = 20
	mountPathLimit = 1024
)

func (s *Service) mount(ctx context.Context, c *call, e *encoder) (uint32, *stream) {
	switch c.proc {
	case procNull:
	case procMount:
		dir := string(c.args.opaque(mountPathLimit))
		if c.args.bad {
			return acceptGarbage, nil
		}
		h, status := s.export(ctx, dir)
		s.Logger.Info("NFS mount", "client", c.client.String(), "path", dir, "status", status)
		e.uint32(status)
		if status == mountOK {
			e.opaque(h.bytes())
			e.uint32(2)
			e.uint32(authSys)
			e.uint32(authNone)
		}
	case procDump:
		e.bool(false) // who has mounted is not kept
	case procUmount:
		c.args.opaque(mountPathLimit)
	case procUmAll:
	case procExport:
		list, err := s.Library.List(ctx)
		if err != nil {
			s.Logger.Error("list the NFS exports", "error", err)
			return acceptSystemErr, nil
		}
		for _, n := range list {
			if n.Kind != "erofs" || len(e.b) > maxListing {
				continue
			}
			e.bool(true)
			e.string("/" + n.String())
			e.bool(false) // for everybody
		}
		e.bool(false)
	default:
		return acceptProcUnavail, nil
	}
	return acceptSuccess, nil
}

// export returns the directory that a path names: the root of an image, or one
// in it. The longest name of an image that the path begins with counts.
func (s *Service) export(ctx context.Context, dir string) (handle, uint32) {
	parts := strings.Split(strings.Trim(path.Clean("/"+dir), "/"), "/")
	for n := len(parts); n > 0; n-- {
		name, err := s.Library.Find(ctx, strings.Join(parts[:n], "/"))
		if errors.Is(err, images.ErrNoImage) {
			continue
		}
		var f *file
		if err == nil {
			f, err = s.folder(ctx, name, parts[n:])
		}
		switch {
		case errors.Is(err, images.ErrNoTree):
			s.Logger.Warn("an image cannot be mounted over NFS, but it can over NBD", "image", name.String(), "error", err)
			return handle{}, mountNotDir
		case errors.Is(err, fs.ErrNotExist):
			return handle{}, mountNoEntry
		case err != nil:
			s.Logger.Error("NFS mount", "path", dir, "error", err)
			return handle{}, mountIO
		case f.inode.Type() != images.TypeDir:
			return handle{}, mountNotDir
		}
		return f.handle, mountOK
	}
	return handle{}, mountNoEntry
}

// folder goes from the root of an image to what lies at a path.
func (s *Service) folder(ctx context.Context, name images.Name, parts []string) (*file, error) {
	img, err := s.Library.Open(ctx, name.Manifest)
	if err != nil {
		return nil, err
	}
	tree, err := img.Tree(ctx)
	if err != nil {
		return nil, err
	}
	f := &file{handle: handle{manifest: name.Manifest}, tree: tree}
	if f, err = f.at(ctx, tree.Root()); err != nil {
		return nil, err
	}
	for _, p := range parts {
		number, err := tree.Lookup(ctx, f.inode, p)
		if err != nil {
			return nil, err
		}
		if f, err = f.at(ctx, number); err != nil {
			return nil, err
		}
	}
	return f, nil
}
