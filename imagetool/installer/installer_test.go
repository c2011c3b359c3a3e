package installer_test

import (
	"testing"

	"github.com/inetboot/inetboot/imagetool/installer"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
)

func TestFind(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files []string
		want  string
	}{
		{"netboot.tar.gz", []string{"debian-installer/amd64/linux", "debian-installer/amd64/initrd.gz", "pxelinux.0"}, "debian-installer/amd64/linux"},
		{
			"the package", []string{
				"usr/lib/debian-installer/images/12/amd64/gtk/debian-installer/amd64/linux", "usr/lib/debian-installer/images/12/amd64/gtk/debian-installer/amd64/initrd.gz",
				"usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux", "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/initrd.gz",
			}, "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux",
		},
		{"Fedora", []string{"images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"}, "images/pxeboot/vmlinuz"},
		{"both files", []string{"linux", "initrd.gz"}, "linux"},
		{"no initrd", []string{"debian-installer/amd64/linux"}, ""},
		{"a system without modules", []string{"vmlinuz", "initrd.img", "etc/fstab"}, ""},
	} {
		tree, err := sourcetest.Build(func(b *source.Builder) error {
			for _, f := range tc.files {
				if err := b.Add(&source.Entry{Path: f, Mode: source.TypeRegular | 0o644}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if i := installer.Find(tree); i != nil {
			got = i.Kernel.Path
		}
		if got != tc.want {
			t.Errorf("%s: Find() = %q; want %q", tc.name, got, tc.want)
		}
	}
}
