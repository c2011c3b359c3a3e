package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/push"
)

type keySignOptions struct {
	where
	out     string
	offline bool
	roots   []string
}

func (a *app) keySignCommand() *cobra.Command {
	var o keySignOptions
	c := &cobra.Command{
		Use:   "sign [FILE...]",
		Short: "Sign a root that waits for signatures, and publish it when there are enough",
		Long: `Sign adds the signatures of the keys at hand to a root that somebody else has made,
and says what it changes. If there are enough then, it publishes the root; if not,
it writes the root back for the next person: to the first FILE, or to -o. Several
FILEs are copies of the same root that different people have signed.

Without FILE it is the root in the key folder that waits for signatures. So this
is also how a publication goes on that was interrupted.

With --offline it needs no store, so keys can be on a machine without a network.
What it signs is compared with root.json in the key folder then; --root brings that
up to date from files (key export --root), each verified by the one before.`,
		Example: `  imagetool key sign /media/stick/pending-root.json
  imagetool key sign from-alice.json from-bob.json
  imagetool key sign --offline --root /media/stick/root.json /media/stick/pending-root.json`,
		RunE: func(c *cobra.Command, files []string) error { return a.runKeySign(c.Context(), &o, files) },
	}
	o.flags(c)
	c.Flags().StringVarP(&o.out, "output", "o", "", "where the signed root goes (default: the first FILE)")
	o.offlineFlags(c)
	return c
}

func (o *keySignOptions) offlineFlags(c *cobra.Command) {
	c.Flags().BoolVar(&o.offline, "offline", false, "without the store: compare with the root in the key folder, and publish nothing")
	c.Flags().StringArrayVar(&o.roots, "root", nil, "newer root, for --offline; may be repeated")
}

func (o *keySignOptions) check() error {
	if len(o.roots) > 0 && !o.offline {
		return &usageError{errors.New("--root is for --offline; else the store says what its root is")}
	}
	return nil
}

func (a *app) runKeySign(ctx context.Context, o *keySignOptions, files []string) error {
	if err := o.check(); err != nil {
		return err
	}
	e, err := a.editOffline(ctx, &o.where)
	if err != nil {
		return err
	}
	if o.offline {
		err = followRoots(e.k, o.roots)
	} else {
		e.st, err = a.locate(&o.where)
	}
	if err != nil {
		return err
	}
	if o.out == "" && len(files) > 0 {
		o.out = files[0]
	}
	if len(files) == 0 {
		files = []string{e.pending()}
	}
	rot := &push.Rotation{Store: e.st, Keys: e.k, Offline: o.offline}
	for i, name := range files {
		data, err := readRoot(name)
		if err != nil {
			return err
		}
		if i == 0 {
			rot.Pending = data
		} else {
			rot.Copies = append(rot.Copies, data)
		}
	}
	return a.rotate(ctx, e, rot, o.out)
}

// followRoots brings the folder's root up to date from files. The first one of a
// folder that has none is taken as it is.
func followRoots(k *keys.Folder, files []string) error {
	for _, name := range files {
		data, err := readRoot(name)
		if err != nil {
			return err
		}
		if k.Anchor != nil {
			have := k.Anchor.Root()
			root, err := tuf.ParseRoot(data)
			switch {
			case err != nil:
				return fmt.Errorf("%s: %w", name, err)
			case root.Version() == have.Version() && !bytes.Equal(data, have.Bytes()):
				return fmt.Errorf("%s is not the root in %s, but has its version %d: %w", name, k.Dir, have.Version(), tuf.ErrMismatch)
			case root.Version() <= have.Version():
				continue // older: a copy from before
			}
			if _, err := k.Anchor.Root().Next(data); err != nil {
				return fmt.Errorf("%s does not follow the root in %s: %w", name, k.Dir, err)
			}
		}
		if err := k.SaveRoot(data); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func readRoot(name string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no root that waits for signatures: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the root that waits for signatures: %w", err)
	}
	if len(data) > tuf.MaxRoot {
		return nil, fmt.Errorf("%s is no root: %w: %d bytes", name, tuf.ErrFormat, len(data))
	}
	return data, nil
}

type keyPendingOptions struct {
	keySignOptions
	drop bool
}

func (a *app) keyPendingCommand() *cobra.Command {
	var o keyPendingOptions
	c := &cobra.Command{
		Use:   "pending [FILE]",
		Short: "Show a root that waits for signatures, or drop it",
		Long: `Pending says what a root that waits for signatures changes, and who has signed it:
look at it before you sign. Without FILE it is the one in the key folder. --drop
removes the file: the change is given up, unless others have copies.

With --offline it needs no store; see key sign.`,
		Example: `  imagetool key pending
  imagetool key pending --offline --root /media/stick/root.json /media/stick/pending-root.json
  imagetool key pending --drop`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, files []string) error { return a.runKeyPending(c.Context(), &o, files) },
	}
	o.flags(c)
	o.offlineFlags(c)
	c.Flags().BoolVar(&o.drop, "drop", false, "remove it")
	return c
}

func (a *app) runKeyPending(ctx context.Context, o *keyPendingOptions, files []string) error {
	if err := o.check(); err != nil {
		return err
	}
	if err := a.findKeys(&o.where); err != nil {
		return err
	}
	e := &editing{k: keys.New(keys.OpenRing(o.keys, keys.Options{}))}
	name := e.pending()
	if len(files) > 0 {
		name = files[0]
	}
	if o.drop {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("drop the root that waits for signatures: %w", err)
		}
		if a.json {
			return a.writeJSON(map[string]any{"dropped": name})
		}
		a.say("%s is gone; the catalog is as it was.", name)
		return nil
	}
	data, err := readRoot(name)
	if err != nil {
		return err
	}
	was, err := a.rootBefore(ctx, o, e.k)
	if err != nil {
		return err
	}
	r, err := publish.ResumeRoot(data, was)
	if err != nil {
		return err
	}
	return a.sayRoot(e, &push.NewRoot{Version: r.Version(), Changes: r.Changes(), Needs: r.Needs()}, name)
}

// rootBefore returns the root that a pending one follows.
func (a *app) rootBefore(ctx context.Context, o *keyPendingOptions, k *keys.Folder) ([]byte, error) {
	if !o.offline {
		c, err := a.newest(ctx, &o.where)
		if err != nil {
			return nil, err
		}
		return c.Trusted().Root().Bytes(), nil
	}
	var err error
	if k.Anchor, k.Root, err = keys.LoadRoot(rootFile(o.keys)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := followRoots(k, o.roots); err != nil {
		return nil, err
	}
	if k.Root == nil {
		return nil, fmt.Errorf("%w to compare with: name one with --root (imagetool key export --root)", errNoRoot)
	}
	return k.Root, nil
}

// errNoRoot is wrapped when there is nothing that a root could follow.
var errNoRoot = errors.New("there is no root")
