package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/site"
)

// checkTimeout bounds what checking one mirror takes.
const checkTimeout = 30 * time.Second

// checksAtOnce is how many mirrors are checked side by side.
const checksAtOnce = 16

type mirrorsOptions struct {
	where
	check    bool
	ca       string
	location string
}

// mirrorList is what mirrors says.
type mirrorList struct {
	Store   string         `json:"store"`
	Catalog uint64         `json:"catalog"` // version
	Mirrors []listedMirror `json:"mirrors"`
}

type listedMirror struct {
	URL      string `json:"url"`
	Location string `json:"location,omitempty"`

	// With --check only.
	OK      *bool   `json:"ok,omitempty"`      // it has the current catalog and its menu
	Version uint64  `json:"catalog,omitempty"` // version that it has
	RTT     float64 `json:"rtt_ms,omitempty"`
	Error   string  `json:"error,omitempty"`
	err     error
}

func (a *app) mirrorsCommand() *cobra.Command {
	var o mirrorsOptions
	c := &cobra.Command{
		Use:   "mirrors",
		Short: "List, add and remove the mirrors that the catalog names",
		Long: `Mirrors lists the copies of the store that the signed catalog names. Machines that
boot measure them and use the nearest one; when it fails they go on with the next.
A mirror is any web server with the same files; it need not be trusted.

With --check each mirror is measured from here, and has to have the current catalog
and its menu; exit code 5 says that one has not.`,
		Example: `  imagetool mirrors
  imagetool mirrors --check
  imagetool mirrors add https://boot.example.net/store --location Vienna --check
  imagetool mirrors remove https://boot.example.net/store`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.runMirrors(c.Context(), &o) },
	}
	o.flags(c)
	c.AddCommand(a.mirrorsAddCommand(), a.mirrorsRemoveCommand())
	return c
}

func (o *mirrorsOptions) flags(c *cobra.Command) {
	o.where.flags(c)
	c.Flags().BoolVar(&o.check, "check", false, "measure the mirrors and look whether they have the current catalog")
	c.Flags().StringVar(&o.ca, "ca", "", "file with PEM certificates to trust beside the public ones, for --check")
}

func (a *app) mirrorsAddCommand() *cobra.Command {
	var o mirrorsOptions
	c := &cobra.Command{
		Use:   "add URL...",
		Short: "Name mirrors in the catalog",
		Long: `Add names mirrors in the catalog and publishes it. One that is there already gets
the new location. With --check nothing is published unless each of the new mirrors
has the current catalog and its menu.`,
		Example: `  imagetool mirrors add https://a.example.net/ https://b.example.net/store
  imagetool mirrors add https://boot.example.net/ --location "Vienna, university"`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, urls []string) error { return a.runMirrorsAdd(c.Context(), &o, urls) },
	}
	o.flags(c)
	c.Flags().StringVar(&o.location, "location", "", "where the mirrors are, for people")
	return c
}

func (a *app) mirrorsRemoveCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:     "remove URL...",
		Short:   "Take mirrors out of the catalog",
		Example: "  imagetool mirrors remove https://a.example.net/",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE:    func(c *cobra.Command, urls []string) error { return a.runMirrorsRemove(c.Context(), &w, urls) },
	}
	w.flags(c)
	return c
}

func (a *app) runMirrors(ctx context.Context, o *mirrorsOptions) error {
	st, trust, err := a.loadTrust(&o.where)
	if err != nil {
		return err
	}
	cat, _, err := push.Load(ctx, st, trust)
	if err != nil {
		return err
	}
	mirrors, err := cat.Mirrors(ctx)
	if err != nil {
		return err
	}
	l := mirrorList{Store: st.String(), Catalog: cat.Version(), Mirrors: []listedMirror{}}
	for _, m := range mirrors {
		l.Mirrors = append(l.Mirrors, listedMirror{URL: m.URL, Location: m.Location})
	}
	var bad error
	if o.check {
		if bad, err = o.checkAll(ctx, trust.Anchor, l.Mirrors, cat.Version()); err != nil {
			return err
		}
	}
	if a.json {
		return errors.Join(a.writeJSON(l), bad)
	}
	return errors.Join(a.printMirrors(&l, o.check), bad)
}

// checkAll looks at all mirrors. bad says how many are not good.
func (o *mirrorsOptions) checkAll(ctx context.Context, anchor *catalog.Anchor, list []listedMirror, version uint64) (bad, err error) {
	ca := ""
	if o.ca != "" {
		pem, err := os.ReadFile(o.ca)
		if err != nil {
			return nil, &usageError{fmt.Errorf("--ca: %w", err)}
		}
		ca = string(pem)
	}
	var g errgroup.Group
	g.SetLimit(checksAtOnce)
	for i := range list {
		g.Go(func() error {
			list[i].check(ctx, anchor, ca, version)
			return nil
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	n := 0
	for _, m := range list {
		if m.err != nil {
			n++
		}
	}
	if n > 0 {
		bad = fmt.Errorf("%w: %d of %d mirrors lack the current catalog or its menu", store.ErrUnreachable, n, len(list))
	}
	return bad, nil
}

// check measures a mirror and reads its catalog and menu.
func (m *listedMirror) check(ctx context.Context, anchor *catalog.Anchor, ca string, version uint64) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	m.err = func() error {
		c, err := mirror.New([]string{m.URL}, mirror.Options{CA: ca, Attempts: 1})
		if err != nil {
			return err
		}
		defer c.Close()
		m.RTT = float64(c.Measure(ctx)[0].RTT.Microseconds()) / 1000
		cat, err := catalog.Open(ctx, c, anchor, catalog.Options{})
		if err != nil {
			return err
		}
		m.Version = cat.Version()
		if m.Version < version {
			return fmt.Errorf("it has catalog %d, the store has %d", m.Version, version)
		}
		_, err = cat.Menu(ctx)
		return err
	}()
	ok := m.err == nil
	m.OK = &ok
	if m.err != nil {
		m.Error = m.err.Error()
	}
}

func (a *app) printMirrors(l *mirrorList, checked bool) error {
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	head := "URL\tLOCATION"
	if checked {
		head += "\tRTT\tCATALOG\tSTATE"
	}
	if len(l.Mirrors) > 0 {
		fmt.Fprintln(t, head)
	}
	for _, m := range l.Mirrors {
		fmt.Fprintf(t, "%s\t%s", m.URL, m.Location)
		if checked {
			rtt, version, state := "-", "-", "ok"
			if m.RTT > 0 {
				rtt = fmt.Sprintf("%.1f ms", m.RTT)
			}
			if m.Version > 0 {
				version = fmt.Sprint(m.Version)
			}
			if m.err != nil {
				state = m.Error
			}
			fmt.Fprintf(t, "\t%s\t%s\t%s", rtt, version, state)
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	fmt.Fprintf(a.out, "%d mirrors in catalog version %d of %s\n", len(l.Mirrors), l.Catalog, l.Store)
	return nil
}

func (a *app) runMirrorsAdd(ctx context.Context, o *mirrorsOptions, urls []string) error {
	for _, u := range urls {
		if err := site.CheckURL(u); err != nil {
			return &usageError{err}
		}
	}
	if err := catalog.CheckText(o.location); err != nil {
		return &usageError{fmt.Errorf("--location: %w", err)}
	}
	if o.check {
		st, trust, err := a.loadTrust(&o.where)
		if err != nil {
			return err
		}
		cat, _, err := push.Load(ctx, st, trust)
		if err != nil {
			return err
		}
		var list []listedMirror
		for _, u := range urls {
			list = append(list, listedMirror{URL: u})
		}
		bad, err := o.checkAll(ctx, trust.Anchor, list, cat.Version())
		if err != nil {
			return err
		}
		if bad != nil {
			for _, m := range list {
				if m.err != nil {
					bad = fmt.Errorf("%w; %s: %w", bad, m.URL, m.err)
				}
			}
			return bad
		}
	}
	return a.editMirrors(ctx, &o.where, func(list []catalog.Mirror) ([]catalog.Mirror, error) {
		for _, u := range urls {
			if i := indexMirror(list, u); i < 0 {
				list = append(list, catalog.Mirror{URL: u, Location: o.location})
			} else if o.location != "" {
				list[i].Location = o.location
			}
		}
		if len(list) > catalog.MaxMirrors {
			return nil, &usageError{fmt.Errorf("%d mirrors, at most %d are allowed: remove some first", len(list), catalog.MaxMirrors)}
		}
		return list, nil
	})
}

func (a *app) runMirrorsRemove(ctx context.Context, w *where, urls []string) error {
	return a.editMirrors(ctx, w, func(list []catalog.Mirror) ([]catalog.Mirror, error) {
		for _, u := range urls {
			i := indexMirror(list, u)
			if i < 0 {
				return nil, &usageError{fmt.Errorf("%s is none of the %d mirrors (see imagetool mirrors)", u, len(list))}
			}
			list = slices.Delete(list, i, i+1)
		}
		return list, nil
	})
}

func indexMirror(list []catalog.Mirror, url string) int {
	return slices.IndexFunc(list, func(m catalog.Mirror) bool {
		return strings.TrimRight(m.URL, "/") == strings.TrimRight(url, "/")
	})
}

// editMirrors publishes what edit makes of the list.
func (a *app) editMirrors(ctx context.Context, w *where, edit func([]catalog.Mirror) ([]catalog.Mirror, error)) error {
	st, k, err := a.load(ctx, w)
	if err != nil {
		return err
	}
	var list []catalog.Mirror
	version, err := push.Publish(ctx, st, k, 0, func(e *push.Edition) error {
		old, err := e.Old.Mirrors(ctx)
		if err != nil {
			return err
		}
		if list, err = edit(slices.Clone(old)); err != nil {
			return err
		}
		if slices.Equal(list, old) {
			return push.ErrUnchanged
		}
		if len(list) == 0 {
			e.RemoveTarget(catalog.MirrorsName)
			return nil
		}
		data, err := (&catalog.MirrorList{Format: catalog.MirrorsFormat, Mirrors: list}).Marshal()
		if err != nil {
			return err
		}
		e.SetTarget(catalog.MirrorsName, data)
		return nil
	})
	unchanged := errors.Is(err, push.ErrUnchanged)
	if err != nil && !unchanged {
		return a.keepPending(w.keys, err)
	}
	if a.json {
		return a.writeJSON(map[string]any{"catalog": version, "unchanged": unchanged, "mirrors": append([]catalog.Mirror{}, list...)})
	}
	if unchanged {
		a.say("Nothing to change: the catalog names %d mirrors.", len(list))
		return nil
	}
	a.say("Catalog version %d names %d mirrors.", version, len(list))
	return nil
}
