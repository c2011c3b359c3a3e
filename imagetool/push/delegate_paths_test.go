package push

import (
	"path"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/bootsettings"
)

func TestPaths(t *testing.T) {
	prefixes := []string{"alice-", "lab"}
	paths := Paths(prefixes)
	if diff := cmp.Diff(prefixes, Prefixes(paths)); diff != "" {
		t.Errorf("Prefixes(Paths()) (-want +got):\n%s", diff)
	}
	for name, want := range map[string]bool{
		"images/alice-debian/12/amd64.json": true, bootsettings.ImageName("alice-debian", ""): true, bootsettings.ImageName("lab", "1"): true,
		"images/bob/1/amd64.json": false, bootsettings.ImageName("bob", ""): false, bootsettings.EntryName("alice-debian"): false, "menu.json": false,
		"menus/lab.json": true, "menus/alice-.json": true, "menus/alice-x.json": false, "menus/laboratory.json": false, "menus/l.json": false,
	} {
		got := slices.ContainsFunc(paths, func(p string) bool { ok, err := path.Match(p, name); return ok && err == nil })
		if got != want {
			t.Errorf("a publisher of %v may list %s: %v; want %v", prefixes, name, got, want)
		}
	}
}
