package catalog_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/bootsettings"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/strictjson"
)

func TestSettings(t *testing.T) {
	m := manifest()
	manifestData, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	name := catalog.ManifestName(m.Name, m.Version, m.Arch)
	targets := map[string][]byte{name: manifestData}
	for target, s := range map[string]*bootsettings.Settings{
		bootsettings.ImageName(m.Name, ""):   {Hostname: "general", Cmdline: "a"},
		bootsettings.ImageName(m.Name, "99"): {Hostname: "version"},
		bootsettings.EntryName("site-a"):     {Hostname: "special"},
		bootsettings.EntryName("site-b"):     {Hostname: "entry"},
	} {
		s.Format = bootsettings.Format
		if targets[target], err = s.Marshal(); err != nil {
			t.Fatal(err)
		}
	}
	targets[bootsettings.EntryName("broken")] = []byte(`{"format":"inetboot-settings/9"}`)
	targets[bootsettings.EntryName("newer")] = []byte(`{"format":"inetboot-settings/1","requires":["telepathy"]}`)
	repo := catalogtest.New(t, catalogtest.Options{Now: now})
	repo.Publish(t, targets)
	c := repo.Open(t)
	img, err := c.Image(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Settings(t.Context(), img, "site-a")
	if err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for _, f := range got {
		hosts = append(hosts, f.Settings.Hostname)
		if data := repo.Files[f.Path]; digest.BlobOf(data) != f.Blob || !bytes.Equal(data, targets[f.Name]) {
			t.Errorf("%s is said to be at %s, %+v", f.Name, f.Path, f.Blob)
		}
	}
	if diff := cmp.Diff([]string{"general", "special"}, hosts); diff != "" {
		t.Errorf("Settings() (-want +got):\n%s", diff)
	}
	if got, err := c.Settings(t.Context(), img, "without"); err != nil || len(got) != 1 {
		t.Errorf("Settings() of an entry without any = %v, %v; want those of the image", got, err)
	}
	if _, err := c.Settings(t.Context(), img, "broken"); !errors.Is(err, catalog.ErrFormat) {
		t.Errorf("Settings() of a broken document = %v; want ErrFormat", err)
	}
	var r *strictjson.RequiresError
	if _, err := c.Settings(t.Context(), img, "newer"); !errors.As(err, &r) {
		t.Errorf("Settings() with a requirement = %v; want a RequiresError", err)
	}
	repo.Files[got[1].Path] = []byte(`{"format":"inetboot-settings/1"}`)
	if _, err := c.Settings(t.Context(), img, "site-a"); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Settings() of changed bytes = %v; want ErrMismatch", err)
	}
}
