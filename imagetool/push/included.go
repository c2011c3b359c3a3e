package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/internal/storepath"
)

// prefixOf returns the prefix of the edition's publisher that an image, the
// target of its manifest, belongs to, and whose menu the publisher may list;
// "" if there is none.
func (e *Edition) prefixOf(image string) (string, error) {
	all, err := publish.Delegations(e.Old.Trusted().Targets().Bytes())
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(all, func(d publish.Delegation) bool { return d.Name == e.Targets.Role().Name })
	if i < 0 {
		return "", nil
	}
	best := ""
	for _, p := range Prefixes(all[i].Paths) {
		if len(p) > len(best) && strings.HasPrefix(image, "images/"+p) && slices.Contains(all[i].Paths, catalog.IncludedName(p)) {
			best = p
		}
	}
	return best, nil
}

// includedMenu returns the menu of a prefix, an empty one if there is none.
func (e *Edition) includedMenu(ctx context.Context, prefix string) (*catalog.Menu, []byte, error) {
	if !e.Targets.Has(catalog.IncludedName(prefix)) {
		return catalog.NewMenu(prefix), nil, nil
	}
	m, err := e.Old.IncludedMenu(ctx, prefix)
	if errors.Is(err, catalog.ErrNotFound) {
		return catalog.NewMenu(prefix), nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	was, err := m.Marshal()
	return m, was, err
}

// setIncluded lists the menu of a prefix, or none if it has no entries.
func (e *Edition) setIncluded(prefix string, m *catalog.Menu, was []byte) (changed bool, err error) {
	if len(m.Entries) == 0 {
		if was != nil {
			e.RemoveTarget(catalog.IncludedName(prefix))
		}
		return was != nil, nil
	}
	if err := m.CheckIncluded(prefix); err != nil {
		return false, err
	}
	data, err := m.Marshal()
	if err != nil || bytes.Equal(data, was) {
		return false, err
	}
	e.SetTarget(catalog.IncludedName(prefix), data)
	return true, nil
}

// addIncluded puts the entry of an image into the menu of its prefix. id is that
// of the entry where the whole menu includes it, "" if it does not.
func (e *Edition) addIncluded(ctx context.Context, m *catalog.Manifest, o Options) (id string, changed bool, err error) {
	name := catalog.ManifestName(m.Name, m.Version, m.Arch)
	prefix, err := e.prefixOf(name)
	if err != nil || prefix == "" {
		return "", false, err
	}
	menu, was, err := e.includedMenu(ctx, prefix)
	if err != nil {
		return "", false, err
	}
	at := findInclude(e.Menu.Entries, prefix)
	id = setEntry(menu, name, m.Arch, o)
	if at != "" && !storepath.ValidElement(at+"."+id) {
		return "", false, fmt.Errorf("%s %s: the id of its menu entry, %s.%s, is too long: choose a shorter name or version", m.Name, m.Version, at, id)
	}
	menu.Find(id).Requires = m.Requires
	if changed, err = e.setIncluded(prefix, menu, was); err != nil {
		return "", false, err
	}
	if at != "" {
		return at + "." + id, changed, nil
	}
	return "", changed, nil
}

// RemoveIncluded takes images out of the menus of their prefixes, and returns
// the ids of the entries there.
func (e *Edition) RemoveIncluded(ctx context.Context, images []string) (gone []string, err error) {
	for _, image := range images {
		prefix, err := e.prefixOf(image)
		if err != nil {
			return nil, err
		}
		if prefix == "" {
			continue
		}
		menu, was, err := e.includedMenu(ctx, prefix)
		if err != nil {
			return nil, err
		}
		menu.Entries = slices.DeleteFunc(menu.Entries, func(x catalog.Entry) bool {
			if !slices.Contains(images, x.Image) {
				return false
			}
			if !slices.Contains(gone, x.ID) {
				gone = append(gone, x.ID)
			}
			return true
		})
		if menu.Find(menu.Default) == nil {
			menu.Default = ""
		}
		if _, err := e.setIncluded(prefix, menu, was); err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// findInclude returns the id of the entry that includes the menu of a prefix.
func findInclude(entries []catalog.Entry, prefix string) string {
	for i := range entries {
		if entries[i].Include == prefix {
			return entries[i].ID
		}
		if id := findInclude(entries[i].Entries, prefix); id != "" {
			return id
		}
	}
	return ""
}
