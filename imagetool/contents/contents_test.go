package contents_test

import (
	"slices"
	"testing"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/contents"
	"github.com/inetboot/inetboot/internal/digest"
)

// What is stored whole is all that gc keeps and mirror copies.
func TestFiles(t *testing.T) {
	blob := func(s string) digest.Blob { return digest.BlobOf([]byte(s)) }
	kernel := catalog.Kernel{Blob: blob("kernel")}
	for name, tc := range map[string]struct {
		m    catalog.Manifest
		want []digest.Blob
	}{
		"an image":        {catalog.Manifest{Kernel: kernel, Initrd: blob("initrd")}, []digest.Blob{blob("kernel"), blob("initrd")}},
		"a kernel alone":  {catalog.Manifest{Kernel: kernel}, []digest.Blob{blob("kernel")}},
		"with hypervisor": {catalog.Manifest{Kernel: kernel, Initrd: blob("initrd"), Hypervisor: &catalog.Hypervisor{Blob: blob("xen"), Modules: []catalog.Module{{Blob: blob("policy")}}}}, []digest.Blob{blob("kernel"), blob("initrd"), blob("xen"), blob("policy")}},
	} {
		i := &contents.Image{Manifest: tc.m}
		if got := i.Files(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: Files() = %v; want %v", name, got, tc.want)
		}
	}
}
