package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/internal/storepath"
)

type signOptions struct {
	where
	out    string
	dryRun bool
}

func (a *app) signCommand() *cobra.Command {
	var o signOptions
	c := &cobra.Command{
		Use:   "sign [FILE]",
		Short: "Sign a list of images that waits for signatures, and publish it when there are enough",
		Long: `Where more than one key has to sign for the menu and the images (imagetool key
threshold targets 2), push and the commands that change the catalog upload
everything, sign with the keys at hand, and leave the list in the key folder, in
pending-targets.json. Give that file to the next person: sign says what it changes,
adds signatures, and publishes the list if there are enough, or writes the file back.

A list is made from the one before it: when somebody has published another one
meanwhile, it has to be made again. Machines see nothing of it before.`,
		Example: `  imagetool sign /media/stick/pending-targets.json
  imagetool sign --dry-run /media/stick/pending-targets.json`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, files []string) error { return a.runSign(c.Context(), &o, files) },
	}
	o.flags(c)
	c.Flags().StringVarP(&o.out, "output", "o", "", "where the list goes if it needs more signatures (default: FILE)")
	c.Flags().BoolVarP(&o.dryRun, "dry-run", "n", false, "say what the list changes, and sign nothing")
	return c
}

// pendingList returns where a list of a role waits for signatures.
func pendingList(dir, role string) string {
	return filepath.Join(dir, "pending-"+role+".json")
}

// errDryRun ends a sign that shall not sign.
var errDryRun = errors.New("nothing is signed")

func (a *app) runSign(ctx context.Context, o *signOptions, files []string) error {
	st, k, err := a.load(ctx, &o.where)
	if err != nil {
		return err
	}
	name := pendingList(k.Dir, "targets")
	if len(files) > 0 {
		name = files[0]
	}
	if o.out == "" {
		o.out = name
	}
	fi, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &usageError{fmt.Errorf("no list waits for signatures: %w", err)}
	}
	if err == nil && fi.Size() > push.MaxPending {
		err = fmt.Errorf("%s has %d bytes", name, fi.Size())
	}
	if err != nil {
		return fmt.Errorf("read the list that waits for signatures: %w", err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read the list that waits for signatures: %w", err)
	}
	p, err := push.ParsePending(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var seen *push.Signed
	res, err := push.SignPending(ctx, st, k, p, func(s *push.Signed) error {
		seen = s
		if o.dryRun {
			return errDryRun
		}
		return nil
	})
	if o.dryRun && errors.Is(err, errDryRun) {
		res, err = seen, nil
	}
	if err != nil {
		return err
	}
	if !o.dryRun {
		if res.Catalog == 0 {
			if err := a.writePending(o.out, p); err != nil {
				return err
			}
		} else if filepath.Dir(name) == k.Dir {
			_ = os.Remove(name) // it is published
		}
	}
	if a.json {
		return a.writeJSON(res)
	}
	a.say("Version %d of %s:", res.Version, res.Role)
	for _, c := range res.Changes {
		a.say("  %s", c)
	}
	switch {
	case o.dryRun:
		a.say("Nothing was signed.")
	case res.Catalog > 0:
		a.say("Published: catalog version %d", res.Catalog)
	default:
		a.say("%s", res.Missing)
		a.say("Next: another of these people runs imagetool sign %s", o.out)
	}
	return nil
}

func (a *app) writePending(name string, p *push.Pending) error {
	data, err := p.Marshal()
	if err != nil {
		return err
	}
	if err := writePrivate(name, data); err != nil {
		return fmt.Errorf("write the list that waits for signatures: %w", err)
	}
	return nil
}

// keepPending keeps the list of a publication that needs more signatures, and
// says how it goes on. It returns err if there is none.
func (a *app) keepPending(dir string, err error) error {
	var pending *push.PendingError
	if !errors.As(err, &pending) || !storepath.ValidElement(pending.Pending.Role) {
		return err
	}
	name := pendingList(dir, pending.Pending.Role)
	if werr := a.writePending(name, pending.Pending); werr != nil {
		return errors.Join(err, werr)
	}
	return fmt.Errorf("%w; it waits in %s: give that file to the next of these people, for imagetool sign", err, name)
}
