package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/internal/storepath"
)

// FeatureInclude is what an entry requires that shows a publisher's menu.
const FeatureInclude = "include"

// maxIncluded bounds the entries of a publisher's menu.
const maxIncluded = 500

const included = "menus/"

// IncludedName returns the target that holds the menu of the images whose
// names begin with prefix. Whoever may list the images may list it.
func IncludedName(prefix string) string { return included + prefix + ".json" }

// IsIncluded tells whether a target holds such a menu.
func IsIncluded(name string) bool { return strings.HasPrefix(name, included) }

// Included returns the entry that shows the menu of a prefix.
func Included(id, title, prefix string) Entry {
	return Entry{ID: id, Title: title, Requires: []string{FeatureInclude}, Include: prefix}
}

// WholeMenu reads the menu, with publishers' menus in it as submenus. One that
// cannot be had, or is no good, is nobody else's matter: its entry says so and
// cannot be picked.
func (c *Catalog) WholeMenu(ctx context.Context) (*Menu, error) {
	m, err := c.Menu(ctx)
	if err != nil {
		return nil, err
	}
	return m, c.include(ctx, m, m.Entries)
}

func (c *Catalog) include(ctx context.Context, m *Menu, entries []Entry) error {
	for i := range entries {
		e := &entries[i]
		if e.Include == "" {
			if err := c.include(ctx, m, e.Entries); err != nil {
				return err
			}
			continue
		}
		in, err := c.IncludedMenu(ctx, e.Include)
		for n := 0; err == nil && n < len(in.Entries); n++ {
			x := &in.Entries[n]
			x.From = IncludedName(e.Include)
			if x.ID = e.ID + "." + x.ID; !storepath.ValidElement(x.ID) || m.Find(x.ID) != nil {
				err = fmt.Errorf("the menu of %s is %w: the id %s is too long, or there is one already", e.Include, ErrFormat, x.ID)
			}
		}
		if err == nil {
			e.Entries, e.Include = in.Entries, ""
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.Broken = err
	}
	return nil
}

// IncludedMenu reads the menu of a prefix: images whose names begin with it,
// without submenus. The error wraps ErrNotFound if none has been published.
func (c *Catalog) IncludedMenu(ctx context.Context, prefix string) (*Menu, error) {
	data, _, err := c.target(ctx, IncludedName(prefix))
	if err != nil {
		return nil, err
	}
	m, err := ParseMenu(data)
	if err != nil {
		return nil, err
	}
	return m, m.CheckIncluded(prefix)
}

// CheckIncluded returns an error that wraps ErrFormat if m cannot be the menu
// of a prefix.
func (m *Menu) CheckIncluded(prefix string) error {
	if len(m.Entries) == 0 || len(m.Entries) > maxIncluded {
		return fmt.Errorf("the menu of %s is %w: %d entries, want 1 to %d", prefix, ErrFormat, len(m.Entries), maxIncluded)
	}
	if i := slices.IndexFunc(m.Entries, func(e Entry) bool { return !strings.HasPrefix(e.Image, "images/"+prefix) }); i >= 0 {
		return fmt.Errorf("the menu of %s is %w: %s is no image of that name", prefix, ErrFormat, m.Entries[i].ID)
	}
	return nil
}

// errInclude says what is wrong with an entry that includes a menu.
var errInclude = errors.New("what includes a menu requires " + FeatureInclude + " and is nothing else")
