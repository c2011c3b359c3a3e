package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/storepath"
)

// EntryID returns the id of the menu entry of an image.
func EntryID(name, version string) string {
	id := []byte(name + "-" + version)
	for i, c := range id {
		if !storepath.ValidElement("a"+string(rune(c))) || c >= 0x80 {
			id[i] = '-'
		}
	}
	return string(id[:min(len(id), 100)])
}

// addImage puts the manifest m into an edition of the catalog and its entry
// into the menu.
func addImage(ctx context.Context, e *Edition, m *catalog.Manifest, o Options, res *Result) error {
	name := catalog.ManifestName(m.Name, m.Version, m.Arch)
	same := false
	var err error
	if e.Targets.Has(name) {
		img, err := e.Old.Image(ctx, name)
		if err != nil && !o.Replace {
			return err
		}
		if err == nil {
			have := img.Manifest()
			same = equal(have, *m)
			if same {
				*m = have
				res.Manifest = have
			}
		}
		if !same && !o.Replace {
			return fmt.Errorf("%s %s for %s: %w: choose another --version, or replace it with --replace", m.Name, m.Version, m.Arch, ErrExists)
		}
	}
	menuWas := menuBytes(e.Menu)
	changed := false
	if e.Delegated() {
		if res.Entry, changed, err = e.addIncluded(ctx, m, o); err != nil {
			return err
		}
	} else {
		res.Entry = setEntry(e.Menu, name, m.Arch, o)
		// Older media show the entry as one that they cannot start.
		e.Menu.Find(res.Entry).Requires = m.Requires
	}
	if same && !changed && string(menuWas) == string(menuBytes(e.Menu)) {
		return ErrUnchanged
	}
	if same {
		return nil
	}
	data, err := m.Marshal()
	if err != nil {
		return err
	}
	e.SetTarget(name, data)
	return nil
}

func menuBytes(m *catalog.Menu) []byte {
	b, err := json.Marshal(m)
	if err != nil {
		return nil
	}
	return b
}

// equal tells whether two manifests are of the same image. When it was made
// does not matter.
func equal(a, b catalog.Manifest) bool {
	a.Created, b.Created = time.Time{}, time.Time{}
	x, xerr := json.Marshal(a)
	y, yerr := json.Marshal(b)
	return errors.Join(xerr, yerr) == nil && string(x) == string(y)
}

// setEntry adds or updates the menu entry of an image. New entries come
// behind the other images and before what preboot does itself. It returns the
// entry's id, which has the architecture at its end if another architecture's
// image of that name and version was first.
func setEntry(menu *catalog.Menu, image, arch string, o Options) string {
	id := EntryID(o.Name, o.Version)
	first := !hasImage(menu.Entries)
	entry := menu.Find(id)
	if entry != nil && entry.Image != image {
		id = EntryID(o.Name, o.Version+"-"+arch)
		entry = menu.Find(id)
	}
	if entry == nil {
		at := len(menu.Entries)
		for at > 0 && menu.Entries[at-1].Action != "" {
			at--
		}
		menu.Entries = append(menu.Entries, catalog.Entry{})
		copy(menu.Entries[at+1:], menu.Entries[at:])
		menu.Entries[at] = catalog.Entry{ID: id}
		entry = &menu.Entries[at]
	}
	entry.Title, entry.Image, entry.Arch = o.Title, image, []string{arch}
	entry.Help = o.HelpText
	entry.Action, entry.Entries = "", nil
	if o.Default || first {
		menu.Default = id
	}
	return id
}

func hasImage(entries []catalog.Entry) bool {
	for i := range entries {
		if entries[i].Image != "" || hasImage(entries[i].Entries) {
			return true
		}
	}
	return false
}
