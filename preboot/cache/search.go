// Package cache is the disk cache as preboot uses it: it looks for the disk
// that has the cache folder, and reads catalogs, kernels, initrds and indexes
// from there. Nothing is ever written, and nothing is believed: a catalog
// counts by its signatures, every other file by its hash.
//
// A disk may hang beyond the reach of signals. So no caller waits for one
// longer than its limit; what hangs is left behind.
package cache

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/inetboot/inetboot/internal/cachedisk"
)

// Search is a search for the cache that runs beside the rest of the boot.
type Search struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	disk *Disk
}

// Options says where to look, and for how long.
type Options struct {
	Dir  string        // folder to mount disks below
	UUID string        // of the filesystem to use; "": the best one that has the folder
	Wait time.Duration // how long disks may take to appear; 0: 20 s
	Log  func(string)  // lines for people; nil: silent
}

// Start begins to look.
func Start(ctx context.Context, o Options) *Search {
	if o.Wait == 0 {
		o.Wait = 20 * time.Second
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &Search{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		if _, err := os.Stat("/sys/class/block"); err != nil {
			return // a kernel without disks, from another loader
		}
		found, err := cachedisk.Find(ctx, cachedisk.Options{Dir: o.Dir, ReadOnly: true, UUID: o.UUID, Wait: o.Wait, Log: o.Log})
		if err == nil && o.UUID != "" && found.UUID != o.UUID {
			// A person has said which one.
			err = cachedisk.ErrNone
			unmount(found)
		}
		if err != nil {
			if o.UUID != "" && ctx.Err() == nil {
				o.Log(fmt.Sprintf("there is no cache on the disk %s: %v", o.UUID, err))
			}
			return
		}
		d := open(ctx, found, o.Log)
		o.Log(fmt.Sprintf("cache on %s (%s %s), images complete in it: %d", d.Device(), d.Type(), d.UUID(), len(d.state.Complete)))
		s.mu.Lock()
		defer s.mu.Unlock()
		s.disk = d
	}()
	return s
}

// Done is closed when the search is over.
func (s *Search) Done() <-chan struct{} { return s.done }

// Disk returns the cache, or nil if there is none yet. A nil Search has none.
func (s *Search) Disk() *Disk {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.disk
}

// closeLimit is how long the end of a boot waits for a disk.
const closeLimit = 3 * time.Second

// Close ends the search and the use of the disk.
func (s *Search) Close() {
	if s == nil {
		return
	}
	s.cancel()
	select {
	case <-s.done:
	case <-time.After(closeLimit):
		return // it hangs
	}
	if d := s.Disk(); d != nil {
		unmount(d.found)
	}
}

// unmount waits for a disk no longer than closeLimit.
func unmount(f *cachedisk.Found) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// A disk that cannot be let go was only read from.
		_ = f.Unmount()
	}()
	select {
	case <-ended:
	case <-time.After(closeLimit):
	}
}
