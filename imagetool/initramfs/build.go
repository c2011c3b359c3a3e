// Package initramfs builds the initramfs of a target: the blockfs program as
// /init and those of the image's own kernel modules that reach the store and
// mount a root.
package initramfs

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
	"github.com/ulikunitz/xz"

	"github.com/inetboot/inetboot/imagetool/kernel"
	"github.com/inetboot/inetboot/imagetool/source"
)

// ErrKernel is wrapped when the image's kernel cannot mount a root.
var ErrKernel = errors.New("the image's kernel lacks what is needed")

// maxFirmware bounds one firmware file, in bytes.
const maxFirmware = 64 << 20

// Result is a built initramfs.
type Result struct {
	Data     []byte   // compressed
	Unpacked int64    // bytes before compression
	Modules  int      // number of modules
	Firmware int      // number of firmware files
	Notes    []string // what the publisher should know
}

// Build returns the initramfs for the kernel k of the tree t, with program as
// /init. Equal input gives equal bytes.
func Build(ctx context.Context, t *source.Tree, k *kernel.Kernel, program []byte) (*Result, error) {
	b := &builder{tree: t, kernel: k, have: make(map[string]bool)}
	if err := b.indexes(); err != nil {
		return nil, err
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	z, err := compressor(&out, k)
	if err != nil {
		return nil, err
	}
	count := &countWriter{w: z}
	b.cpio = cpio.Newc.Writer(count)
	if err := b.write(ctx, program); err != nil {
		return nil, fmt.Errorf("build the target's initramfs: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress the target's initramfs: %w", err)
	}
	// Another archive is put behind this one at boot: at a multiple of four.
	for out.Len()%4 != 0 {
		out.WriteByte(0)
	}
	b.res.Data, b.res.Unpacked = out.Bytes(), count.n
	return &b.res, nil
}

// compressor returns the best compression that the kernel can undo.
func compressor(w io.Writer, k *kernel.Kernel) (io.WriteCloser, error) {
	can := func(option string) bool {
		v, _ := k.Option(option)
		return v == 'y'
	}
	switch {
	case can("RD_ZSTD"):
		// The window is what the kernel allocates (lib/decompress_unzstd.c allows 8 MiB and more).
		z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(8<<20), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("compress the target's initramfs: %w", err)
		}
		return z, nil
	case can("RD_XZ") && !can("RD_GZIP"):
		// The kernel's decoder knows no other check than CRC32 (Documentation/staging/xz.rst).
		z, err := xz.WriterConfig{CheckSum: xz.CRC32}.NewWriter(w)
		if err != nil {
			return nil, fmt.Errorf("compress the target's initramfs: %w", err)
		}
		return z, nil
	}
	if _, known := k.Option("RD_GZIP"); known && !can("RD_GZIP") {
		return nil, fmt.Errorf("%w: %s unpacks no initramfs that is compressed with zstd, xz or gzip", ErrKernel, k.Release)
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("compress the target's initramfs: %w", err)
	}
	return z, nil
}

type builder struct {
	tree   *source.Tree
	kernel *kernel.Kernel
	mods   *Modules
	dep    []byte
	soft   []byte
	alias  []byte
	extra  map[string][]byte // indexes that are copied as they are

	cpio cpio.RecordWriter
	ino  uint64
	have map[string]bool // directories that are written
	res  Result
}

// indexes reads what depmod(8) wrote.
func (b *builder) indexes() (err error) {
	read := func(name string, must bool) []byte {
		data, rerr := b.tree.ReadFile(b.kernel.Modules.Path+"/"+name, maxIndex)
		if rerr != nil && must && err == nil {
			err = fmt.Errorf("read the modules of %s: %w", b.kernel.Release, rerr)
		}
		return data
	}
	b.dep = read("modules.dep", true)
	b.soft = read("modules.softdep", false)
	b.alias = read("modules.alias", true)
	b.extra = make(map[string][]byte)
	for _, n := range []string{"modules.builtin", "modules.builtin.modinfo"} {
		if data := read(n, false); data != nil {
			b.extra[n] = data
		}
	}
	if err != nil {
		return err
	}
	if b.mods, err = ParseDep(b.dep); err != nil {
		return fmt.Errorf("%s: %w", b.kernel.Release, err)
	}
	b.mods.AddSoftDep(b.soft)
	b.mods.AddAlias(b.alias)
	b.mods.AddBuiltin(b.extra["modules.builtin"])
	return nil
}

// check refuses kernels that cannot mount a root, and notes which network
// drivers are missing.
func (b *builder) check() error {
	lacks := func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), b.mods.Has)
	}
	if missing := lacks(mustHave); len(missing) > 0 {
		return fmt.Errorf("%w: %s has neither built in nor as a module: %s", ErrKernel, b.kernel.Release, strings.Join(missing, ", "))
	}
	if missing := lacks(mediaDrivers); len(missing) > 0 {
		b.note("kernel %s lacks network drivers that boot media have; machines with these adapters cannot boot this image: %s", b.kernel.Release, strings.Join(missing, ", "))
	}
	return nil
}

func (b *builder) note(format string, args ...any) {
	b.res.Notes = append(b.res.Notes, fmt.Sprintf(format, args...))
}

// modules returns the paths of the modules to include.
func (b *builder) modules() []string {
	drop := make(map[string]bool)
	for _, n := range b.mods.Under(leftOut...) {
		drop[n] = true
	}
	names := slices.Concat(essential, network, storage)
	for _, n := range b.mods.Under(networkFolders...) {
		if !drop[n] {
			names = append(names, n)
		}
	}
	names = append(names, mediaDrivers...)
	return b.mods.Closure(names...)
}

func (b *builder) write(ctx context.Context, program []byte) error {
	for _, d := range []struct {
		name string
		perm uint64
	}{{"dev", 0o755}, {"proc", 0o555}, {"sys", 0o555}, {"run", 0o755}, {"tmp", 0o1777}, {"inetboot", 0o755}} {
		if err := b.dir(d.name, d.perm); err != nil {
			return err
		}
	}
	// The kernel opens it for init before anything is mounted.
	if err := b.record(cpio.CharDev("dev/console", 0o600, 5, 1)); err != nil {
		return err
	}
	if err := b.file("init", program, 0o755); err != nil {
		return err
	}
	if err := b.writeModules(ctx); err != nil {
		return err
	}
	return cpio.WriteTrailer(b.cpio)
}

func (b *builder) writeModules(ctx context.Context) error {
	base := "lib/modules/" + b.kernel.Release
	keep := make(map[string]bool)
	firmware := make(map[string]bool)
	for _, p := range b.modules() {
		if err := ctx.Err(); err != nil {
			return err
		}
		packed, err := b.tree.ReadFile(b.kernel.Modules.Path+"/"+p, maxModule)
		if err != nil {
			return fmt.Errorf("module %s: %w", p, err)
		}
		mod, err := Unpack(packed)
		if err != nil {
			return fmt.Errorf("module %s: %w", p, err)
		}
		fw, err := ModInfo(mod, "firmware")
		if err != nil {
			return fmt.Errorf("module %s: %w", p, err)
		}
		for _, f := range fw {
			firmware[f] = true
		}
		if err := b.file(base+"/"+plainName(p), mod, 0o644); err != nil {
			return err
		}
		keep[ModuleName(p)] = true
		b.res.Modules++
	}
	for _, idx := range []struct {
		name string
		data []byte
	}{
		{"modules.alias", filter(b.alias, 2, keep)},
		{"modules.builtin", b.extra["modules.builtin"]},
		{"modules.builtin.modinfo", b.extra["modules.builtin.modinfo"]},
		{"modules.dep", plainDep(filter(b.dep, 0, keep))},
		{"modules.softdep", filter(b.soft, 1, keep)},
	} {
		if idx.data == nil {
			continue // old kernels have no modules.builtin.modinfo
		}
		if err := b.file(base+"/"+idx.name, idx.data, 0o644); err != nil {
			return err
		}
	}
	return b.writeFirmware(firmware)
}

// writeFirmware adds the firmware that the source has of the names that
// modules ask for.
func (b *builder) writeFirmware(want map[string]bool) error {
	names := make([]string, 0, len(want))
	for n := range want {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if n == "" || n != strings.TrimPrefix(path.Clean("/"+n), "/") {
			continue
		}
		// The kernel unpacks .zst and .xz itself where it has been built so.
		for _, suffix := range []string{"", ".zst", ".xz"} {
			e, err := b.tree.Resolve("lib/firmware/" + n + suffix)
			if err != nil || !e.IsRegular() {
				continue
			}
			data, err := b.tree.ReadEntry(e, maxFirmware)
			if err != nil {
				return fmt.Errorf("firmware %s: %w", n, err)
			}
			if err := b.file("lib/firmware/"+n+suffix, data, 0o644); err != nil {
				return err
			}
			b.res.Firmware++
			break
		}
	}
	return nil
}

// plainName returns a module's path without the suffix of a compression:
// modules are unpacked here, so that the whole is compressed once and /init
// needs no decoder.
func plainName(p string) string {
	head, _, _ := strings.Cut(path.Base(p), ".ko")
	return path.Join(path.Dir(p), head+".ko")
}

// plainDep does the same for all of modules.dep.
func plainDep(dep []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(dep) {
		file, rest, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		out.WriteString(plainName(file) + ":")
		for d := range strings.FieldsSeq(rest) {
			out.WriteString(" " + plainName(d))
		}
		out.WriteByte('\n')
	}
	return out.Bytes()
}

// dir adds a directory unless it is there.
func (b *builder) dir(name string, perm uint64) error {
	if name == "." || b.have[name] {
		return nil
	}
	if err := b.dir(path.Dir(name), 0o755); err != nil {
		return err
	}
	b.have[name] = true
	return b.record(cpio.Directory(name, perm))
}

func (b *builder) file(name string, data []byte, perm uint64) error {
	// The kernel makes no parents.
	if err := b.dir(path.Dir(name), 0o755); err != nil {
		return err
	}
	r := cpio.StaticRecord(data, cpio.Info{Name: name, Mode: cpio.S_IFREG | perm, FileSize: uint64(len(data))})
	return b.record(r)
}

func (b *builder) record(r cpio.Record) error {
	b.ino++
	r.Ino = b.ino
	r.MTime = 0
	if r.NLink == 0 {
		r.NLink = 1
	}
	if err := b.cpio.WriteRecord(r); err != nil {
		return fmt.Errorf("write %s: %w", r.Name, err)
	}
	return nil
}

// countWriter counts the bytes of the archive.
type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
