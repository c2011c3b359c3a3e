package command

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/imagetool/verify"
)

type verifyOptions struct {
	where
	sample float64
	seed   uint64
}

func (a *app) verifyCommand() *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:   "verify [IMAGE…]",
		Short: "Read images and say what is missing or damaged",
		Long: `Verify reads all files of the store's images, or of those named, and compares
them with what the signed catalog says: manifests, menu, kernels, initrds,
indexes, blocks, boot packs. --sample reads only a share of the blocks, another
one each time. It reads any copy of a store, from any web server.

Exit code 9 says that something is missing or damaged. To repair a store, push
the image again or copy from another store with imagetool mirror, after removing
the damaged files.`,
		Example: "  imagetool verify\n  imagetool verify debian/12 --sample 5\n  imagetool verify --to https://mirror.example.net/store/ --json",
		RunE: func(c *cobra.Command, args []string) error {
			return a.runVerify(c.Context(), &o, args, c.Flags().Changed("seed"))
		},
	}
	o.flags(c)
	c.Flags().Float64Var(&o.sample, "sample", 100, "percentage of the blocks to read")
	c.Flags().Uint64Var(&o.seed, "seed", 0, "choose the same sample again (default: another one each time)")
	return c
}

func (a *app) runVerify(ctx context.Context, o *verifyOptions, specs []string, seeded bool) error {
	if !(o.sample > 0 && o.sample <= 100) {
		return &usageError{errors.New("--sample must be above 0 and at most 100")}
	}
	st, cat, err := a.loadCatalog(ctx, &o.where)
	if err != nil {
		return err
	}
	rep := newReporter(a.err)
	defer rep.End()
	v := verify.Options{Share: o.sample / 100, Seed: o.seed, Add: rep.Add, Begin: func(n int64) { rep.Begin("verify", n) }}
	if !seeded {
		v.Seed = rand.Uint64()
	}
	names, err := cat.Names(ctx)
	if err != nil {
		return err
	}
	for _, spec := range specs {
		found, err := findImages(names, spec)
		if err != nil {
			return err
		}
		v.Images = append(v.Images, found...)
	}
	slices.Sort(v.Images)
	v.Images = slices.Compact(v.Images)
	res, err := verify.Run(ctx, st, cat, v)
	rep.End()
	if res == nil {
		return err
	}
	if a.json {
		return errors.Join(a.writeJSON(res), err)
	}
	for _, p := range res.Problems {
		line := p.Kind + ": " + p.Path
		if len(p.Images) > 0 {
			line += ", needed by " + strings.Join(p.Images, ", ")
		}
		if p.Kind != "missing" {
			line += ": " + p.Error
		}
		a.say("%s", line)
	}
	what := number(res.Blocks, "block")
	if o.sample < 100 {
		what = fmt.Sprintf("%s of %d (--seed %d)", number(res.Blocks, "block"), res.Of, v.Seed)
	}
	a.say("%s, %s, %s, %s read and as they should be", number(res.Images, "image"), number(res.Files-res.Blocks, "file"), what, bytesText(res.Bytes))
	return err
}

// findImages returns the targets of the images that spec names: NAME,
// NAME/VERSION or NAME/VERSION/ARCH.
func findImages(names []string, spec string) ([]string, error) {
	parts := strings.Split(spec, "/")
	if len(parts) > 3 || slices.Contains(parts, "") {
		return nil, &usageError{fmt.Errorf("image %q: want NAME, NAME/VERSION or NAME/VERSION/ARCH", spec)}
	}
	var found []string
	for _, name := range names {
		image, ok := strings.CutPrefix(strings.TrimSuffix(name, ".json"), "images/")
		if ok && (image == spec || strings.HasPrefix(image, spec+"/")) {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: %w (see imagetool ls)", spec, errNoImage)
	}
	slices.Sort(found)
	return found, nil
}
