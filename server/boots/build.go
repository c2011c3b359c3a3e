package boots

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// stateFile, in a manifest's folder, says which pack was built from the
// reports. A pack that it does not describe is a publisher's.
const stateFile = "pack.state"

type state struct {
	Wanted digest.SHA256   `json:"wanted"` // of the hashes of the blocks that the reports want, one after another
	Has    []digest.SHA256 `json:"has"`    // the same of the blocks that the pack has; then of the pack before it, which a crash may have left there
}

// Run builds packs when there are new reports, one at a time, and removes the
// reports of images that the catalog no longer lists. It returns when ctx
// ends.
func (k *Keeper) Run(ctx context.Context) {
	hourly := time.NewTicker(time.Hour)
	defer hourly.Stop()
	later := time.NewTimer(0)
	defer later.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-hourly.C:
		case <-later.C:
		}
		if wait := k.pass(ctx); wait > 0 {
			later.Reset(wait)
		}
	}
}

// pass does what is due and returns how long to wait for the next thing; 0:
// there is none.
func (k *Keeper) pass(ctx context.Context) time.Duration {
	if err := k.prune(); err != nil {
		k.log.Warn("boot reports of old images stay", "error", err)
	}
	for ctx.Err() == nil {
		m, wait := k.due()
		if m.IsZero() {
			return wait
		}
		start := time.Now()
		result, err := k.build(ctx, m)
		if err != nil && ctx.Err() == nil {
			result = "failed"
			k.log.Warn("boot pack not built", "manifest", m.String(), "error", err)
		}
		if result != "" {
			k.packs.WithLabelValues(result).Inc()
		}
		// However many reports come, building takes a twentieth of the time.
		k.mu.Lock()
		if _, ok := k.kept[m]; ok {
			k.rest[m] = time.Now().Add(20 * time.Since(start))
		}
		k.mu.Unlock()
	}
	return 0
}

// due takes an image whose pack is to be looked at, or says how long to wait
// for one.
func (k *Keeper) due() (m digest.SHA256, wait time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for _, m := range slices.SortedFunc(maps.Keys(k.dirty), func(a, b digest.SHA256) int { return bytes.Compare(a[:], b[:]) }) {
		at := k.dirty[m]
		if r := k.rest[m]; r.After(at) {
			at = r
		}
		left := at.Sub(now)
		if left <= 0 {
			delete(k.dirty, m)
			return m, 0
		}
		if wait == 0 || left < wait {
			wait = left
		}
	}
	return digest.SHA256{}, wait
}

// prune forgets images that the catalog does not list, with the packs that
// were built for them.
func (k *Keeper) prune() error {
	images, err := k.store.Images()
	if err != nil || images == nil { // without a catalog nothing is known to be old
		return err
	}
	all, err := k.reports.manifests()
	if err != nil {
		return err
	}
	for _, m := range all {
		if _, ok := images[m]; ok {
			continue
		}
		if err := k.drop(m); err != nil {
			return err
		}
		k.log.Info("boot reports removed: the catalog no longer lists the image", "manifest", m.String())
	}
	return nil
}

func (k *Keeper) drop(m digest.SHA256) error {
	k.placing.Lock()
	defer k.placing.Unlock()
	if mine, _, _ := k.mine(m); mine {
		if err := k.store.RemovePack(m); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forget(m)
	return os.RemoveAll(k.reports.of(m))
}

// mine tells whether the manifest's pack may be replaced: there is none, or
// it is one that was built here. wanted is what the reports wanted when it
// was built.
func (k *Keeper) mine(m digest.SHA256) (mine bool, wanted, has digest.SHA256) {
	has, err := k.present(m)
	if errors.Is(err, fs.ErrNotExist) {
		return true, wanted, has
	}
	s, serr := k.reports.state(m)
	if serr != nil {
		return false, wanted, has
	}
	if err != nil {
		return true, wanted, has // it was damaged
	}
	if len(s.Has) > 0 && s.Has[0] == has {
		wanted = s.Wanted
	}
	return slices.Contains(s.Has, has), wanted, has
}

// present returns the hash of what the manifest's pack has.
func (k *Keeper) present(m digest.SHA256) (digest.SHA256, error) {
	f, _, _, err := k.store.Get(storepath.Pack(m))
	if err != nil {
		return digest.SHA256{}, err
	}
	defer f.Close()
	return contents(f, m)
}

func contents(f *os.File, m digest.SHA256) (digest.SHA256, error) {
	info, err := f.Stat()
	if err != nil {
		return digest.SHA256{}, err
	}
	_, records, err := pack.List(f, m, info.Size())
	if err != nil {
		return digest.SHA256{}, err
	}
	h := sha256.New()
	for _, r := range records {
		h.Write(r.SHA256[:])
	}
	return digest.SHA256(h.Sum(nil)), nil
}

// build builds the manifest's pack, if the reports want another one than
// there is.
func (k *Keeper) build(ctx context.Context, m digest.SHA256) (result string, err error) {
	start := time.Now()
	images, err := k.store.Images()
	if err != nil {
		return "", err
	}
	name, ok := images[m]
	if !ok {
		return "", nil // prune does the rest
	}
	manifest, err := k.store.Manifest(name, m)
	if err != nil {
		return "", err
	}
	root, err := k.store.Indexes(manifest)
	if err != nil {
		return "", err
	}
	merged := pack.Merge(root, k.counting(m), 0)
	wanted := hashOf(merged.Blocks)
	if mine, was, _ := k.mine(m); !mine {
		return "publisher", nil
	} else if was == wanted {
		return "unchanged", nil
	}
	if len(merged.Blocks) == 0 {
		return "empty", nil // a pack that was good is better than none
	}

	f, err := k.store.NewPack()
	if err != nil {
		return "", err
	}
	defer f.Abort()
	built, err := pack.Build(ctx, f, m, merged.Blocks, k.store)
	if err != nil {
		return "", err
	}
	k.placing.Lock()
	defer k.placing.Unlock()
	mine, _, before := k.mine(m)
	if !mine {
		return "publisher", nil
	}
	// First what tells that it was built here: after a crash between the two
	// the pack before it is there, and known as well.
	has, err := contents(f.File, m)
	if err != nil {
		return "", err
	}
	if err := k.reports.setState(m, state{Wanted: wanted, Has: []digest.SHA256{has, before}}); err != nil {
		return "", err
	}
	if err := f.Commit(m); err != nil {
		return "", err
	}
	k.log.Info("boot pack built", "image", name, "reports", merged.Reports, "blocks", built.Records, "bytes", built.Bytes,
		"missing", built.Missing, "left_out", merged.Over+built.Over, "ms", time.Since(start).Milliseconds())
	return "built", nil
}

// counting reads the reports that count.
func (k *Keeper) counting(m digest.SHA256) []*pack.Report {
	k.mu.Lock()
	all := votes(k.kept[m])
	all = slices.Clone(all[max(0, len(all)-pack.MergeLast):])
	k.mu.Unlock()
	var out []*pack.Report
	for _, r := range all {
		p, err := k.reports.read(m, r.file)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) { // one that was replaced meanwhile
				k.log.Warn("boot report not used", "error", err)
			}
			continue
		}
		out = append(out, p)
	}
	return out
}

func hashOf(blocks []index.Entry) digest.SHA256 {
	h := sha256.New()
	for _, e := range blocks {
		h.Write(e.SHA256[:])
	}
	return digest.SHA256(h.Sum(nil))
}

// PutPack stores a pack that a publisher sends. It stays until a publisher
// removes it, whatever is reported. created is false if it replaces another
// one. Errors are those of store.Dir.ReceivePack.
func (k *Keeper) PutPack(ctx context.Context, m digest.SHA256, body io.Reader) (created bool, err error) {
	f, err := k.store.ReceivePack(ctx, m, body)
	if err != nil {
		return false, err
	}
	defer f.Abort()
	k.placing.Lock()
	defer k.placing.Unlock()
	created = !k.store.Has(storepath.Pack(m))
	if err := os.Remove(filepath.Join(k.reports.of(m), stateFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("store the boot pack: %w", err)
	}
	return created, f.Commit(m)
}

// RemovePack removes a pack, whoever made it; fs.ErrNotExist if there is
// none. The next report builds another one.
func (k *Keeper) RemovePack(m digest.SHA256) error {
	k.placing.Lock()
	defer k.placing.Unlock()
	return k.store.RemovePack(m)
}
