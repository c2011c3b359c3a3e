// Package initramfs packs preboot into the archive that the kernel of the boot
// media unpacks: one static program as /init and the few directories that it
// mounts things on.
package initramfs

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/u-root/mkuimage/cpio"
	"github.com/u-root/mkuimage/uimage"
	"github.com/u-root/uio/llog"
)

// ErrNotStatic is wrapped if the program could not run as the only file of a
// system.
var ErrNotStatic = errors.New("not a static x86-64 program")

// Program is a static program and its name in the archive, without a slash.
type Program struct{ File, Name string }

// Build writes the archive with the program at preboot to out. Same program,
// same bytes.
func Build(ctx context.Context, preboot, out string) error {
	return Pack(ctx, []Program{{preboot, "init"}}, out)
}

// Pack writes an archive with several programs to out.
func Pack(ctx context.Context, programs []Program, out string) error {
	var files []string
	for _, p := range programs {
		if err := checkStatic(p.File); err != nil {
			return err
		}
		files = append(files, p.File+":"+p.Name)
	}
	work, err := os.MkdirTemp("", "inetboot-initramfs-*")
	if err != nil {
		return fmt.Errorf("make a folder for the initramfs: %w", err)
	}
	defer os.RemoveAll(work)

	base := cpio.InMemArchive()
	for _, r := range []cpio.Record{
		cpio.Directory("dev", 0o755), cpio.Directory("proc", 0o755), cpio.Directory("sys", 0o755),
		cpio.Directory("run", 0o755), cpio.Directory("tmp", 0o1777), cpio.Directory("inetboot", 0o755),
		cpio.CharDev("dev/console", 0o600, 5, 1),
	} {
		if err := base.WriteRecord(r); err != nil {
			return fmt.Errorf("lay out the initramfs: %w", err)
		}
	}
	plain := filepath.Join(work, "initramfs.cpio")
	quiet := llog.New(slog.LevelError, func(string, ...any) {}) // errors are returned, too
	if err := uimage.Create(quiet,
		uimage.WithTempDir(work),
		uimage.WithBaseArchive(base),
		uimage.WithFiles(files...),
		uimage.WithSkipLDD(),
		uimage.WithCPIOOutput(plain),
	); err != nil {
		return fmt.Errorf("pack the initramfs: %w", err)
	}
	return compress(ctx, plain, out)
}

// compress writes in as an xz file that the kernel's decompressor reads: x86 is
// the one filter built in. It has no checksum, which in an emulator takes as long
// as a tenth of the decompression: the range coder finds damage, too.
func compress(ctx context.Context, in, out string) error {
	src, err := os.Open(in)
	if err != nil {
		return fmt.Errorf("compress the initramfs: %w", err)
	}
	defer src.Close()
	cmd := exec.CommandContext(ctx, "xz", "--threads=1", "--check=none", "--x86", "--lzma2=preset=9e,nice=273,lc=4,pb=0,dict=16MiB", "--stdout")
	cmd.Stdin = src
	var packed, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &packed, &messages
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("compress the initramfs with xz: %w: %s", err, bytes.TrimSpace(messages.Bytes()))
	}
	// The kernel looks for the next archive at a multiple of four bytes.
	for packed.Len()%4 != 0 {
		packed.WriteByte(0)
	}
	if err := os.WriteFile(out, packed.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the initramfs: %w", err)
	}
	return nil
}

func checkStatic(program string) error {
	f, err := elf.Open(program)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("open preboot: %w", err)
	}
	if err != nil {
		return fmt.Errorf("%s is %w: %w", program, ErrNotStatic, err)
	}
	defer f.Close()
	if f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("%s is %w: it is for %v", program, ErrNotStatic, f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is %w: build it with CGO_ENABLED=0", program, ErrNotStatic)
		}
	}
	return nil
}
