package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/inetboot/inetboot/internal/debianroot"
)

// read reads the root's data file from end to end: cold and warm through
// blockfs, cold through nbdkit's curl plug-in and nbdfuse, which read the same
// plain bytes over HTTP without checking or decompressing, and warm from the
// plain file on a loop device.
func (b *bench) read(ctx context.Context) ([]result, error) {
	man, _, err := b.bed.Manifest("debian", debianroot.Version)
	if err != nil {
		return nil, err
	}
	mountArgs := []string{"mount", "--store", b.bed.URL}
	for _, f := range man.Root.Files {
		mountArgs = append(mountArgs, "--file", f.Name+"="+f.Index.SHA256.String())
	}
	plain := filepath.Join(b.dir, "plain")

	fmt.Fprintln(b.out, "bench: blockfs, cold and warm")
	var cold, warm float64
	for range 2 {
		c, w, err := b.mounted(ctx, plain, append(mountArgs[:len(mountArgs):len(mountArgs)], filepath.Join(b.dir, "mnt")))
		if err != nil {
			return nil, err
		}
		cold, warm = max(cold, c), max(warm, w)
	}

	fmt.Fprintln(b.out, "bench: nbdkit curl + nbdfuse")
	peer, err := b.nbd(ctx, plain)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(b.out, "bench: the plain file on a loop device")
	loop, err := b.loop(ctx, plain)
	if err != nil {
		return nil, err
	}
	return []result{
		speed("sequential read, cold", "MB/s", cold, peer, "nbdkit curl + nbdfuse"),
		speed("sequential read, warm", "MB/s", warm, loop, "plain file on a loop device, warm"),
	}, nil
}

// mounted mounts the root with blockfs and reads its data twice. The first
// time a copy is left at plain, for the peers.
func (b *bench) mounted(ctx context.Context, plain string, args []string) (cold, warm float64, err error) {
	dir := args[len(args)-1]
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, 0, err
	}
	stop, err := b.background(ctx, filepath.Join(b.build, "blockfs"), args...)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	data := filepath.Join(dir, "data")
	if err := appears(ctx, data); err != nil {
		return 0, 0, err
	}
	if cold, err = rate(data); err != nil {
		return 0, 0, err
	}
	if warm, err = rate(data); err != nil {
		return 0, 0, err
	}
	if _, err := os.Stat(plain); errors.Is(err, os.ErrNotExist) {
		if err := b.command(ctx, "cp", data, plain); err != nil {
			return 0, 0, err
		}
	}
	return cold, warm, nil
}

func (b *bench) nbd(ctx context.Context, plain string) (best float64, err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	srv := &http.Server{Handler: http.FileServer(http.Dir(filepath.Dir(plain))), ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l)
	defer srv.Close()
	for range 2 {
		r, err := b.nbdOnce(ctx, "http://"+l.Addr().String()+"/"+filepath.Base(plain))
		if err != nil {
			return 0, err
		}
		best = max(best, r)
	}
	return best, nil
}

func (b *bench) nbdOnce(ctx context.Context, url string) (mbs float64, err error) {
	dir, err := os.MkdirTemp(b.dir, "nbd-")
	if err != nil {
		return 0, err
	}
	socket := filepath.Join(dir, "socket")
	stopKit, err := b.background(ctx, "nbdkit", "-f", "-r", "-U", socket, "curl", "url="+url)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stopKit()) }()
	if err := appears(ctx, socket); err != nil {
		return 0, err
	}
	mnt := filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		return 0, err
	}
	stopFuse, err := b.background(ctx, "nbdfuse", "-r", mnt, "--unix", socket)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stopFuse()) }()
	file := filepath.Join(mnt, "nbd")
	if err := appears(ctx, file); err != nil {
		return 0, err
	}
	return rate(file)
}

// loop reads the plain file through a loop device, the second time from the
// cache.
func (b *bench) loop(ctx context.Context, plain string) (mbs float64, err error) {
	out, err := exec.CommandContext(ctx, "losetup", "--show", "-r", "-f", plain).Output()
	if err != nil {
		return 0, fmt.Errorf("losetup: %w", err)
	}
	dev := strings.TrimSpace(string(out))
	defer func() { err = errors.Join(err, b.command(context.WithoutCancel(ctx), "losetup", "-d", dev)) }()
	for range 3 {
		r, err := rate(dev)
		if err != nil {
			return 0, err
		}
		mbs = max(mbs, r)
	}
	return mbs, nil
}

// rate reads a file to its end and returns MB/s.
func rate(name string) (float64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	start := time.Now()
	buf := make([]byte, 1<<20)
	var n int64
	for {
		k, err := f.Read(buf)
		n += int64(k)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	return float64(n) / 1e6 / time.Since(start).Seconds(), nil
}

// background starts a program; stop ends it and waits.
func (b *bench) background(ctx context.Context, name string, args ...string) (stop func() error, err error) {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	return func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case <-done: // how it ends after a signal is its own affair
			return nil
		case <-time.After(20 * time.Second):
			return errors.Join(fmt.Errorf("%s does not end", name), cmd.Process.Kill())
		}
	}, nil
}

// appears waits until a file is there.
func appears(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		if _, err := os.Stat(name); err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s did not appear: %w", name, ctx.Err())
		}
	}
}
