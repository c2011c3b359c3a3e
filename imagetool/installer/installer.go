// Package installer finds the kernel and the initrd of a network installer in
// a tree: as debian-installer's netboot archives and Debian's packages
// debian-installer-*-netboot-* have them, and the folder pxeboot of Fedora's
// and Red Hat's media.
package installer

import (
	"path"

	"github.com/inetboot/inetboot/imagetool/source"
)

// Installer is a kernel with its initrd.
type Installer struct {
	Kernel, Initrd *source.Entry
}

// places are where kernels lie, and how the initrds beside them are called;
// best first. The text installer shows on every console.
func places() [][2]string {
	const images = "usr/lib/debian-installer/images/*/*/"
	return [][2]string{
		{"debian-installer/*/linux", "initrd.gz"},
		{"text/debian-installer/*/linux", "initrd.gz"},
		{"gtk/debian-installer/*/linux", "initrd.gz"},
		{"*/text/debian-installer/*/linux", "initrd.gz"},
		{images + "text/debian-installer/*/linux", "initrd.gz"},
		{images + "gtk/debian-installer/*/linux", "initrd.gz"},
		{"linux", "initrd.gz"},
		{"images/pxeboot/vmlinuz", "initrd.img"},
		{"pxeboot/vmlinuz", "initrd.img"},
		{"vmlinuz", "initrd.img"},
	}
}

// Find returns the installer in t, or nil if there is none, as in trees that
// have a system in them.
func Find(t *source.Tree) *Installer {
	for _, dir := range []string{"etc", "sbin", "usr/bin"} {
		if t.Lookup(dir) != nil {
			return nil
		}
	}
	for _, p := range places() {
		for _, e := range t.Entries() {
			if ok, err := path.Match(p[0], e.Path); err != nil || !ok || !e.IsRegular() {
				continue
			}
			initrd := t.Lookup(path.Join(path.Dir(e.Path), p[1]))
			if initrd != nil && initrd.IsRegular() {
				return &Installer{Kernel: e, Initrd: initrd}
			}
		}
	}
	return nil
}
