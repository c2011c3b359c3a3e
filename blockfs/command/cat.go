package command

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/blockfs/read"
)

type catOptions struct {
	storeOptions
	patience time.Duration
}

func newCat() *cobra.Command {
	var o catOptions
	c := &cobra.Command{
		Use:   "cat SHA256[:SIZE]",
		Short: "Write one file of a root to standard output",
		Long: `Cat writes the file whose index has the given SHA-256 to standard output. It
ends with an error at the first block that is missing or wrong; what was
written until then is right.`,
		Example: `  blockfs cat --store https://boot.example.org 2f3a...90 >data.erofs
  blockfs cat --store /srv/store 2f3a...90 | sha256sum`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runCat(c.Context(), c, o, args[0]) },
	}
	o.flags(c)
	c.Flags().DurationVar(&o.patience, "patience", 30*time.Second, "how long to wait for a store that does not answer; -1s: for ever")
	return c
}

func runCat(ctx context.Context, c *cobra.Command, o catOptions, ref string) error {
	blob, err := parseBlob(ref)
	if err != nil {
		return err
	}
	log := o.logger(c.ErrOrStderr())
	s, done, err := o.open(log, nil)
	if err != nil {
		return err
	}
	defer done()
	x, err := openIndex(ctx, s, named{name: blob.SHA256.Short(), index: blob})
	if err != nil {
		return err
	}
	blocks := read.New(s, read.Options{Patience: o.patience, Logger: log, Ahead: 16})
	defer blocks.Close()
	f := blocks.Open(x)
	for off := int64(0); off < f.Size(); {
		sp, err := f.Spans(ctx, off, 1<<20)
		if err != nil {
			return fmt.Errorf("read at byte %d: %w", off, err)
		}
		off += int64(sp.Len())
		err = write(c.OutOrStdout(), sp.Slices())
		sp.Release()
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}

func write(w io.Writer, slices [][]byte) error {
	for _, b := range slices {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}
