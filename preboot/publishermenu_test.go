package main

import (
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/mirror/mirrortest"
	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/menu"
	"github.com/inetboot/inetboot/preboot/settings"
)

// What is in a publisher's menu is seen and can be planned; what a machine keeps
// of it in its cache shows it again without a network. Where something else was
// started, the publisher's menu is not kept, and does not keep the rest from
// being shown.
func TestPublisherMenuOnlineAndOffline(t *testing.T) {
	targets := make(map[string][]byte)
	marshal := func(name string, m interface{ Marshal() ([]byte, error) }) {
		t.Helper()
		data, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		targets[name] = data
	}
	image := func(name string) string {
		target := catalog.ManifestName(name, "1", runtime.GOARCH)
		marshal(target, &catalog.Manifest{
			Format: catalog.ManifestFormat, Name: name, Version: "1", Arch: runtime.GOARCH, Created: time.Now(),
			Kernel: catalog.Kernel{Blob: digest.BlobOf([]byte("kernel")), Release: "6"}, Initrd: digest.BlobOf([]byte("initrd")),
			Root: catalog.Root{Type: "erofs", Files: []catalog.RootFile{{Name: "meta", Size: 1, Index: digest.BlobOf([]byte("index"))}}},
		})
		return target
	}
	whole, hers := catalog.NewMenu("Menu"), catalog.NewMenu("erin-")
	whole.Entries = []catalog.Entry{{ID: "debian", Title: "Debian", Image: image("debian")}, catalog.Included("erin", "Erin's systems", "erin-")}
	hers.Entries = []catalog.Entry{{ID: "desk", Title: "Erin's desk", Image: image("erin-desk")}}
	marshal(catalog.MenuName, whole)
	marshal(catalog.IncludedName("erin-"), hers)
	repo := catalogtest.New(t, catalogtest.Options{})
	repo.Publish(t, targets)

	var network mirrortest.Switch
	url := mirrortest.Serve(t, &network).URL
	network.Set(mirrortest.Files(repo.Files))
	s := &session{con: console.New(), line: newTimeline(), set: &settings.Settings{URLs: []string{url}, Anchor: repo.Anchor(t)}}
	defer s.con.Close()
	client, err := mirror.New(s.set.URLs, mirror.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if s.store, err = s.load(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	none := func(string) *facts { return nil }
	desk := menu.Item{ID: "erin.desk", Title: "Erin's desk"}
	want := []menu.Item{{ID: "debian", Title: "Debian"}, {ID: "erin", Title: "Erin's systems", Items: []menu.Item{desk}}}
	if diff := cmp.Diff(want, items(s.store.menu.Entries, known{arch: runtime.GOARCH, facts: none})); diff != "" {
		t.Errorf("the menu (-want +got):\n%s", diff)
	}

	for _, id := range []string{"erin.desk", "debian"} {
		e := s.store.menu.Find(id)
		p, err := s.plan(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		_, kept := p.keep(t.Context())
		cached, err := catalog.Open(t.Context(), catalogtest.Source(kept), repo.Anchor(t), catalog.Options{Now: time.Now()})
		if err != nil {
			t.Fatalf("%s: what is kept of the store: %v", id, err)
		}
		if _, err := cached.Image(t.Context(), e.Image); err != nil {
			t.Errorf("%s without a network: %v", id, err)
		}
		m, err := cached.WholeMenu(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := items(m.Entries, known{arch: runtime.GOARCH, offline: true, complete: map[string]bool{e.Image: true}, facts: none})
		if len(got) != 2 {
			t.Fatalf("%s: the menu without a network is %+v", id, got)
		}
		if debian := got[0]; (debian.Blocked == "") != (id == "debian") {
			t.Errorf("%s: Debian without a network is %+v", id, debian)
		}
		switch erin := got[1]; {
		case id == "debian" && (erin.Blocked == "" || erin.Items != nil):
			t.Errorf("the menu that is not in the cache is %+v; want it blocked", erin)
		case id != "debian" && (len(erin.Items) != 1 || erin.Items[0].ID != id || erin.Items[0].Blocked != ""):
			t.Errorf("Erin's menu without a network is %+v; want %s in it, not blocked", erin, id)
		}
	}
}
