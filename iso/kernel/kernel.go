// Package kernel builds the Linux kernel of the boot media from Debian's
// source package, configured for size, and keeps the result in a cache that
// is keyed by everything that goes into it.
package kernel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed inetboot.config
var fragment []byte

// patches are applied to the source in the order of their names. Each says at
// its head what it is for.
//
//go:embed patches/*.patch
var patches embed.FS

// xzWrapper replaces the kernel's choice of xz options, which is the default
// preset, by the smallest that its decompressor reads. Without a checksum it is
// ready a sixth sooner; the range coder finds damage, too.
const xzWrapper = `#!/bin/bash
args=()
for a in "$@"; do
	case $a in
	--lzma2=*) a=--lzma2=preset=9e,nice=273,lc=4,pb=0,dict=32MiB;;
	--check=*) a=--check=none;;
	esac
	args+=("$a")
done
exec xz "${args[@]}"
`

// fasterParts are make's variables for the few parts that are compiled for speed
// and not for size, since a start waits for them: the decompressor of the
// initramfs; and what fills memory or copies into files, which for size is done
// byte by byte. Processors are good at that, emulators are not.
func fasterParts() []string {
	const words = "-mstringop-strategy=rep_8byte"
	return []string{"CFLAGS_xz_dec_lzma2.o=-O2 " + words, "CFLAGS_page_alloc.o=" + words, "CFLAGS_memblock.o=" + words, "CFLAGS_iov_iter.o=" + words}
}

// DefaultTarball is where Debian's linux-source-6.1 puts the source.
const DefaultTarball = "/usr/src/linux-source-6.1.tar.xz"

// Options says what to build from, and where to.
type Options struct {
	Tarball string    // kernel source; "": DefaultTarball
	Cache   string    // folder for finished kernels and for building
	Out     string    // the file to write
	Log     io.Writer // progress
}

// Build writes the kernel to o.Out, from the cache if it was built before.
func Build(ctx context.Context, o Options) error {
	if o.Tarball == "" {
		o.Tarball = DefaultTarball
	}
	want, err := parseFragment(fragment)
	if err != nil {
		return err
	}
	key, err := cacheKey(ctx, o.Tarball)
	if err != nil {
		return err
	}
	cached := filepath.Join(o.Cache, "kernel-"+key)
	unlock, err := lock(ctx, o)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(cached); errors.Is(err, os.ErrNotExist) {
		if err := build(ctx, o, want, cached); err != nil {
			return err
		}
	} else if err != nil {
		return fmt.Errorf("look for a built kernel: %w", err)
	} else {
		fmt.Fprintf(o.Log, "kernel: unchanged, taken from %s\n", cached)
	}
	data, err := os.ReadFile(cached)
	if err != nil {
		return fmt.Errorf("read the built kernel: %w", err)
	}
	if err := os.WriteFile(o.Out, data, 0o644); err != nil {
		return fmt.Errorf("write the kernel: %w", err)
	}
	return nil
}

func cacheKey(ctx context.Context, tarball string) (string, error) {
	f, err := os.Open(tarball)
	if err != nil {
		return "", fmt.Errorf("open the kernel's source (install linux-source-6.1, or set KERNEL_TARBALL): %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read the kernel's source: %w", err)
	}
	h.Write(fragment)
	io.WriteString(h, xzWrapper)
	io.WriteString(h, strings.Join(fasterParts(), "\n"))
	if err := eachPatch(func(_ string, data []byte) error {
		_, err := h.Write(data)
		return err
	}); err != nil {
		return "", err
	}
	// Another compiler makes another kernel.
	version, err := exec.CommandContext(ctx, "gcc", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask the compiler for its version (`make deps` installs gcc): %w", err)
	}
	h.Write(version)
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// eachPatch calls do with each patch, in order, until it fails.
func eachPatch(do func(name string, data []byte) error) error {
	names, err := fs.Glob(patches, "patches/*.patch") // sorted
	if err != nil {
		return fmt.Errorf("list the kernel's patches: %w", err)
	}
	for _, name := range names {
		data, err := patches.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read the kernel's patches: %w", err)
		}
		if err := do(name, data); err != nil {
			return err
		}
	}
	return nil
}

// applyPatches changes the source in the folder tree.
func applyPatches(ctx context.Context, tree string) error {
	return eachPatch(func(name string, data []byte) error {
		file := filepath.Join(filepath.Dir(tree), filepath.Base(name))
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return fmt.Errorf("patch the kernel: %w", err)
		}
		if err := command(ctx, tree, io.Discard, "patch", "--strip=1", "--fuzz=1", "--batch", "--input="+file); err != nil {
			return fmt.Errorf("patch the kernel with iso/kernel/%s, which is for Linux 6.1 (`make deps` installs patch): %w", name, err)
		}
		return nil
	})
}

// lock keeps a second build from doing the same work beside the first.
func lock(ctx context.Context, o Options) (unlock func(), err error) {
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(o.Cache, "kernel.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the kernel cache: %w", err)
	}
	// Asked again and again, because a blocked flock(2) would not end with ctx.
	for waiting := false; ; waiting = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock the kernel cache: %w", err)
		}
		if !waiting {
			fmt.Fprintln(o.Log, "kernel: waiting for another build of it")
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for another build of the kernel: %w", ctx.Err())
		}
	}
	return func() { f.Close() }, nil
}

func build(ctx context.Context, o Options, want map[string]string, cached string) error {
	work, err := os.MkdirTemp(o.Cache, "kernel-work-*")
	if err != nil {
		return fmt.Errorf("make a folder to build in: %w", err)
	}
	defer os.RemoveAll(work)

	fmt.Fprintf(o.Log, "kernel: unpacking %s\n", o.Tarball)
	tree := filepath.Join(work, "linux")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	if err := command(ctx, work, io.Discard, "tar", "-xf", o.Tarball, "-C", tree, "--strip-components=1"); err != nil {
		return fmt.Errorf("unpack the kernel's source: %w", err)
	}
	if err := applyPatches(ctx, tree); err != nil {
		return err
	}
	xz := filepath.Join(work, "xz-small")
	if err := os.WriteFile(xz, []byte(xzWrapper), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(work, "fragment"), fragment, 0o644); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"make", "-s", "tinyconfig"},
		{"scripts/kconfig/merge_config.sh", "-m", ".config", "../fragment"},
		{"make", "-s", "olddefconfig"},
	} {
		if err := command(ctx, tree, io.Discard, args[0], args[1:]...); err != nil {
			return fmt.Errorf("configure the kernel: %w", err)
		}
	}
	conf, err := os.ReadFile(filepath.Join(tree, ".config"))
	if err != nil {
		return fmt.Errorf("configure the kernel: %w", err)
	}
	got, err := parseFragment(conf)
	if err != nil {
		return err
	}
	if err := checkConfig(want, got); err != nil {
		return err
	}

	start := time.Now()
	fmt.Fprintf(o.Log, "kernel: compiling on %d processors, a few minutes, once\n", runtime.NumCPU())
	log := &progress{out: o.Log, every: 15 * time.Second, start: start}
	args := append([]string{"-j" + strconv.Itoa(runtime.NumCPU()), "XZ=" + xz,
		"KBUILD_BUILD_TIMESTAMP=2023-11-14", "KBUILD_BUILD_USER=inetboot", "KBUILD_BUILD_HOST=inetboot", "KBUILD_BUILD_VERSION=1", "bzImage"}, fasterParts()...)
	err = command(ctx, tree, log, "make", args...)
	if err != nil {
		return fmt.Errorf("compile the kernel: %w", err)
	}
	image, err := os.ReadFile(filepath.Join(tree, "arch/x86/boot/bzImage"))
	if err != nil {
		return fmt.Errorf("compile the kernel: %w", err)
	}
	partial := filepath.Join(work, "bzImage")
	if err := os.WriteFile(partial, image, 0o644); err != nil {
		return fmt.Errorf("keep the kernel: %w", err)
	}
	if err := os.Rename(partial, cached); err != nil {
		return fmt.Errorf("keep the kernel: %w", err)
	}
	fmt.Fprintf(o.Log, "kernel: %d bytes after %.0f s\n", len(image), time.Since(start).Seconds())
	return nil
}

// command runs a program in dir; what it printed last is in the error.
func command(ctx context.Context, dir string, out io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var tail tailBuffer
	cmd.Stdout = io.MultiWriter(out, &tail)
	cmd.Stderr = &tail
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(append([]string{name}, args...), " "), err, tail.data)
	}
	return nil
}

// tailBuffer keeps the last few kilobytes.
type tailBuffer struct{ data []byte }

func (t *tailBuffer) Write(p []byte) (int, error) {
	const most = 4 << 10
	t.data = append(t.data, p...)
	if len(t.data) > most {
		t.data = append(t.data[:0], t.data[len(t.data)-most:]...)
	}
	return len(p), nil
}

// progress turns a line a file into a line now and then.
type progress struct {
	out         io.Writer
	start, last time.Time
	every       time.Duration
	files       int
}

func (p *progress) Write(b []byte) (int, error) {
	p.files += bytes.Count(b, []byte("\n"))
	if now := time.Now(); now.Sub(p.last) >= p.every {
		p.last = now
		fmt.Fprintf(p.out, "kernel: %4d steps after %3.0f s\n", p.files, now.Sub(p.start).Seconds())
	}
	return len(b), nil
}
