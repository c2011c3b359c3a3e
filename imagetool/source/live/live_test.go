package live_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/cloop"
	"github.com/inetboot/inetboot/imagetool/source/filesystem"
	"github.com/inetboot/inetboot/imagetool/source/live"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest/clooptest"
)

// folder makes a folder of files: text, or the file whose name follows "<".
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if from, ok := strings.CutPrefix(text, "<"); ok {
			if err := os.Link(from, p); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func squashfs(t *testing.T, files map[string]string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "fs.squashfs")
	sourcetest.Run(t, "mksquashfs", folder(t, files), out, "-quiet", "-no-progress")
	return out
}

func ext4(t *testing.T, files map[string]string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "fs.ext4")
	sourcetest.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", folder(t, files), out, "4M")
	return out
}

func iso(t *testing.T, files map[string]string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "live.iso")
	sourcetest.Run(t, "xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-o", out, folder(t, files))
	return out
}

// inCloop puts an image into a cloop image.
func inCloop(t *testing.T, name string, o clooptest.Options) string {
	t.Helper()
	disk, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "cloop")
	if err := os.WriteFile(out, clooptest.Pack(t, disk, o), 0o644); err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t *testing.T, name string) (*source.Tree, error) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return sourcetest.Build(func(b *source.Builder) error { return live.Read(context.Background(), b, f, fi.Size()) })
}

func TestSystems(t *testing.T) {
	root := func(id string) map[string]string {
		return map[string]string{"etc/os-release": "ID=" + id + "\n", "etc/" + id: id}
	}
	rootfs := ext4(t, root("fedora"))
	for _, tc := range []struct {
		name    string
		files   map[string]string
		kind    string
		cmdline string
		id      string // of /etc/os-release
		there   []string
		whole   string
		kernels string
	}{
		{
			"Debian", map[string]string{
				"live/filesystem.squashfs": "<" + squashfs(t, root("debian")), "live/filesystem.packages": "x", "live/vmlinuz-6.1.0-1-amd64": "k",
				"live/initrd.img-6.1.0-1-amd64": "i", "isolinux/isolinux.cfg": "x", ".disk/info": "Debian", "boot/grub/grub.cfg": "x",
			},
			"Debian live ISO", "boot=live components", "debian", []string{"etc/debian"}, "squashfs", "live/vmlinuz-6.1.0-1-amd64",
		},
		{
			"Debian, several", map[string]string{
				"live/a.squashfs": "<" + squashfs(t, root("over")), "live/z.squashfs": "<" + squashfs(t, root("base")), "live/unused.squashfs": "no squashfs",
				"live/filesystem.module": "z.squashfs\na.squashfs\n", "live/vmlinuz": "k",
			},
			"Debian live ISO", "boot=live components", "over", []string{"etc/base", "etc/over"}, "", "live/vmlinuz",
		},
		{
			"Ubuntu, old", map[string]string{"casper/filesystem.squashfs": "<" + squashfs(t, root("ubuntu")), "casper/vmlinuz": "k", "casper/initrd": "i", ".disk/info": "Ubuntu"},
			"Ubuntu live ISO (casper)", "boot=casper", "ubuntu", []string{"etc/ubuntu"}, "squashfs", "casper/vmlinuz",
		},
		{
			"Ubuntu, layers", map[string]string{
				"casper/minimal.squashfs":               "<" + squashfs(t, root("minimal")),
				"casper/minimal.de.squashfs":            "<" + squashfs(t, root("de")),
				"casper/minimal.standard.squashfs":      "<" + squashfs(t, root("standard")),
				"casper/minimal.standard.live.squashfs": "<" + squashfs(t, root("live")), "casper/vmlinuz": "k", "casper/initrd": "i",
			},
			"Ubuntu live ISO (casper)", "boot=casper", "live", []string{"etc/minimal", "etc/standard", "etc/live"}, "", "casper/vmlinuz",
		},
		{
			"Fedora, rootfs.img", map[string]string{
				"LiveOS/squashfs.img": "<" + squashfs(t, map[string]string{"LiveOS/rootfs.img": "<" + rootfs}), "images/pxeboot/vmlinuz": "k", "images/pxeboot/initrd.img": "i",
			},
			"Fedora live ISO (LiveOS)", "rd.live.image", "fedora", []string{"etc/fedora", "lost+found"}, "ext4", "images/pxeboot/vmlinuz",
		},
		{
			"Fedora, root in squashfs", map[string]string{"LiveOS/squashfs.img": "<" + squashfs(t, root("fedora")), "boot/x86_64/loader/linux": "k"},
			"Fedora live ISO (LiveOS)", "rd.live.image", "fedora", []string{"etc/fedora"}, "squashfs", "boot/x86_64/loader/linux",
		},
		{
			"Arch", map[string]string{"arch/x86_64/airootfs.sfs": "<" + squashfs(t, root("arch")), "arch/boot/x86_64/vmlinuz-linux": "k", "arch/version": "x"},
			"Arch Linux live ISO (archiso)", "", "arch", []string{"etc/arch"}, "squashfs", "arch/boot/x86_64/vmlinuz-linux",
		},
		{
			"archiso, named otherwise", map[string]string{"sysresccd/x86_64/airootfs.sfs": "<" + squashfs(t, root("rescue")), "sysresccd/boot/x86_64/vmlinuz": "k"},
			"Arch Linux live ISO (archiso)", "", "rescue", nil, "squashfs", "sysresccd/boot/x86_64/vmlinuz",
		},
		{
			"Knoppix in squashfs", map[string]string{
				"KNOPPIX/KNOPPIX": "<" + squashfs(t, root("knoppix")), "KNOPPIX/KNOPPIX1": "<" + squashfs(t, map[string]string{"etc/more": "x"}), "boot/isolinux/linux64": "k",
			},
			"Knoppix", "", "knoppix", []string{"etc/more"}, "", "boot/isolinux/linux64",
		},
		{
			"Knoppix in cloop", map[string]string{
				"KNOPPIX/KNOPPIX":       "<" + inCloop(t, iso(t, root("knoppix")), clooptest.Options{Version: "V2.0", BlockSize: 64 << 10}),
				"KNOPPIX/KNOPPIX1":      "<" + inCloop(t, iso(t, map[string]string{"etc/more": "x"}), clooptest.Options{Version: "V4.0", BlockSize: 128 << 10, Kinds: []clooptest.Kind{clooptest.XZ, clooptest.LZ4}, Last: true}),
				"KNOPPIX/KNOPPIX2":      "<" + inCloop(t, squashfs(t, map[string]string{"etc/most": "x"}), clooptest.Options{Version: "V4.0", BlockSize: 128 << 10, Kinds: []clooptest.Kind{clooptest.None}}),
				"boot/isolinux/linux64": "k",
			},
			"Knoppix", "", "knoppix", []string{"etc/knoppix", "etc/more", "etc/most"}, "", "boot/isolinux/linux64",
		},
		{
			"Knoppix, one ISO in cloop", map[string]string{
				"KNOPPIX/KNOPPIX": "<" + inCloop(t, iso(t, root("knoppix")), clooptest.Options{Version: "V4.0", BlockSize: 64 << 10}), "boot/isolinux/linux": "k",
			},
			"Knoppix", "", "knoppix", nil, "", "boot/isolinux/linux",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree, err := read(t, iso(t, tc.files))
			if err != nil {
				t.Fatal(err)
			}
			o := tree.Origin
			if o.Kind != tc.kind || o.Cmdline != tc.cmdline {
				t.Errorf("Kind, Cmdline = %q, %q; want %q, %q", o.Kind, o.Cmdline, tc.kind, tc.cmdline)
			}
			if got, err := tree.ReadFile("etc/os-release", 100); err != nil || string(got) != "ID="+tc.id+"\n" {
				t.Errorf("/etc/os-release = %q, %v; want ID=%s", got, err, tc.id)
			}
			for _, p := range tc.there {
				if tree.Lookup(p) == nil {
					t.Errorf("/%s is missing", p)
				}
			}
			whole := ""
			if o.Whole != nil {
				whole = o.Whole.Type
			}
			if whole != tc.whole {
				t.Errorf("Whole is of type %q; want %q", whole, tc.whole)
			}
			var kernels []string
			for _, e := range o.Kernels {
				kernels = append(kernels, e.Path)
				if b, err := tree.ReadEntry(e, 10); err != nil || string(b) != "k" {
					t.Errorf("kernel %s = %q, %v", e.Path, b, err)
				}
			}
			if got := strings.Join(kernels, " "); got != tc.kernels {
				t.Errorf("Kernels = %q; want %q", got, tc.kernels)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  error
		text  string
	}{
		{"an installer", map[string]string{"install.amd/vmlinuz": "k", "dists/stable/Release": "x"}, live.ErrUnknown, "--kernel"},
		{"Knoppix in a cloop of version 1", map[string]string{"KNOPPIX/KNOPPIX": "#!/bin/sh\n#V1.0 Format\n" + strings.Repeat("x", 200)}, cloop.ErrUnsupported, "V1.0"},
		{"no squashfs", map[string]string{"live/filesystem.squashfs": "text"}, filesystem.ErrUnsupported, "no known kind"},
		{"casper, no live layer", map[string]string{"casper/a.squashfs": "x", "casper/b.squashfs": "x"}, source.ErrUnreadable, "which of them"},
	} {
		_, err := read(t, iso(t, tc.files))
		if !errors.Is(err, tc.want) || !strings.Contains(fmt.Sprint(err), tc.text) {
			t.Errorf("%s: Read() = %v; want %v with %q", tc.name, err, tc.want, tc.text)
		}
	}
}
