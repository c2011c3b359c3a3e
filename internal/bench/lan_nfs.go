package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

const (
	nfsPort        = "2049"
	ganeshaPort    = "2050"
	ganeshaMounted = "2051" // its mount service
)

// lanNFS reads all regular files of the published root over NFS version 3, by
// the same client, from our server and from nfs-ganesha, which has the tree
// unpacked. The kernel of this machine may know no NFS at all, so the client is
// the benchmark's own.
func (b *bench) lanNFS(ctx context.Context) (err error) {
	l, err := b.onLAN(ctx)
	if err != nil {
		return err
	}
	tree := filepath.Join(b.dir, "lan-tree")
	if !exists(tree) {
		if err := b.unpack(ctx, tree); err != nil {
			return err
		}
	}
	ours, err := l.ours(ctx, "--dhcp", "off", "--nfs", "--portmap-port", "0")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	if err := l.listening(ctx, ours, nfsPort); err != nil {
		return err
	}
	peer, err := l.ganesha(ctx, tree)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.stop()) }()

	a, err := l.nfsReader(ctx, "/debian", nfsPort, nfsPort)
	if err != nil {
		return fmt.Errorf("ours: %w", err)
	}
	p, err := l.nfsReader(ctx, tree, ganeshaPort, ganeshaMounted)
	if err != nil {
		return fmt.Errorf("nfs-ganesha: %w", err)
	}
	// The published root has some files more, which its target needs.
	const what = "NFS, all files of the 1 GB root"
	best, err := b.compete(ctx, what, rootRounds, contender{"ours", a.rate}, contender{"nfs-ganesha", p.rate})
	if err != nil {
		return err
	}
	b.report(speed(what, "MB/s", best[0], best[1], "nfs-ganesha, unpacked").wantRatio(0.5).
		noted("ours decompresses and verifies; %d calls of %d KiB under way; %d files, %d files", nfsOutstanding, nfsPiece>>10, len(a.files), len(p.files)))
	return nil
}

// nfsReader is an export whose files are known.
type nfsReader struct {
	l     *lanBed
	addr  string
	files []nfsFile
}

// nfsReader mounts an export and lists its files.
func (l *lanBed) nfsReader(ctx context.Context, export, port, mountPort string) (*nfsReader, error) {
	r := &nfsReader{l: l, addr: net.JoinHostPort(lanServer, port)}
	m, err := l.dial(l.client, net.JoinHostPort(lanServer, mountPort))
	if err != nil {
		return nil, err
	}
	defer m.Close()
	root, err := nfsMounted(m, export)
	if err != nil {
		return nil, err
	}
	c, err := l.dial(l.client, r.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r.files, err = newNFSClient(c).files(ctx, root)
	return r, err
}

// rate reads all files, over a connection of its own, and returns MB/s.
func (r *nfsReader) rate(ctx context.Context) (float64, error) {
	c, err := r.l.dial(r.l.client, r.addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	n, took, err := newNFSClient(c).read(ctx, r.files)
	return float64(n) / 1e6 / took.Seconds(), err
}

// ganesha serves a tree by nfs-ganesha. Version 3 wants a port mapper, which
// has a /run of its own, so that it is in nobody's way.
func (l *lanBed) ganesha(ctx context.Context, tree string) (*process, error) {
	dir := filepath.Join(l.b.dir, "lan-ganesha")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "ganesha.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
NFS_CORE_PARAM { Protocols = 3; NFS_Port = %s; MNT_Port = %s; Enable_NLM = false; Enable_RQUOTA = false; }
EXPORT {
  Export_Id = 1; Path = %q; Pseudo = %q; Protocols = 3; Access_Type = RO; Squash = no_root_squash;
  Disable_ACL = true; PrivilegedPort = false; Transports = TCP; SecType = sys; Attr_Expiration_Time = 3600;
  FSAL { Name = VFS; }
}
`, ganeshaPort, ganeshaMounted, tree, tree), 0o644); err != nil {
		return nil, err
	}
	p, err := l.start(l.server, "unshare", "--mount", "sh", "-c", `
mount -t tmpfs tmpfs /run || exit 1
rpcbind -f &
until test -S /run/rpcbind.sock; do sleep 0.05; done
exec ganesha.nfsd -F -f "$1/ganesha.conf" -L "$1/ganesha.log" -p "$1/ganesha.pid"`, "sh", dir)
	if err != nil {
		return nil, err
	}
	p.name = "nfs-ganesha"
	return p, l.listening(ctx, p, ganeshaMounted)
}
