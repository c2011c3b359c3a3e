// Package bootmedia has the files that machines of a LAN load to get to
// preboot, made for this server: the medium's kernel, initramfs and UEFI program
// with a site file that names this server and the root of its catalog, and what
// tells BIOS, pxelinux and iPXE to load them. They are made as they are read; no
// copies lie on the disk.
package bootmedia

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
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
	Pxelinux  = "pxelinux.cfg/default"
)

// cmdline is the kernel's command line, as on the media: both consoles show
// the menu.
const cmdline = "console=ttyS0,115200 console=tty0"

// script is what iPXE runs. UEFI's kernel looks its initrds up by their names,
// a BIOS's gets them one behind the other.
const script = `#!ipxe
kernel vmlinuz initrd=initramfs.xz initrd=site.cpio ` + cmdline + ` || goto failed
initrd initramfs.xz || goto failed
initrd site.cpio || goto failed
boot || goto failed
:failed
echo InetBoot could not be loaded from ${cwuri}. The next boot device is tried in 10 seconds.
sleep 10
exit 1
`

// pxelinuxConfig is what pxelinux reads. Unlike GRUB's, its TFTP goes to the
// server that named it, also if that is not the one that gave the address.
const pxelinuxConfig = `DEFAULT inetboot
PROMPT 0
LABEL inetboot
  KERNEL vmlinuz
  INITRD initramfs.xz,site.cpio
  APPEND ` + cmdline + `
`

// Options of the files. All have to be given.
type Options struct {
	Dir  string    // folder of the media: inetboot.efi, vmlinuz, initramfs.xz, and pxelinux.0 and ldlinux.c32 for the PXE of a BIOS
	Site site.Site // what machines are told of this server
	// Root returns the root metadata that trust in the catalog begins with, and
	// fs.ErrNotExist as long as there is none.
	Root func() ([]byte, error)
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
	switch name {
	case Kernel, Initramfs, BIOS, Module, "lpxelinux.0":
		return true
	}
	return false
}

// Needed are the files that a folder of media has.
func Needed() []string { return []string{Program, Kernel, Initramfs} }

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
func (f *Files) HasBIOS() bool {
	for _, name := range []string{BIOS, Module} {
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
		return newFile(name, []byte(script), time.Time{}), nil
	case name == Pxelinux:
		return newFile(name, []byte(pxelinuxConfig), time.Time{}), nil
	case plain(name):
		return f.dir.Open(name)
	}
	return fail(fs.ErrNotExist)
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
