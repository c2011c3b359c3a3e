package images_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/internal/imagestest"
	"github.com/inetboot/inetboot/server/lan/images"
	"github.com/inetboot/inetboot/server/store/storetest"
)

// A root's own kernel and initramfs are found where distributions have them,
// through links that stay in the root, and read from the blocks.
func TestBootFiles(t *testing.T) {
	big := strings.Repeat("initramfs ", 100_000)
	base := t.TempDir()
	p := storetest.New(t, base)
	for name, tt := range map[string]struct {
		files          map[string]string // "-> target" is a symbolic link
		kernel, initrd string            // "" for none
	}{
		"debian":        {map[string]string{"boot/vmlinuz-6": "kernel", "boot/initrd.img-6": big, "boot/vmlinuz-5": "old", "boot/initrd.img-5": "old"}, "kernel", big},
		"fedora":        {map[string]string{"usr/lib/modules/6/vmlinuz": "kernel", "boot/initramfs-6.img": big}, "kernel", big},
		"links":         {map[string]string{"vmlinuz": "-> boot/k", "boot/k": "-> /usr/../usr/real/k", "usr/real/k": "kernel", "initrd.img": "-> ../../boot/i", "boot/i": big}, "kernel", big},
		"no initramfs":  {map[string]string{"boot/vmlinuz-6": "kernel"}, "", ""},
		"of another":    {map[string]string{"boot/vmlinuz-5": "kernel", "boot/initrd.img-5": big}, "", ""},
		"circles":       {map[string]string{"boot/vmlinuz-6": "-> vmlinuz-6", "boot/initrd.img-6": big}, "", ""},
		"folders":       {map[string]string{"boot/vmlinuz-6/x": "kernel", "boot/initrd.img-6": big}, "", ""},
		"a file as one": {map[string]string{"boot": "file"}, "", ""},
	} {
		dir := t.TempDir()
		for f, text := range tt.files {
			f = filepath.Join(dir, f)
			if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
				t.Fatal(err)
			}
			var err error
			if to, link := strings.CutPrefix(text, "-> "); link {
				err = os.Symlink(to, f)
			} else {
				err = os.WriteFile(f, []byte(text), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		published := p.AddRoot(t, strings.ReplaceAll(name, " ", "-"), "1", "erofs", imagestest.FromFolder(t, dir).Files()...)
		img, err := imagestest.Library(t, p, base).Open(t.Context(), published.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		kernel, initrd, err := img.BootFiles(t.Context())
		if tt.kernel == "" {
			if !errors.Is(err, images.ErrNoKernel) || !strings.Contains(err.Error(), "vmlinuz-6") {
				t.Errorf("%s: %v; want ErrNoKernel", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, c := range []struct {
			got  *images.Content
			want string
		}{{kernel, tt.kernel}, {initrd, tt.initrd}} {
			data, err := io.ReadAll(io.NewSectionReader(c.got, 0, c.got.Size()))
			if err != nil || string(data) != c.want {
				t.Errorf("%s: %s has %d bytes, %v; want %d", name, c.got.Path, len(data), err, len(c.want))
			}
			if n, err := c.got.ReadAt(make([]byte, 10), c.got.Size()-3); n != 3 || err != io.EOF {
				t.Errorf("%s: reading over the end: %d, %v", name, n, err)
			}
		}
	}
	disk := p.AddRoot(t, "disk", "1", "ext4", storetest.RootFile{Name: "root", Data: []byte("no EROFS")})
	img, err := imagestest.Library(t, p, base).Open(t.Context(), disk.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := img.BootFiles(t.Context()); !errors.Is(err, images.ErrNoTree) {
		t.Errorf("another filesystem: %v; want ErrNoTree", err)
	}
}
