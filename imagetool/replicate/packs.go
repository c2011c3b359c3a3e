package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/contents"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// Packs brings the boot packs of the images that c lists to another store, which
// has to have the images, and counts them in r. A pack is copied if to has none,
// or an older one by the times at which the stores were given theirs. It
// must have no other blocks than its image, and no more than packs may have.
//
// Packs are hints: one that cannot be had, or is no good, is told to note, and
// the copy is complete without it. temp is the folder for a temporary file.
func Packs(ctx context.Context, from, to store.Store, c *catalog.Catalog, temp string, r *Result, rep Reporter, note func(string)) error {
	names, err := c.Names(ctx)
	if err != nil {
		return err
	}
	type job struct {
		name     string
		manifest digest.SHA256
		size     int64
	}
	var jobs []job
	var total int64
	for _, name := range names {
		if !contents.IsImage(name) {
			continue
		}
		b, err := c.Blob(ctx, name)
		if err != nil {
			return err
		}
		size, err := newerPack(ctx, from, to, b.SHA256)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			note(fmt.Sprintf("the boot pack of %s is not copied: %v", name, err))
			continue
		}
		if size > 0 {
			jobs = append(jobs, job{name, b.SHA256, size})
			total += size
		}
	}
	if len(jobs) == 0 {
		return nil
	}
	rep.Begin("boot packs", total)
	defer rep.End()
	for _, j := range jobs {
		n, err := copyPack(ctx, from, to, c, j.name, temp)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rep.Add(j.size)
		if err != nil {
			note(fmt.Sprintf("the boot pack of %s is not copied: %v", j.name, err))
			continue
		}
		r.Packs++
		r.Bytes += n
	}
	return nil
}

// newerPack returns the size of from's pack if to shall have it, else 0.
func newerPack(ctx context.Context, from, to store.Store, manifest digest.SHA256) (int64, error) {
	theirs, err := from.StatPack(ctx, manifest)
	if errors.Is(err, store.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	ours, err := to.StatPack(ctx, manifest)
	if err == nil && !newer(theirs, ours) {
		return 0, nil
	}
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return 0, err
	}
	return max(theirs.Size, 1), nil // some web servers do not say it
}

// newer tells whether a pack was written after another one. Web servers tell
// whole seconds: within the same one, the size tells one from another.
func newer(a, b store.Info) bool {
	if a.Time.IsZero() {
		return false
	}
	after := a.Time.Truncate(time.Second).Compare(b.Time.Truncate(time.Second))
	return after > 0 || after == 0 && a.Size != b.Size
}

// copyPack copies the pack of one image and returns its length.
func copyPack(ctx context.Context, from, to store.Store, c *catalog.Catalog, name, temp string) (int64, error) {
	img, err := c.Image(ctx, name)
	if err != nil {
		return 0, err
	}
	i, err := contents.Load(ctx, to, name, img.Digest(), img.Manifest())
	if err != nil {
		return 0, err
	}
	limit := int64(pack.HeaderLength+pack.MaxRecords*pack.RecordLength) + pack.DefaultLimit(i.Indexes)
	f, err := os.CreateTemp(temp, "inetboot-pack-*")
	if err != nil {
		return 0, fmt.Errorf("%w: %w", source.ErrNoRoom, err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return 0, fmt.Errorf("prepare a temporary file: %w", err)
	}
	body, err := from.OpenPack(ctx, img.Digest())
	if err != nil {
		return 0, err
	}
	defer body.Close()
	size, err := io.Copy(f, io.LimitReader(body, limit+1))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", storepath.Pack(img.Digest()), err)
	}
	if size > limit {
		return 0, fmt.Errorf("%w: it has more than %d bytes", pack.ErrInvalid, limit)
	}
	_, records, err := pack.List(f, img.Digest(), size)
	if err != nil {
		return 0, err
	}
	has := make(map[digest.SHA256]bool)
	i.Blocks(func(b contents.Block) bool {
		has[b.SHA256] = true
		return true
	})
	for _, rec := range records {
		if !has[rec.SHA256] {
			return 0, fmt.Errorf("%w: the image has no block %s", pack.ErrInvalid, rec.SHA256.Short())
		}
	}
	return size, to.PutPack(ctx, img.Digest(), f, size) // which compares the blocks with their names
}
