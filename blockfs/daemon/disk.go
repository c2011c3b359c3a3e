package daemon

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/cache"
	"github.com/inetboot/inetboot/blockfs/root"
	"github.com/inetboot/inetboot/internal/cachedisk"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/storepath"
)

// disk is the cache folder and what is remembered in it. Without a cache it
// does nothing.
type disk struct {
	cache  *cache.Cache
	folder *os.Root
	ram    bool // it is in memory and ends with the machine
	log    *slog.Logger

	mu      sync.Mutex
	state   cachedisk.State
	evicted int64 // blocks that were thrown out when state.Complete was last right
}

// queue is how many bytes may wait to be written to the disk.
const queue = 4 << 20

// openLimit is how long a disk may take to be opened before the boot goes on
// without it.
const openLimit = 10 * time.Second

// openDisk opens the cache in a folder, "" for none. A disk that fails or
// hangs is only a disk less.
func openDisk(ctx context.Context, dir string, log *slog.Logger) *disk {
	d := &disk{log: log}
	if dir == "" {
		return d
	}
	type opened struct {
		c      *cache.Cache
		folder *os.Root
		state  cachedisk.State
		ram    bool
		err    error
	}
	done := make(chan opened, 1)
	go func() {
		var o opened
		if o.folder, o.err = os.OpenRoot(dir); o.err == nil {
			o.c, o.err = cache.Open(ctx, dir, cache.Options{Queue: queue, Logger: log})
		}
		if o.err == nil {
			var st unix.Statfs_t
			o.ram = unix.Statfs(dir, &st) == nil && st.Type == unix.TMPFS_MAGIC
			var err error
			if o.state, err = cachedisk.LoadState(dir); err != nil {
				log.Warn("the cache remembers nothing", "error", err)
			}
		}
		done <- o
	}()
	t := time.NewTimer(openLimit)
	defer t.Stop()
	select {
	case o := <-done:
		if o.err != nil {
			log.Warn("going on without the cache", "error", o.err)
			return d
		}
		d.cache, d.folder, d.state, d.ram = o.c, o.folder, o.state, o.ram
		s := o.c.Stats()
		log.Info("cache opened", "blocks", s.Blocks, "MB", s.Bytes/1e6, "quota_MB", s.Quota/1e6, "state", s.State)
	case <-t.C:
		log.Warn("the cache's disk does not answer: going on without it")
		go func() { // it may answer yet
			if o := <-done; o.err == nil {
				_ = o.c.Close()
			}
		}()
	case <-ctx.Done():
	}
	return d
}

func (d *disk) close() {
	if d.cache == nil {
		return
	}
	if err := errors.Join(d.cache.Close(), d.folder.Close()); err != nil {
		d.log.Warn("the cache was not closed well", "error", err)
	}
}

// order asks the mirrors in the order that was good last time. What is
// remembered of others is of no use: only the handoff says whom to ask.
func (d *disk) order(c *mirror.Client) {
	var list []mirror.Measurement
	for _, m := range d.state.Mirrors {
		list = append(list, mirror.Measurement{URL: m.URL, RTT: time.Duration(m.RTT * float64(time.Millisecond))})
	}
	c.SetOrder(list)
}

// remember writes down which mirrors are near, and which catalog was seen.
func (d *disk) remember(c *mirror.Client, h *handoff.Handoff) {
	if d.cache == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if list := c.Measurements(); len(list) > 0 && !h.Offline {
		d.state.Mirrors = nil
		for _, m := range list {
			d.state.Mirrors = append(d.state.Mirrors, cachedisk.Mirror{URL: m.URL, RTT: float64(m.RTT) / float64(time.Millisecond), Measured: time.Now().UTC()})
		}
	}
	if !h.Offline {
		d.state.Nameservers = h.Network.Nameservers
	}
	d.state.Catalog = max(d.state.Catalog, h.CatalogVersion)
	d.state.Entry = h.Entry
	d.save()
}

// complete writes down whether the cache has all of an image.
func (d *disk) complete(manifest digest.SHA256, has bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.prune()
	d.state.Complete = slices.DeleteFunc(d.state.Complete, func(c cachedisk.Complete) bool { return c.Manifest == manifest })
	if has {
		d.state.Complete = append([]cachedisk.Complete{{Manifest: manifest, Time: time.Now().UTC()}}, d.state.Complete...)
	}
	d.save()
}

// watchEvery is how soon after blocks were thrown out the cache stops to say
// that it has whole images.
const watchEvery = time.Minute

// watch keeps the cache from promising what it no longer has.
func (d *disk) watch(ctx context.Context) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		d.mu.Lock()
		if d.prune() {
			d.save()
		}
		d.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
	}
}

// prune forgets which images are whole if blocks were thrown out since: they
// may have been of any of them. d.mu is held.
func (d *disk) prune() bool {
	now := d.cache.Stats().Evicted
	gone := now != d.evicted && len(d.state.Complete) > 0
	if gone {
		d.state.Complete = nil
	}
	d.evicted = now
	return gone
}

// save writes the state. d.mu is held.
func (d *disk) save() {
	if err := d.state.SaveIn(d.folder); err != nil {
		d.log.Warn("the cache's state is not written", "error", err)
	}
}

// here returns a file of the store that preboot has left in the initramfs.
func (d *daemon) here(f handoff.StoreFile) ([]byte, error) {
	if kind, sum, _ := storepath.Parse(f.Path); kind == storepath.KindIndex {
		return d.o.Local(handoff.IndexPath(sum))
	}
	return d.o.Local(handoff.StorePath(f.Path))
}

// keepCatalog writes the catalog's metadata, as preboot has verified it, into
// the cache, whether or not that is to be filled: the next start refuses what
// is older. The timestamp, which leads to the rest, comes last.
func (d *daemon) keepCatalog(ctx context.Context) {
	if d.disk.cache == nil || d.disk.ram || d.o.Local == nil {
		return
	}
	for _, f := range d.o.Handoff.Keep {
		if kind, _, _ := storepath.Parse(f.Path); kind != storepath.KindMetadata || storepath.Versioned(f.Path) && d.disk.cache.HasFile(f.Path, f.Size) {
			continue
		}
		data, err := d.here(f)
		if err == nil {
			err = f.SHA256.Check(f.Path, data)
		}
		if err == nil {
			err = d.disk.cache.PutFile(ctx, f.Path, int64(len(data)), bytes.NewReader(data))
		}
		if err != nil {
			d.log.Warn("the cache does not remember the catalog", "error", err)
			return
		}
	}
}

// fill brings all of the image into the cache.
func (d *daemon) fill(ctx context.Context) {
	h := d.o.Handoff
	o := root.FillOptions{Delay: cmp.Or(d.o.Delay, fillDelay), Files: h.Keep}
	if d.disk.ram {
		o.Files = nil // what starts the machine again is of no use there
	}
	if d.o.Local != nil {
		o.Here = d.here
	}
	for n := 0; ; n++ {
		err := d.root.Fill(ctx, o)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			d.log.Info("the cache has all of this image")
			d.disk.complete(h.Image.Manifest, true)
			return
		case errors.Is(err, root.ErrNoRoom):
			d.log.Info("the cache has no room for all of this image", "quota_MB", d.disk.cache.Stats().Quota/1e6)
		case d.disk.cache.Stats().State != cache.StateOK:
			d.log.Warn("the cache is not filled", "error", err)
		default:
			// A file that no mirror has now, as a rule.
			if n == 0 {
				d.log.Warn("the cache is not filled yet: tried again now and then", "error", err)
			}
			select {
			case <-time.After(fillAgain):
				continue
			case <-ctx.Done():
				return
			}
		}
		d.disk.complete(h.Image.Manifest, false)
		return
	}
}

// fillAgain is the time between attempts to fill the cache.
const fillAgain = 5 * time.Minute

// fillDelay spreads the background fill of machines that started together.
const fillDelay = 20 * time.Second
