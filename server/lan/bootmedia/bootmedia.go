// Package bootmedia has the files that machines of a LAN load to get to
// preboot, made for this server: the medium's kernel, initramfs and UEFI program
// with a site file that names this server and the root of its catalog, and what
// tells BIOS, pxelinux and iPXE to load them. They are made as they are read; no
// copies lie on the disk.
package bootmedia

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inetboot/inetboot/internal/site"
)

// Names of files.
const (
	Program   = "inetboot.efi"
	Kernel    = "vmlinuz"
	Initramfs = "initramfs.xz"
	SiteCPIO  = "site.cpio"
	BIOS      = "pxelinux.0"  // which loads
	Module    = "ldlinux.c32" // and that reads
	Script    = "boot.ipxe"
	ARM64     = "inetboot-arm64.efi" // what machines with UEFI on arm64 load, if somebody has put it there
	ScriptARM = "boot-arm64.ipxe"    // likewise for iPXE on arm64
	Pxelinux  = "pxelinux.cfg/default"
	Loader    = "ipxe.efi" // iPXE for UEFI, for machines that boot without preboot
	Menu      = "menu.c32" // shows pxelinux' menus, with
	Library   = "libutil.c32"

	// Machines are the configurations of pxelinux for the single machine, by its
	// UUID, for which pxelinux asks first, or by 01-MAC. Images are the kernels and
	// initramfs of images.
	Machines = "pxelinux.cfg/"
	Images   = "images/"
)

// Cmdline is the kernel's command line, as on the media: both consoles show
// the menu; one processor is enough for it.
const Cmdline = "console=ttyS0,115200 console=tty0 nr_cpus=1"

// script is what iPXE runs. UEFI's kernel looks its initrds up by their names,
// a BIOS's gets them one behind the other.
const script = `kernel vmlinuz initrd=initramfs.xz initrd=site.cpio ` + Cmdline + ` || goto failed
initrd initramfs.xz || goto failed
initrd site.cpio || goto failed
boot || goto failed
:failed
echo InetBoot could not be loaded from ${cwuri}. The next boot device is tried in 10 seconds.
sleep 10
exit 1
:arm64
chain --replace --autofree ` + ScriptARM + ` ||
echo ${cwuri} has nothing for arm64 (` + ScriptARM + `). The next boot device is tried in 10 seconds.
sleep 10
exit 1
`

// others sends those away to whom neither kernel nor menus are of use.
const others = "iseq ${buildarch} arm64 && goto arm64 ||\n"

// ask makes iPXE ask for the script of this very machine first.
const ask = "chain --replace --autofree boot.ipxe?mac=${netX/mac:hexhyp}&uuid=${uuid} ||\n"

const shebang = "#!ipxe\n"

// pxelinuxConfig is what pxelinux reads. Unlike GRUB's, its TFTP goes to the
// server that named it, also if that is not the one that gave the address.
const pxelinuxConfig = `DEFAULT inetboot
PROMPT 0
LABEL inetboot
  KERNEL vmlinuz
  INITRD initramfs.xz,site.cpio
  APPEND ` + Cmdline + `
`

// Options of the files. All have to be given.
type Options struct {
	Dir  string    // folder of the media: inetboot.efi, vmlinuz, initramfs.xz, and pxelinux.0 and ldlinux.c32 for the PXE of a BIOS
	Site site.Site // what machines are told of this server
	// Root returns the root metadata that trust in the catalog begins with, and
	// fs.ErrNotExist as long as there is none.
	Root func() ([]byte, error)

	// ARM64 is a program for UEFI on arm64, which CheckARM64 has nothing against; "": the one of that name in Dir, if
	// there is one.
	ARM64 string

	// Machines has what is not the same for all machines; nil: nothing is.
	Machines MachineFiles
}

// MachineFiles are files for the single machine.
type MachineFiles interface {
	// Pxelinux returns the configuration for a machine by its MAC address, or by
	// its UUID as pxelinux writes it, one of which is empty; nil if there is none
	// by that. preboot is the configuration of machines that boot by preboot.
	// modules tells whether there are menu.c32 and libutil.c32.
	Pxelinux(ctx context.Context, mac, uuid string, preboot []byte, modules bool) ([]byte, error)
	// IPXE returns the script for a machine, likewise.
	IPXE(ctx context.Context, mac, uuid string) ([]byte, error)
	// Image returns a file below Images. Errors wrap fs.ErrNotExist if there is none.
	Image(ctx context.Context, name string) (io.ReaderAt, int64, error)
}

// Files is the files, as the TFTP and the HTTP service show them. It has no
// folders that could be listed.
type Files struct {
	o   Options
	dir *os.Root

	mu    sync.Mutex
	slots map[string]slot // where the site slot is in a file
	root  []byte          // that archive was made with
	made  []byte          // the site archive
	at    time.Time       // when it was made
}

type slot struct {
	size int64
	time time.Time
	at   int64
}

var _ fs.FS = (*Files)(nil)

// plain tells whether a file is shown as it is: those of the media, and
// pxelinux with HTTP, for whoever puts it there.
func plain(name string) bool {
	return name == Kernel || name == Initramfs || slices.Contains(Optional(), name)
}

// Needed are the files that a folder of media has.
func Needed() []string { return []string{Program, Kernel, Initramfs} }

// Optional are the files of the folder that are shown, too, if they are there.
func Optional() []string {
	return []string{BIOS, Module, Menu, Library, Loader, ARM64, ScriptARM, "lpxelinux.0"}
}

// Open checks that the folder has the media.
func Open(o Options) (*Files, error) {
	for _, name := range Needed() {
		if fi, err := os.Stat(filepath.Join(o.Dir, name)); err != nil || !fi.Mode().IsRegular() {
			return nil, fmt.Errorf("the folder %s has no file %s: build the media with `make iso`, or name another folder with --media", o.Dir, name)
		}
	}
	dir, err := os.OpenRoot(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder of the media: %w", err)
	}
	f := &Files{o: o, dir: dir, slots: map[string]slot{}}
	if _, err := site.Archive(&o.Site, nil); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return f, nil
}

// HasBIOS tells whether the PXE of a BIOS can boot from the folder.
func (f *Files) HasBIOS() bool { return f.has(BIOS, Module) }

// HasARM64 tells whether there is a program for UEFI on arm64.
func (f *Files) HasARM64() bool { return f.o.ARM64 != "" || f.has(ARM64) }

// HasIPXE tells whether there is an iPXE for UEFI.
func (f *Files) HasIPXE() bool { return f.has(Loader) }

func (f *Files) has(names ...string) bool {
	for _, name := range names {
		if fi, err := f.dir.Stat(name); err != nil || !fi.Mode().IsRegular() {
			return false
		}
	}
	return true
}

// Close closes the folder.
func (f *Files) Close() error { return f.dir.Close() }

// Open implements fs.FS.
func (f *Files) Open(name string) (fs.File, error) {
	fail := func(err error) (fs.File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	switch {
	case !fs.ValidPath(name):
		return fail(fs.ErrInvalid)
	case name == Program:
		return f.program(name)
	case name == SiteCPIO:
		a, at, err := f.archive()
		if err != nil {
			return fail(err)
		}
		return newFile(name, a, at), nil
	case name == Script:
		text := shebang + others + script
		if f.o.Machines != nil {
			text = shebang + others + ask + script
		}
		return newFile(name, []byte(text), time.Time{}), nil
	case name == Pxelinux:
		return newFile(name, []byte(pxelinuxConfig), time.Time{}), nil
	case name == ARM64 && f.o.ARM64 != "":
		return os.Open(f.o.ARM64)
	case plain(name):
		return f.dir.Open(name)
	case f.o.Machines != nil && (strings.HasPrefix(name, Machines) || strings.HasPrefix(name, Images)):
		file, err := f.machineFile(name)
		if err != nil {
			return fail(err)
		}
		return file, nil
	}
	return fail(fs.ErrNotExist)
}

// ethernet is what pxelinux writes before a MAC address: its type of hardware.
const ethernet = "01-"

// patience is how long what is made for a machine may take.
const patience = 20 * time.Second

// machineFile opens a file that is for one machine, or of an image.
func (f *Files) machineFile(name string) (fs.File, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if of, ok := strings.CutPrefix(name, Machines); ok {
		mac, uuid := "", of
		if m, ok := strings.CutPrefix(of, ethernet); ok {
			mac, uuid = m, ""
		}
		data, err := f.o.Machines.Pxelinux(ctx, mac, uuid, []byte(pxelinuxConfig), f.has(Menu, Library))
		if err == nil && data == nil {
			err = fs.ErrNotExist // pxelinux goes on, at last to the configuration of all
		}
		if err != nil {
			return nil, err
		}
		return newFile(name, data, time.Time{}), nil
	}
	r, size, err := f.o.Machines.Image(ctx, strings.TrimPrefix(name, Images))
	if err != nil {
		return nil, err
	}
	return &file{SectionReader: io.NewSectionReader(r, 0, size), name: name}, nil
}

// machineScript returns the script for one machine.
func (f *Files) machineScript(ctx context.Context, mac, uuid string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	data, err := f.o.Machines.IPXE(ctx, mac, uuid)
	if err == nil && data == nil {
		data = []byte(shebang + script)
	}
	return data, err
}

// archive returns the site archive, and when its contents changed.
func (f *Files) archive() ([]byte, time.Time, error) {
	root, err := f.o.Root()
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("there is no catalog yet, so nothing could be trusted: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.made == nil || !bytes.Equal(root, f.root) {
		a, err := site.Archive(&f.o.Site, root)
		if err != nil {
			return nil, time.Time{}, err
		}
		f.root, f.made, f.at = root, a, time.Now()
	}
	return f.made, f.at, nil
}

// program opens a file of the media with the site archive in its slot.
func (f *Files) program(name string) (fs.File, error) {
	a, at, err := f.archive()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	in, err := f.dir.Open(name)
	if err != nil {
		return nil, err
	}
	where, fi, err := f.slot(name, in)
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	if at.Before(fi.ModTime()) {
		at = fi.ModTime()
	}
	r := &patched{in: in, patch: a, at: where}
	return &file{SectionReader: io.NewSectionReader(r, 0, fi.Size()), closer: in, name: name, time: at}, nil
}

// slot returns where the site slot is in a file, which is searched once.
func (f *Files) slot(name string, in *os.File) (int64, fs.FileInfo, error) {
	fi, err := in.Stat()
	if err != nil {
		return 0, nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.slots[name]
	if s.size != fi.Size() || !s.time.Equal(fi.ModTime()) {
		at, err := site.FindSlot(in, fi.Size())
		if err != nil {
			return 0, nil, fmt.Errorf("%s: %w", name, err)
		}
		s = slot{fi.Size(), fi.ModTime(), at}
		f.slots[name] = s
	}
	return s.at, fi, nil
}

// patched is a file with other bytes in one place.
type patched struct {
	in    io.ReaderAt
	patch []byte
	at    int64
}

// ReadAt implements io.ReaderAt.
func (p *patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.in.ReadAt(b, off)
	// The part of what was read that lies in the patch.
	from, to := max(off, p.at), min(off+int64(n), p.at+int64(len(p.patch)))
	if from < to {
		copy(b[from-off:to-off], p.patch[from-p.at:])
	}
	return n, err
}

// file is an open file that can be sought in, as HTTP's ranges need it.
type file struct {
	*io.SectionReader
	closer io.Closer // or nil
	name   string
	time   time.Time
}

func newFile(name string, data []byte, at time.Time) *file {
	return &file{SectionReader: io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), name: name, time: at}
}

// Close implements fs.File.
func (f *file) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// Stat implements fs.File.
func (f *file) Stat() (fs.FileInfo, error) { return info{f}, nil }

type info struct{ f *file }

func (i info) Name() string       { return path.Base(i.f.name) }
func (i info) Size() int64        { return i.f.SectionReader.Size() }
func (i info) Mode() fs.FileMode  { return 0o444 }
func (i info) ModTime() time.Time { return i.f.time }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return nil }

// Type returns the media type that HTTP names for a file.
func Type(name string) string {
	switch {
	case strings.HasSuffix(name, ".efi"):
		return "application/efi" // UEFI 2.10 section 24.7.3.1: what HTTP boot loads
	case strings.HasSuffix(name, ".ipxe"), strings.HasPrefix(name, "pxelinux.cfg/"):
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}
