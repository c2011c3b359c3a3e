package image_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/filesystem"
	"github.com/inetboot/inetboot/imagetool/source/image"
	"github.com/inetboot/inetboot/imagetool/source/qcow2"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
)

func read(t *testing.T, name string) (*source.Tree, error) {
	t.Helper()
	return readWith(t, name, image.Read)
}

func readWith(t *testing.T, name string, reader source.Reader) (*source.Tree, error) {
	t.Helper()
	tree, err := sourcetest.Build(func(b *source.Builder) error {
		return reader(context.Background(), b, name, source.Options{TempDir: t.TempDir()})
	})
	if err == nil {
		t.Cleanup(func() { _ = tree.Close() })
	}
	return tree, err
}

// One folder in images of all kinds gives the same tree.
func TestKinds(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"etc/os-release", "usr/bin/program"} {
		p := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(strings.Repeat(n, 1000)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	work := t.TempDir()
	file := func(n string) string { return filepath.Join(work, n) }
	sourcetest.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", dir, file("ext4"), "4M")
	sourcetest.Run(t, "mksquashfs", dir, file("squashfs"), "-quiet", "-no-progress")
	sourcetest.Run(t, "mkfs.erofs", "--quiet", file("erofs"), dir)
	sourcetest.Run(t, "qemu-img", "convert", "-O", "qcow2", file("ext4"), file("qcow2"))
	sourcetest.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", file("qcow2"), file("twice"))
	sourcetest.Run(t, "qemu-img", "convert", "-O", "vmdk", file("ext4"), file("vmdk"))
	sourcetest.Run(t, "tar", "--create", "--file="+file("tar"), "--directory="+dir, ".")
	for name, want := range map[string]string{"ext4": "ext4", "squashfs": "squashfs", "erofs": "erofs", "qcow2": "ext4"} {
		if is, err := image.Is(file(name)); !is || err != nil {
			t.Errorf("Is(%s) = %v, %v; want true", name, is, err)
		}
		tree, err := read(t, file(name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := tree.ReadFile("usr/bin/program", 1<<20); err != nil || len(got) != 15000 {
			t.Errorf("%s: %d bytes, %v; want 15000", name, len(got), err)
		}
		if w := tree.Origin.Whole; w == nil || w.Type != want || w.Size == 0 {
			t.Errorf("%s: Origin.Whole = %+v; want one of type %s", name, w, want)
		}
	}
	// In an archive, the mark of a filesystem may stand by chance.
	for name, head := range map[string]string{"gzip": "\x1f\x8b", "xz": "\xfd7zXZ\x00", "zstd": "\x28\xb5\x2f\xfd", "bzip2": "BZh9"} {
		data := append([]byte(head), make([]byte, 5000)...)
		copy(data[1080:], "\x53\xef")
		if err := os.WriteFile(file(name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"tar", "gzip", "xz", "zstd", "bzip2"} {
		if is, err := image.Is(file(name)); is || err != nil {
			t.Errorf("Is(%s) = %v, %v; want false", name, is, err)
		}
	}
	for name, args := range map[string][]string{"gzip": {"-1"}, "xz": {"-0"}, "zstd": {"-q"}, "bzip2": {"-1"}} {
		for _, kind := range []string{"ext4", "qcow2", "tar"} {
			packed := file(kind + "." + name)
			data, err := exec.Command(sourcetest.Tool(t, name), append(args, "--stdout", file(kind))...).Output()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(packed, data, 0o644); err != nil {
				t.Fatal(err)
			}
			is, err := image.IsCompressed(packed)
			if err != nil || is != (kind != "tar") {
				t.Errorf("IsCompressed(%s in %s) = %v, %v", kind, name, is, err)
			}
			if !is {
				continue
			}
			tree, err := readWith(t, packed, image.ReadCompressed)
			if err != nil {
				t.Errorf("%s in %s: %v", kind, name, err)
				continue
			}
			if got, err := tree.ReadFile("usr/bin/program", 1<<20); err != nil || len(got) != 15000 {
				t.Errorf("%s in %s: %d bytes, %v; want 15000", kind, name, len(got), err)
			}
		}
	}
	for _, name := range []string{"ext4", "tar", "gzip", "xz"} { // the latter are cut off
		if is, err := image.IsCompressed(file(name)); is || err != nil {
			t.Errorf("IsCompressed(%s) = %v, %v; want false", name, is, err)
		}
	}
	for name, want := range map[string]error{"vmdk": filesystem.ErrUnsupported, "twice": filesystem.ErrUnsupported, "no": os.ErrNotExist} {
		if _, err := read(t, file(name)); !errors.Is(err, want) || !errors.Is(err, source.ErrUnreadable) {
			t.Errorf("%s: Read() = %v; want %v", name, err, want)
		}
	}
	if err := os.WriteFile(file("cut"), []byte(qcow2.Magic+strings.Repeat("\x00", 200)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, file("cut")); !errors.Is(err, qcow2.ErrUnsupported) {
		t.Errorf("a qcow2 of version 0: Read() = %v; want ErrUnsupported", err)
	}
}
