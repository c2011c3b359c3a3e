// Package collect removes from a store what no image needs any more: mark and
// sweep.
//
// What the catalog lists is needed. So is what it listed until a moment ago:
// machines may be running from it. A manifest that is not listed keeps its
// image for a grace period from the moment when that was noticed first; other
// files that nobody needs stay for as long from when they were written, which
// lets an interrupted push go on.
//
// No push is under way while files are removed: see package marks.
package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/contents"
	"github.com/inetboot/inetboot/imagetool/marks"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// DefaultGrace is how long files stay that nobody needs.
const DefaultGrace = 7 * 24 * time.Hour

// DefaultWait is how long a collection waits for pushes to end.
const DefaultWait = 10 * time.Minute

// batch is how many files are removed at a time.
const batch = 1000

// unlistedPath is where the store remembers since when manifests are not
// listed.
var unlistedPath = storepath.Mark("unlisted")

const maxUnlisted = 16 << 20

// Options says how to collect.
type Options struct {
	Grace  time.Duration
	Wait   time.Duration // for pushes under way
	DryRun bool
	Notify func(text string) // about what is waited for; may be nil
}

// Count is a number of files and their bytes.
type Count struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

func (c *Count) add(n int64) { c.Files++; c.Bytes += n }

// Result is what a collection did, or would do.
type Result struct {
	DryRun  bool            `json:"dry_run"`
	Kept    Count           `json:"kept"`    // needed
	Waiting Count           `json:"waiting"` // not needed, but in the grace period
	Removed Count           `json:"removed"`
	Kinds   map[string]int  `json:"removed_files"` // by kind
	Images  []string        `json:"images_waiting,omitempty"`
	needed  map[string]bool // of all files
}

// Run collects. load reads the newest catalog.
func Run(ctx context.Context, st store.Store, load func(context.Context) (*catalog.Catalog, error), o Options) (_ *Result, err error) {
	m, now, err := marks.Enter(ctx, st, marks.GC, marks.Push, "garbage", o.Wait, func(others []marks.Other) {
		if o.Notify != nil {
			for _, other := range others {
				o.Notify("waiting for " + other.String())
			}
		}
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.End(ctx)) }()
	c, err := load(ctx)
	if err != nil {
		return nil, err
	}
	r := &Result{DryRun: o.DryRun, Kinds: make(map[string]int), needed: make(map[string]bool)}
	if err := r.listed(ctx, st, c); err != nil {
		return nil, err
	}
	if err := r.unlisted(ctx, st, c, now, o); err != nil {
		return nil, err
	}
	if err := r.metadata(ctx, st, m, c, now.Add(-o.Grace), o.DryRun); err != nil {
		return nil, err
	}
	// Blocks last: whoever finds an index finds its blocks, too.
	for _, k := range []storepath.Kind{storepath.KindPack, storepath.KindTarget, storepath.KindFile, storepath.KindIndex, storepath.KindBlock} {
		if err := r.sweep(ctx, st, m, k, now.Add(-o.Grace), o.DryRun); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// listed marks what the catalog needs. If that cannot be found out, nothing
// may be removed.
func (r *Result) listed(ctx context.Context, st store.Store, c *catalog.Catalog) error {
	names, err := c.Names(ctx)
	if err != nil {
		return err
	}
	var images []string
	for _, name := range names {
		b, err := c.Blob(ctx, name)
		if err != nil {
			return err
		}
		r.needed[storepath.Target(name, b.SHA256)] = true
		if contents.IsImage(name) {
			images = append(images, name)
		}
	}
	return contents.All(ctx, st, c, images, func(i *contents.Image) error {
		r.need(i)
		return nil
	}, func(name string, err error) error {
		return fmt.Errorf("nothing is removed, because %s, which the catalog lists, cannot be read (see imagetool verify): %w", name, err)
	})
}

func (r *Result) need(i *contents.Image) {
	r.needed[storepath.Pack(i.Digest)] = true
	for _, f := range i.Files() {
		r.needed[storepath.File(f.SHA256)] = true
	}
	for _, f := range i.Manifest.Root.Files {
		r.needed[storepath.Index(f.Index.SHA256)] = true
	}
	i.Blocks(func(b contents.Block) bool {
		r.needed[b.Path()] = true
		return true
	})
}

// unlisted marks what targets need that the catalog does not list any more,
// or not yet, for as long as the grace period lasts.
func (r *Result) unlisted(ctx context.Context, st store.Store, c *catalog.Catalog, now time.Time, o Options) error {
	var found []store.Info
	err := st.List(ctx, storepath.KindTarget, func(i store.Info) error {
		if !r.needed[i.Path] {
			found = append(found, i)
		}
		return nil
	})
	if err != nil {
		return err
	}
	since, tag, err := loadUnlisted(ctx, st)
	if err != nil {
		return err
	}
	next := make(map[string]time.Time)
	for _, i := range found {
		from, known := since[i.Path]
		if !known || from.After(now) {
			from = now
		}
		if now.Sub(from) >= o.Grace {
			continue
		}
		next[i.Path] = from
		r.needed[i.Path] = true
		if err := r.keepImage(ctx, st, i); err != nil {
			return err
		}
	}
	if o.DryRun {
		return nil
	}
	return saveUnlisted(ctx, st, next, tag)
}

// keepImage marks what an unlisted manifest needs, as far as it can be read:
// a push may have left it behind unfinished.
func (r *Result) keepImage(ctx context.Context, st store.Store, i store.Info) error {
	_, sum, _ := storepath.Parse(i.Path)
	data, err := st.Read(ctx, i.Path, nil, catalog.MaxTarget, func(b []byte) error { return sum.Check(i.Path, b) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		if errors.Is(err, store.ErrNotExist) || errors.Is(err, digest.ErrMismatch) {
			return nil
		}
		return err
	}
	m, err := catalog.ParseManifest(data)
	if err != nil {
		return nil // a menu, for instance
	}
	img, err := contents.Load(ctx, st, i.Path, sum, *m)
	if errors.Is(err, store.ErrNotExist) || errors.Is(err, digest.ErrMismatch) {
		return nil // unfinished
	}
	if err != nil {
		return err
	}
	r.Images = append(r.Images, img.String())
	r.need(img)
	return nil
}

// sweep removes the files of a kind that are not needed and were written
// before a time.
func (r *Result) sweep(ctx context.Context, st store.Store, m *marks.Mark, kind storepath.Kind, before time.Time, dry bool) error {
	var paths []string
	flush := func() error {
		if dry || len(paths) == 0 {
			return nil
		}
		if err := m.Check(ctx); err != nil {
			return err
		}
		if err := st.Remove(ctx, paths); err != nil {
			return err
		}
		paths = paths[:0]
		return nil
	}
	err := st.List(ctx, kind, func(i store.Info) error {
		switch {
		case r.needed[i.Path]:
			r.Kept.add(i.Size)
			return nil
		case i.Time.After(before):
			r.Waiting.add(i.Size)
			return nil
		}
		r.Removed.add(i.Size)
		r.Kinds[string(kind)]++
		paths = append(paths, i.Path)
		if len(paths) < batch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// metadata removes versions of the catalog's metadata that newer ones have
// replaced, but for roots. Versions that nobody has published yet stay: their
// numbers are taken.
func (r *Result) metadata(ctx context.Context, st store.Store, m *marks.Mark, c *catalog.Catalog, before time.Time, dry bool) error {
	snapshot := c.Trusted().Snapshot()
	var paths []string
	err := st.List(ctx, storepath.KindMetadata, func(i store.Info) error {
		role, version, ok := storepath.ParseRoleMetadata(i.Path)
		present := snapshot.Version()
		if role != tuf.RoleSnapshot {
			meta, listed := snapshot.Meta(role)
			present, ok = meta.Version, ok && listed
		}
		if !ok || storepath.Lasting(i.Path) || version >= present {
			return nil
		}
		if i.Time.After(before) {
			r.Waiting.add(i.Size)
			return nil
		}
		r.Removed.add(i.Size)
		r.Kinds[string(storepath.KindMetadata)]++
		paths = append(paths, i.Path)
		return nil
	})
	if err != nil || dry || len(paths) == 0 {
		return err
	}
	if err := m.Check(ctx); err != nil {
		return err
	}
	return st.Remove(ctx, paths)
}

// Unlisted notes that targets are not listed any more, so that their grace
// period begins now.
func Unlisted(ctx context.Context, st store.Store, paths []string, now time.Time) error {
	const attempts = 10
	for n := 1; ; n++ {
		since, tag, err := loadUnlisted(ctx, st)
		if err != nil {
			return err
		}
		for _, p := range paths {
			since[p] = now.UTC()
		}
		err = saveUnlisted(ctx, st, since, tag)
		if err == nil || !errors.Is(err, store.ErrConflict) || n == attempts {
			return err
		}
	}
}

func loadUnlisted(ctx context.Context, st store.Store) (map[string]time.Time, string, error) {
	data, tag, err := st.Load(ctx, unlistedPath, maxUnlisted)
	if errors.Is(err, store.ErrNotExist) {
		return make(map[string]time.Time), "", nil
	}
	if err != nil {
		return nil, "", err
	}
	since := make(map[string]time.Time)
	if err := json.Unmarshal(data, &since); err != nil {
		return nil, "", fmt.Errorf("%s: %w: remove it, and grace periods begin anew", unlistedPath, err)
	}
	return since, tag, nil
}

func saveUnlisted(ctx context.Context, st store.Store, since map[string]time.Time, tag string) error {
	if len(since) == 0 && tag == "" {
		return nil
	}
	data, err := json.Marshal(since)
	if err != nil {
		return fmt.Errorf("write %s: %w", unlistedPath, err)
	}
	return st.Replace(ctx, unlistedPath, data, tag)
}
