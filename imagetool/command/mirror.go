package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/marks"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/replicate"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/storepath"
)

type mirrorOptions struct {
	tokenFile, root, temp string
	noPacks               bool
}

func (a *app) mirrorCommand() *cobra.Command {
	var o mirrorOptions
	c := &cobra.Command{
		Use:   "mirror FROM TO",
		Short: "Copy what a store has to another one",
		Long: `Mirror copies the images of a store to another store: only what that lacks, each
file compared with its name on the way, the catalog last. FROM is a store, or any
copy of one that a web server shows. A mirror that was interrupted goes on with
the same command.

Boot packs come last: those that TO lacks, or has older ones of. They are not
signed, and need not be: they must have blocks of their images only. A server TO
keeps such a pack, as one that was put there with imagetool trace add, and makes
none of its own for that image; --no-packs leaves packs to TO.

No signing key is needed. Trust begins at the root.json named, else at the key
folder's, else at TO's first root, and the first time at FROM's.`,
		Example: `  imagetool mirror https://boot.example.org/ /srv/mirror
  imagetool mirror /srv/inetboot 's3://bucket/prefix?endpoint=https://minio.example.org:9000'
  imagetool mirror http://boot:8080 https://boot2.example.org --token-file token2 --root root.json`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error { return a.runMirror(c.Context(), &o, args[0], args[1]) },
	}
	c.Flags().StringVar(&o.tokenFile, "token-file", "", "file with the token of the server TO (default: $"+tokenVariable+")")
	c.Flags().StringVar(&o.root, "root", "", "root.json that is trusted (default: the key folder's, then TO's first, FROM's first)")
	c.Flags().BoolVar(&o.noPacks, "no-packs", false, "copy no boot packs")
	c.Flags().StringVar(&o.temp, "tmp", "", "folder for a temporary file of the size of the largest boot pack (default $TMPDIR or /tmp)")
	return c
}

// mirrored is what mirror says.
type mirrored struct {
	*replicate.Result
	From    string  `json:"from"`
	To      string  `json:"to"`
	Seconds float64 `json:"seconds"`
}

func (a *app) runMirror(ctx context.Context, o *mirrorOptions, fromName, toName string) error {
	start := time.Now()
	from, err := store.Open(fromName, "", false)
	if err != nil {
		return err
	}
	w := where{to: toName, tokenFile: o.tokenFile}
	to, err := w.open(true)
	if err != nil {
		return err
	}
	if bucket, ok := to.(*store.S3); ok {
		if err := bucket.CheckConditions(ctx); err != nil {
			return err
		}
	}
	rep := newReporter(a.err)
	defer rep.End()
	anchor, err := a.mirrorAnchor(ctx, o, from, to, rep)
	if err != nil {
		return err
	}
	m, _, err := marks.Enter(ctx, to, marks.Push, marks.GC, "a copy of "+from.String(), time.Hour, func(others []marks.Other) { rep.Note("waiting for " + others[0].String()) })
	if err != nil {
		return err
	}
	res, err := a.mirrorOnce(ctx, o, from, to, anchor, m, rep)
	if err := errors.Join(err, m.End(ctx)); err != nil {
		return err
	}
	out := mirrored{res, from.String(), to.String(), time.Since(start).Seconds()}
	if a.json {
		return a.writeJSON(out)
	}
	a.say("%s: %d of %s, %s and %s copied, %s in %s", number(res.Images, "image"), res.Blocks, number(res.Of, "block"), number(res.Files, "other file"), number(res.Packs, "boot pack"), bytesText(res.Bytes),
		time.Since(start).Round(100*time.Millisecond))
	if res.Updated {
		a.say("%s has catalog version %d now", to, res.Catalog)
	} else {
		a.say("%s had catalog version %d before", to, res.Catalog)
	}
	return nil
}

// mirrorAnchor finds where trust in the catalog begins.
func (a *app) mirrorAnchor(ctx context.Context, o *mirrorOptions, from, to store.Store, rep *reporter) (*catalog.Anchor, error) {
	name := o.root
	if name == "" {
		c, err := a.loadConfig()
		if err != nil {
			return nil, err
		}
		if c.Keys != "" {
			name = rootFile(c.Keys)
		}
	}
	if name != "" {
		anchor, _, err := keys.LoadRoot(name)
		return anchor, err
	}
	for _, st := range []store.Store{to, from} {
		data, _, err := st.Load(ctx, storepath.RoleMetadata(tuf.RoleRoot, 1), tuf.MaxRoot)
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		anchor, err := tuf.NewAnchor(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", st, err)
		}
		if st == from {
			rep.Note("no root is known, so the first one of " + st.String() + " is believed")
		}
		return anchor, nil
	}
	return nil, fmt.Errorf("%s: %w", from, push.ErrNoCatalog)
}

// mirrorOnce copies files, then the catalog over the one that was there at the
// beginning, and boot packs.
func (a *app) mirrorOnce(ctx context.Context, o *mirrorOptions, from, to store.Store, anchor *catalog.Anchor, m *marks.Mark, rep *reporter) (*replicate.Result, error) {
	cat, _, err := push.Load(ctx, from, keys.Believe(anchor))
	if err != nil {
		return nil, err
	}
	if role, at := cat.Trusted().Expires(); !time.Now().Before(at) {
		return nil, fmt.Errorf("%s: the catalog is %w: its %s, on %s", from, catalog.ErrExpired, role, at.Local().Format(time.DateTime))
	}
	old, tag, err := push.Load(ctx, to, keys.Believe(anchor))
	if err != nil && !errors.Is(err, push.ErrNoCatalog) {
		return nil, err
	}
	if old != nil {
		if err := cat.Trusted().NotOlder(old.Trusted()); err != nil {
			return nil, fmt.Errorf("%s: %w than %s: %v", to, replicate.ErrNewer, from, err)
		}
	}
	res, err := replicate.Copy(ctx, from, to, cat, rep)
	if err != nil {
		return nil, err
	}
	if err := m.Confirm(ctx); err != nil {
		return nil, fmt.Errorf("%w: run the same command again, it copies what is missing", err)
	}
	if res.Updated, err = replicate.Metadata(ctx, from, to, cat, tag); err != nil || o.noPacks {
		return res, err
	}
	return res, replicate.Packs(ctx, from, to, cat, o.temp, res, rep, rep.Note)
}
