package push

import (
	"testing"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
)

func TestCmdline(t *testing.T) {
	tree := func(fstab, origin string) *source.Tree {
		t.Helper()
		tr, err := sourcetest.Build(func(b *source.Builder) error {
			b.SetOrigin(source.Origin{Cmdline: origin})
			if fstab == "" {
				return nil
			}
			return b.Add(&source.Entry{Path: "etc/fstab", Mode: source.TypeRegular | 0o644, Size: int64(len(fstab)), Contents: source.Text(fstab)})
		})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	for _, tc := range []struct {
		name          string
		fstab, origin string
		o             Options
		want          string
	}{
		{"nothing", "", "", Options{}, ""},
		{"a live system", "", "boot=live components", Options{Cmdline: `quiet a="b  c"`}, `boot=live components quiet a="b  c"`},
		{"a live system as it is", "", "boot=live", Options{AsIs: true}, "boot=live"},
		{"a disk", "UUID=1 / ext4\n", "", Options{Cmdline: "quiet"}, "quiet"},
		{"a disk as it is", "UUID=1 / ext4 defaults\n", "", Options{Cmdline: "quiet", AsIs: true}, "fstab=no quiet"},
		{"a disk as it is, made comments", source.FstabComment + "UUID=1 / ext4 defaults\n", "", Options{AsIs: true}, "fstab=no"},
		{"other lines", "# UUID=1 / ext4\ntmpfs /tmp tmpfs defaults\n", "", Options{AsIs: true}, ""},
	} {
		if got := cmdline(tree(tc.fstab, tc.origin), tc.o); got != tc.want {
			t.Errorf("%s: cmdline() = %q; want %q", tc.name, got, tc.want)
		}
	}
}
