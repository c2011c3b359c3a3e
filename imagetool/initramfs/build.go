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
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
	"github.com/ulikunitz/xz"

	"github.com/inetboot/inetboot/imagetool/kernel"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/internal/nicdriver"
)

// ErrKernel is wrapped when the image's kernel cannot mount a root.
var ErrKernel = errors.New("the image's kernel lacks what is needed")

// Result is a built initramfs.
type Result struct {
	Data     []byte   // compressed
	Unpacked int64    // bytes before compression
	Modules  int      // number of modules
	Firmware int      // number of firmware files
	Lacks    []string // network drivers of boot media that the kernel does not have
	Notes    []string // what the publisher should know
}

// Build returns the initramfs for the kernel k of the tree t, with program as
// /init, for a root of the type filesystem, as in mount(2). Equal input gives
// equal bytes.
func Build(ctx context.Context, t *source.Tree, k *kernel.Kernel, program []byte, filesystem string) (*Result, error) {
	b := &builder{tree: t, kernel: k, filesystem: filesystem, have: make(map[string]bool)}
	if err := b.readIndexes(ctx); err != nil {
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
	tree       *source.Tree
	kernel     *kernel.Kernel
	filesystem string // of the root
	mods       *Modules
	idx        *indexes
	loaded     map[string]loadedModule // by path

	cpio cpio.RecordWriter
	ino  uint64
	have map[string]bool // directories that are written
	res  Result
}

// readIndexes reads what depmod(8) wrote, or does its work.
func (b *builder) readIndexes(ctx context.Context) (err error) {
	if b.idx, err = readIndexes(b.tree, b.kernel.Modules); errors.Is(err, fs.ErrNotExist) {
		b.note("kernel %s has no modules.dep: what its modules need is taken from the modules themselves", b.kernel.Release)
		b.idx, err = scan(ctx, b.tree, b.kernel.Modules)
	}
	if err != nil {
		return fmt.Errorf("read the modules of %s: %w", b.kernel.Release, err)
	}
	if b.mods, err = ParseDep(b.idx.dep); err != nil {
		return fmt.Errorf("%s: %w", b.kernel.Release, err)
	}
	b.mods.AddSoftDep(b.idx.soft)
	b.mods.AddWeakDep(b.idx.weak)
	b.mods.AddAlias(b.idx.alias)
	b.mods.AddBuiltin(b.idx.builtin)
	if n := b.mods.Drop(func(p string) bool {
		e, err := b.tree.Resolve(b.kernel.Modules.Path + "/" + p)
		return err == nil && e.IsRegular()
	}); n > 0 {
		b.note("%d of the modules that modules.dep of kernel %s lists are not there", n, b.kernel.Release)
	}
	return nil
}

// check refuses kernels that cannot mount a root, and notes which network
// drivers are missing.
func (b *builder) check() error {
	lacks := func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), b.mods.Has)
	}
	if missing := lacks(append([]string{b.filesystem}, mustHave...)); len(missing) > 0 {
		return fmt.Errorf("%w: %s has neither built in nor as a module: %s", ErrKernel, b.kernel.Release, strings.Join(missing, ", "))
	}
	if b.res.Lacks = lacks(mediaDrivers()); len(b.res.Lacks) > 0 {
		b.note("kernel %s lacks network drivers that boot media have; machines with these adapters cannot boot this image: %s", b.kernel.Release, strings.Join(b.res.Lacks, ", "))
	}
	return nil
}

// mediaDrivers are the network drivers of the boot media. A machine that
// arrives by one that the image lacks would be stuck.
func mediaDrivers() []string {
	var out []string
	for _, d := range nicdriver.Media() {
		out = append(out, d.Module)
	}
	return out
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
	names := slices.Concat([]string{b.filesystem}, essential, network, storage)
	for _, n := range b.mods.Under(networkFolders...) {
		if !drop[n] {
			names = append(names, n)
		}
	}
	names = append(names, mediaDrivers()...)
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
	paths, err := b.collect(ctx)
	if err != nil {
		return err
	}
	base := "lib/modules/" + b.kernel.Release
	keep := make(map[string]bool)
	var firmware []string
	for _, p := range paths {
		mod := b.loaded[p]
		firmware = append(firmware, mod.info["firmware"]...)
		if err := b.file(base+"/"+plainName(p), mod.data, 0o644); err != nil {
			return err
		}
		keep[ModuleName(p)] = true
		b.res.Modules++
	}
	for _, idx := range []struct {
		name string
		data []byte
	}{
		{"modules.alias", filter(b.idx.alias, 2, keep)},
		{"modules.builtin", b.idx.builtin},
		{"modules.builtin.modinfo", b.idx.builtinInfo},
		{"modules.dep", plainDep(filter(b.idx.dep, 0, keep))},
		{"modules.softdep", b.mods.softdep(keep)},
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

// loadedModule is a module in memory.
type loadedModule struct {
	data []byte // unpacked
	info Info
}

// collect reads the modules to include into b.loaded and returns their paths.
// What they say about themselves may bring more of them.
func (b *builder) collect(ctx context.Context) ([]string, error) {
	b.loaded = make(map[string]loadedModule)
	for {
		paths := b.modules()
		news := false
		for _, p := range paths {
			if _, ok := b.loaded[p]; ok {
				continue
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			mod, err := b.load(p)
			if err != nil {
				return nil, fmt.Errorf("module %s: %w", p, err)
			}
			b.loaded[p] = mod
			news = b.mods.AddInfo(ModuleName(p), mod.info) || news
		}
		if !news {
			return paths, nil
		}
	}
}

func (b *builder) load(p string) (loadedModule, error) {
	packed, err := b.tree.ReadFile(b.kernel.Modules.Path+"/"+p, maxModule)
	if err != nil {
		return loadedModule{}, err
	}
	data, err := Unpack(packed)
	if err != nil {
		return loadedModule{}, err
	}
	info, err := ModInfo(data)
	return loadedModule{data, info}, err
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
