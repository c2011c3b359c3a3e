package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/module"
	"github.com/inetboot/inetboot/internal/newc"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// peerRoot is another kind of root over the network. QEMU loads kernel and
// initramfs for it, so its time has no medium, no menu and no download of those.
type peerRoot struct {
	name    string
	options string // for peerinit
	serve   func(m *peerMachine, ctx context.Context) (addr string, stop func() error, err error)
}

func peerRoots() []peerRoot {
	return []peerRoot{
		{"NBD root (nbdkit, squashfs), 1 connection", "peer.root=nbd peer.connections=1", (*peerMachine).nbd},
		{"NBD root (nbdkit, squashfs), 8 connections", "peer.root=nbd peer.connections=8", (*peerMachine).nbd},
		{"NFS root (nfs-ganesha, NFS 4.2)", "peer.root=nfs", (*peerMachine).nfs},
		{"download of a whole squashfs", "peer.root=squashfs", (*peerMachine).web},
	}
}

// peerMachine has what all those boots need.
type peerMachine struct {
	b                *bench
	dir              string
	kernel, initrd   string
	tree, squashfs   string
	consoleArguments string
}

// beside boots every peer over a line. ours is the best that ours has done.
func (r *bootRoots) beside(ctx context.Context, w where, ours booted) (err error) {
	if r.machine == nil {
		if r.machine, err = r.b.newPeerMachine(ctx); err != nil {
			return err
		}
	}
	for _, p := range peerRoots() {
		r.b.say("boot over %s: %s", w.name, p.name)
		took, bytes, err := r.machine.boot(ctx, w, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		limited := errors.Is(err, context.DeadlineExceeded)
		if err != nil && !limited {
			r.b.say("%s: %v", p.name, err)
			r.b.report(figure(fmt.Sprintf("boot over %s, from the menu", w.name), "s", ours.run().Seconds()).noted("%s failed; see above", p.name))
			continue
		}
		if limited {
			took = bootLimit
		}
		res := duration(fmt.Sprintf("boot over %s, from the menu", w.name), ours.run(), took, p.name).noted("peer: %.1f MB", float64(bytes)/1e6)
		res.AtLeast = limited
		r.b.report(res)
	}
	return nil
}

func (m *peerMachine) boot(ctx context.Context, w where, p peerRoot) (took time.Duration, bytes int64, err error) {
	server, stop, err := p.serve(m, ctx)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	s, err := slowTo(ctx, w.rtt, w.rate, server)
	if err != nil {
		return 0, 0, err
	}
	defer s.end()
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	vm, err := vmtest.Start(ctx, vmtest.Config{
		Kernel: m.kernel, Initrd: m.initrd, Append: m.consoleArguments + " " + p.options + " peer.server=" + guest(s.addr),
		Memory: bootMemory, VGA: true, NoReboot: true, NICs: []vmtest.NIC{{}},
	})
	if err != nil {
		return 0, 0, err
	}
	defer vm.Close()
	if _, err := vm.Expect(ctx, `login: `); err != nil {
		return 0, s.Down(), fmt.Errorf("%w\n%s", err, vm.Command)
	}
	return vm.Uptime(), s.Down(), nil
}

// newPeerMachine unpacks the Debian, makes a squashfs of it, which is kept for
// later runs, and an initramfs of its own modules.
func (b *bench) newPeerMachine(ctx context.Context) (*peerMachine, error) {
	m := &peerMachine{b: b, dir: filepath.Join(b.dir, "peer-roots"), squashfs: b.tarball + ".squashfs",
		consoleArguments: "console=tty0 console=ttyS0,115200"}
	m.tree = filepath.Join(m.dir, "tree")
	if err := os.MkdirAll(m.tree, 0o755); err != nil {
		return nil, err
	}
	b.say("unpacking the Debian for the other kinds of root")
	if err := b.command(ctx, "tar", "-xpf", b.tarball, "--numeric-owner", "-C", m.tree); err != nil {
		return nil, err
	}
	if !exists(m.squashfs) {
		b.say("making a squashfs of it (zstd), which takes some minutes, once")
		if err := b.command(ctx, "mksquashfs", m.tree, m.squashfs+".partial", "-noappend", "-comp", "zstd", "-no-progress"); err != nil {
			return nil, errors.Join(err, os.Remove(m.squashfs+".partial"))
		}
		if err := os.Rename(m.squashfs+".partial", m.squashfs); err != nil {
			return nil, err
		}
	}
	if err := os.Link(m.squashfs, filepath.Join(m.dir, "root.squashfs")); err != nil {
		if err := os.Symlink(m.squashfs, filepath.Join(m.dir, "root.squashfs")); err != nil {
			return nil, err
		}
	}
	kernels, err := filepath.Glob(filepath.Join(m.tree, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return nil, fmt.Errorf("%d kernels in the Debian; want one", len(kernels))
	}
	m.kernel, m.initrd = kernels[0], filepath.Join(m.dir, "initrd")
	return m, m.writeInitrd(ctx, strings.TrimPrefix(filepath.Base(m.kernel), "vmlinuz-"))
}

// writeInitrd puts peerinit and the modules that it loads into an initramfs.
func (m *peerMachine) writeInitrd(ctx context.Context, release string) error {
	program := filepath.Join(m.dir, "peerinit")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "github.com/inetboot/inetboot/internal/bench/peerinit")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = m.b.log, m.b.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build peerinit: %w", err)
	}
	init, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	modules := filepath.Join(m.tree, "usr/lib/modules", release)
	tree, err := module.Open(os.DirFS(modules))
	if err != nil {
		return err
	}
	records := []newc.Record{{Name: "init", Perm: 0o755, Data: init}, {Name: "dev", Perm: 0o755, Dir: true}}
	seen := map[string]bool{}
	add := func(file string) error {
		name := "lib/modules/" + release + "/" + file
		for i, c := range name {
			if c == '/' && !seen[name[:i]] {
				seen[name[:i]] = true
				records = append(records, newc.Record{Name: name[:i], Perm: 0o755, Dir: true})
			}
		}
		if seen[name] {
			return nil
		}
		seen[name] = true
		data, err := os.ReadFile(filepath.Join(modules, file))
		records = append(records, newc.Record{Name: name, Perm: 0o644, Data: data})
		return err
	}
	files := []string{"modules.dep", "modules.alias", "modules.softdep", "modules.builtin"}
	for _, name := range []string{"virtio_pci", "virtio_net", "overlay", "nbd", "squashfs", "loop", "nfs", "nfsv4"} {
		order, err := tree.Order(name)
		if err != nil {
			return err
		}
		for _, n := range order {
			f, err := tree.File(n)
			if err != nil {
				return err
			}
			files = append(files, f)
		}
	}
	for _, f := range files {
		if err := add(f); err != nil {
			return err
		}
	}
	return os.WriteFile(m.initrd, newc.Archive(records), 0o644)
}

// nbd serves the squashfs by nbdkit.
func (m *peerMachine) nbd(ctx context.Context) (string, func() error, error) {
	port, err := freePort(ctx)
	if err != nil {
		return "", nil, err
	}
	p, err := m.b.background("nbdkit", "-f", "-r", "-i", "127.0.0.1", "-p", port, "file", m.squashfs)
	if err != nil {
		return "", nil, err
	}
	return m.listening(ctx, p, port)
}

// nfs serves the unpacked tree by nfs-ganesha, with NFS 4 alone: that needs
// one port and no rpcbind.
func (m *peerMachine) nfs(ctx context.Context) (string, func() error, error) {
	port, err := freePort(ctx)
	if err != nil {
		return "", nil, err
	}
	config := filepath.Join(m.dir, "ganesha.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
NFS_CORE_PARAM { Protocols = 4; NFS_Port = %s; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false; }
NFSV4 { Graceless = true; Only_Numeric_Owners = true; RecoveryRoot = %q; }
EXPORT {
  Export_Id = 1; Path = %q; Pseudo = "/"; Protocols = 4; Access_Type = RO; Squash = no_root_squash;
  Disable_ACL = true; PrivilegedPort = false; Transports = TCP; SecType = sys; Attr_Expiration_Time = 3600;
  FSAL { Name = VFS; }
}
`, port, filepath.Join(m.dir, "recovery"), m.tree), 0o644); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(filepath.Join(m.dir, "recovery"), 0o755); err != nil {
		return "", nil, err
	}
	p, err := m.b.background("ganesha.nfsd", "-F", "-f", config, "-L", filepath.Join(m.dir, "ganesha.log"), "-p", filepath.Join(m.dir, "ganesha.pid"))
	if err != nil {
		return "", nil, err
	}
	return m.listening(ctx, p, port)
}

// web serves the squashfs by HTTP.
func (m *peerMachine) web(ctx context.Context) (string, func() error, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{Handler: http.FileServer(http.Dir(m.dir)), ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l)
	return l.Addr().String(), srv.Close, nil
}

// listening waits until a program listens.
func (m *peerMachine) listening(ctx context.Context, p *process, port string) (string, func() error, error) {
	addr := net.JoinHostPort("127.0.0.1", port)
	err := waitFor(ctx, p.name, p, func() bool {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if err != nil {
		return "", nil, errors.Join(err, p.stop())
	}
	return addr, p.stop, nil
}

// freePort returns a TCP port that was free a moment ago, for programs that
// cannot say which one they took.
func freePort(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// manifestDigest returns the hash in a target's path in the store.
func manifestDigest(path string) (digest.SHA256, error) {
	sum, _, _ := strings.Cut(filepath.Base(path), ".")
	return digest.Parse(sum)
}
