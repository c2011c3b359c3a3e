// Package faulttest has tests of the real blockfs program on a real mount
// while things go wrong around it: servers that stop, processes that are
// killed, disks that fill up.
package faulttest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/read/readtest"
	"github.com/inetboot/inetboot/internal/digest"
)

// program builds blockfs.
func program(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts and loop devices need root")
	}
	out := filepath.Join(t.TempDir(), "blockfs")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, "github.com/inetboot/inetboot/blockfs")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build blockfs: %v: %s", err, b)
	}
	return out
}

// server serves a folder at an address that stays the same when it is stopped
// and started.
type server struct {
	addr, dir string
	srv       *http.Server
}

func newServer(t *testing.T, dir string) *server {
	t.Helper()
	s := &server{addr: "127.0.0.1:0", dir: dir}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

func (s *server) url() string { return "http://" + s.addr }

func (s *server) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.srv = &http.Server{Handler: http.FileServer(http.Dir(s.dir)), ReadHeaderTimeout: time.Minute}
	go s.srv.Serve(l)
}

// stop ends the server and all its connections.
func (s *server) stop() { s.srv.Close() }

// image is an EROFS of a folder, in a store.
type image struct {
	meta, data digest.Blob
	size       int64
}

// writeImage puts an EROFS with the regular files, folders and links of tree
// that want takes into the store.
func writeImage(t *testing.T, store, tree string, want func(path string) bool) image {
	t.Helper()
	tmp := t.TempDir()
	var files [2]*os.File
	for i, name := range []string{"meta", "data"} {
		f, err := os.Create(filepath.Join(tmp, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	w := erofs.Create(files[0], erofs.WithDataFile(files[1]), erofs.WithTempDir(tmp), erofs.WithBuildTime(1, 0))
	err := filepath.WalkDir(tree, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(p, tree)
		if rel == "" {
			return nil
		}
		if !want(rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return w.Mkdir(rel, info.Mode().Perm())
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return w.Symlink(to, rel)
		case !d.Type().IsRegular():
			return nil
		}
		in, err := os.Open(p)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := w.Create(rel)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
		return errors.Join(out.Close(), w.Chmod(rel, info.Mode().Perm()))
	})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatalf("make an EROFS of %s: %v", tree, err)
	}
	var im image
	for i, to := range []*digest.Blob{&im.meta, &im.data} {
		b, err := os.ReadFile(files[i].Name())
		if err != nil {
			t.Fatal(err)
		}
		*to = readtest.Write(t, store, b)
		im.size += int64(len(b))
	}
	return im
}

// daemon is a running `blockfs mount`.
type daemon struct {
	dir string
	cmd *exec.Cmd
	end chan error
	out *os.File
}

// startMount mounts im and waits until it is there.
func startMount(t *testing.T, prog, dir string, im image, args ...string) *daemon {
	t.Helper()
	d := &daemon{dir: dir, end: make(chan error, 1)}
	args = append([]string{"mount", "--file", "meta=" + im.meta.SHA256.String(), "--file", "data=" + im.data.SHA256.String()}, args...)
	d.cmd = exec.Command(prog, append(args, dir)...)
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if d.out, err = os.CreateTemp(t.TempDir(), "stderr"); err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan bool, 1)
	go func() {
		s := bufio.NewScanner(out)
		for s.Scan() {
			if strings.HasPrefix(s.Text(), "mounted ") {
				ready <- true
			}
		}
		close(ready)
		d.end <- d.cmd.Wait()
	}()
	t.Cleanup(func() { d.kill(t) })
	select {
	case ok := <-ready:
		if !ok {
			t.Fatalf("blockfs mount ended: %s", d.log())
		}
	case <-time.After(time.Minute):
		t.Fatalf("blockfs mount does not get ready: %s", d.log())
	}
	return d
}

func (d *daemon) log() string {
	b, err := os.ReadFile(d.out.Name())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// kill ends the daemon without warning, as a power cut does, and clears up.
func (d *daemon) kill(t *testing.T) {
	t.Helper()
	if d.cmd == nil {
		return
	}
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	<-d.end
	d.cmd = nil
	// With its last process the connection to the kernel has ended, too.
	_ = unix.Unmount(d.dir, unix.MNT_DETACH)
	d.out.Close()
}

// mountRoot mounts the EROFS of a daemon's files over loop devices, and an
// overlay in memory over that, as a target does. It returns the root.
func mountRoot(t *testing.T, d *daemon) string {
	t.Helper()
	base := t.TempDir()
	loop := func(name string) string {
		out, err := exec.Command("losetup", "--show", "-r", "-f", filepath.Join(d.dir, name)).CombinedOutput()
		if err != nil {
			t.Fatalf("losetup: %v: %s", err, out)
		}
		dev := strings.TrimSpace(string(out))
		t.Cleanup(func() {
			if out, err := exec.Command("losetup", "-d", dev).CombinedOutput(); err != nil {
				t.Errorf("losetup -d %s: %v: %s", dev, err, out)
			}
		})
		return dev
	}
	meta, data := loop("meta"), loop("data")
	dirs := map[string]string{}
	for _, name := range []string{"lower", "rw", "root"} {
		dirs[name] = filepath.Join(base, name)
		if err := os.Mkdir(dirs[name], 0o755); err != nil {
			t.Fatal(err)
		}
	}
	do := func(what, source, target, kind string, flags uintptr, opts string) {
		if err := unix.Mount(source, target, kind, flags, opts); err != nil {
			t.Fatalf("mount %s: %v", what, err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(target, 0); err != nil {
				_ = unix.Unmount(target, unix.MNT_DETACH)
				t.Errorf("unmount %s: %v", what, err)
			}
		})
	}
	do("EROFS", meta, dirs["lower"], "erofs", unix.MS_RDONLY, "device="+data)
	do("memory", "tmpfs", dirs["rw"], "tmpfs", 0, "size=2G")
	for _, name := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(dirs["rw"], name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	do("overlay", "overlay", dirs["root"], "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", dirs["lower"], dirs["rw"], dirs["rw"]))
	return dirs["root"]
}

// abortAfter ends the kernel's connection to the daemon when the time is over,
// so that a test whose readers would wait for ever fails instead.
func abortAfter(t *testing.T, d *daemon, limit time.Duration) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(d.dir, &st); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			_ = os.WriteFile(fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", unix.Minor(st.Dev)), []byte("1"), 0)
		}
	})
}

// endGroup kills a command with all its children when ctx ends.
func endGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
}
