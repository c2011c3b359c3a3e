package boot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/digest"
)

func image(t *testing.T, cmdline string) *catalog.Image {
	t.Helper()
	blob := digest.BlobOf([]byte("x"))
	m := &catalog.Manifest{
		Format: catalog.ManifestFormat, Name: "a", Version: "1", Arch: "amd64", Kernel: catalog.Kernel{Blob: blob}, Initrd: blob, Cmdline: cmdline,
		Root: catalog.Root{Type: "erofs", Files: []catalog.RootFile{{Name: "meta", Size: 1, Index: blob}}},
	}
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	name := catalog.ManifestName("a", "1", "amd64")
	repo := catalogtest.New(t, catalogtest.Options{})
	repo.Publish(t, map[string][]byte{name: b})
	c := repo.Open(t)
	img, err := c.Image(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func commandLine(t *testing.T, cmdline, entry string, pass []string) (string, error) {
	img := image(t, cmdline)
	return CommandLine(img, Options(img, []string{entry, ""}, pass), "id")
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		name, image, entry string
		pass               []string
		want               string
	}{
		{"all", "root=x quiet", "single", []string{"console=tty0", `a="b c"`}, `root=x quiet single console=tty0 a="b c" inetboot.boot=id`},
		{"nothing", "", "", nil, "inetboot.boot=id"},
		{"line feeds", "a\nb", " c \n", nil, "a b c inetboot.boot=id"},
	} {
		if got, err := commandLine(t, tt.image, tt.entry, tt.pass); err != nil || got != tt.want {
			t.Errorf("%s: CommandLine = %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
	if got, err := commandLine(t, strings.Repeat("a", 1500), strings.Repeat("b", 600), nil); !errors.Is(err, ErrCommandLine) {
		t.Errorf("CommandLine = %d bytes, %v; want ErrCommandLine", len(got), err)
	}
}

// What is no kernel is refused before anything has happened. The host's kernel
// may lack kexec altogether, which is an error, too.
func TestLoadRefuses(t *testing.T) {
	p := filepath.Join(t.TempDir(), "no-kernel")
	if err := os.WriteFile(p, []byte("this is no kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = Load(f, f, "")
	if !errors.Is(err, ErrLoad) {
		t.Errorf("Load of text = %v; want ErrLoad", err)
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		t.Errorf("Load of text = %v; want the kernel's reason in it", err)
	}
}
