package disk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/disk"
	"github.com/inetboot/inetboot/imagetool/source/ext4"
	"github.com/inetboot/inetboot/imagetool/source/filesystem"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
)

const mib = 1 << 20

// filesystem makes an ext4 of a folder of files.
func ext4Image(t *testing.T, files map[string]string, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(t.TempDir(), "fs")
	sourcetest.Run(t, "mke2fs", append(append([]string{"-q", "-F", "-t", "ext4", "-d", dir}, args...), image, "4M")...)
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// assemble makes a disk with a GPT of partitions of 4 MiB each.
func assemble(t *testing.T, parts ...[]byte) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, int64(len(parts)+1)*4*mib); err != nil {
		t.Fatal(err)
	}
	script := "label: gpt\n"
	for i := range parts {
		script += fmt.Sprintf("start=%d, size=%d, uuid=00000000-0000-0000-0000-00000000000%d, name=part%d\n", mib/512+i*4*mib/512, 4*mib/512, i+1, i+1)
	}
	cmd := exec.CommandContext(t.Context(), sourcetest.Tool(t, "sfdisk"), "-q", name)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range parts {
		copy(b[mib+i*4*mib:], p)
	}
	return b
}

func read(d []byte, number int) (*source.Tree, error) {
	return sourcetest.Build(func(b *source.Builder) error {
		return disk.Read(context.Background(), b, bytes.NewReader(d), int64(len(d)), number)
	})
}

// text returns a file of a tree.
func text(t *testing.T, tree *source.Tree, name string) string {
	t.Helper()
	b, err := tree.ReadFile(name, 1<<20)
	if err != nil {
		t.Errorf("/%s: %v", name, err)
	}
	return string(b)
}

// withMark is a partition that begins with a mark at an offset.
func withMark(at int, mark string) []byte {
	b := make([]byte, at+len(mark))
	copy(b[at:], mark)
	return b
}

func TestInstalledSystem(t *testing.T) {
	const rootID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	root := map[string]string{
		"etc/os-release": "ID=test\n",
		"boot/hidden":    "below the mount point",
		"etc/fstab": `# static file system information
UUID=` + rootID + ` / ext4 errors=remount-ro 0 1
LABEL=BOOT /boot ext4 defaults 0 2
PARTUUID=00000000-0000-0000-0000-000000000001 /boot/efi vfat umask=0077 0 1
/dev/vda4 /srv/data\040space ext4 defaults 0 2
/dev/disk/by-uuid/11111111-2222-3333-4444-555555555555 /elsewhere xfs defaults 0 2
/swapfile none swap sw 0 0
tmpfs /tmp tmpfs defaults 0 0
`,
	}
	d := assemble(t,
		withMark(82, "FAT32   "),
		ext4Image(t, root, "-U", rootID),
		ext4Image(t, map[string]string{"vmlinuz": "kernel"}, "-L", "BOOT"),
		ext4Image(t, map[string]string{"file": "data"}),
	)
	tree, err := read(d, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"etc/os-release": "ID=test\n", "boot/vmlinuz": "kernel", "srv/data space/file": "data"} {
		if got := text(t, tree, name); got != want {
			t.Errorf("/%s = %q; want %q", name, got, want)
		}
	}
	if tree.Lookup("boot/hidden") != nil {
		t.Error("/boot/hidden is there; want what is mounted over it")
	}
	fstab := text(t, tree, "etc/fstab")
	for line := range strings.Lines(fstab) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "tmpfs") {
			t.Errorf("fstab has %q", line)
		}
	}
	if !strings.Contains(fstab, "\ntmpfs /tmp") || strings.Count(fstab, "taken out") != 6 {
		t.Errorf("fstab =\n%s", fstab)
	}
	if notes := strings.Join(tree.Notes, "; "); !strings.Contains(notes, "/elsewhere") {
		t.Errorf("Notes = %q; want one about /elsewhere", notes)
	}
	w := tree.Origin.Whole
	if w == nil || w.Type != "ext4" || w.Size != 4*mib {
		t.Fatalf("Origin.Whole = %+v; want an ext4 of 4 MiB", w)
	}
	again, err := sourcetest.Build(func(b *source.Builder) error { return ext4.Read(t.Context(), b, w, w.Size, "") })
	if err != nil || again.Lookup("boot/hidden") == nil {
		t.Errorf("the filesystem as it is: %v", err)
	}
}

func TestChoice(t *testing.T) {
	system := ext4Image(t, map[string]string{"etc/os-release": "ID=x\n"})
	data := ext4Image(t, map[string]string{"file": "data"})
	two := assemble(t, system, system, data)
	unclean := bytes.Clone(system)
	unclean[1024+0x60] |= 4
	for _, tc := range []struct {
		name   string
		disk   []byte
		number int
		want   error
		text   string
	}{
		{"two roots", two, 0, disk.ErrNoRoot, "--partition"},
		{"the second", two, 2, nil, ""},
		{"named, though it looks like none", two, 3, nil, ""},
		{"not there", two, 9, disk.ErrNoRoot, "no partition 9"},
		{"data only", assemble(t, data), 0, disk.ErrNoRoot, "ext4"},
		{"LVM", assemble(t, withMark(512+24, "LVM2 001")), 0, filesystem.ErrUnsupported, "physical volume of LVM, which is not supported"},
		{"LUKS", assemble(t, data, withMark(0, "LUKS\xba\xbe")), 0, filesystem.ErrUnsupported, "LUKS"},
		{"RAID", assemble(t, withMark(4096, "\xfc\x4e\x2b\xa9")), 0, filesystem.ErrUnsupported, "RAID"},
		{"old RAID", assemble(t, withMark(4*mib-64<<10, "\xfc\x4e\x2b\xa9")), 0, filesystem.ErrUnsupported, "RAID"},
		{"XFS", assemble(t, withMark(0, "XFSB")), 0, filesystem.ErrUnsupported, "xfs"},
		{"LVM, named", assemble(t, withMark(24, "LVM2 001")), 1, filesystem.ErrUnsupported, "LVM"},
		{"not unmounted", assemble(t, unclean), 0, ext4.ErrUnclean, "e2fsck"},
		{"no table", make([]byte, mib), 0, source.ErrUnreadable, "table"},
	} {
		tree, err := read(tc.disk, tc.number)
		if !errors.Is(err, tc.want) || tc.want != nil && !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: Read() = %v; want %v with %q", tc.name, err, tc.want, tc.text)
		}
		if tc.want == nil && tree == nil {
			t.Errorf("%s: no tree", tc.name)
		}
	}
}

var _ io.ReaderAt = (*source.Whole)(nil)
