package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/inetboot/inetboot/catalog"
)

// factHeads are what the menu says about each image.
func factHeads() []string { return []string{"version", "to load", "memory", "cached"} }

// facts is what the menu says about an image before it is started.
type facts struct {
	version string
	load    int64  // bytes of kernel, initrd and indexes
	later   int64  // bytes that the target may read, at most
	memory  int64  // bytes that a machine has to have
	short   string // why this machine has too little memory; "": it has enough
}

func factsOf(img *catalog.Image) facts {
	man := img.Manifest()
	f := facts{version: man.Version, memory: man.Needs.Memory}
	for _, b := range man.Files() {
		f.load += b.Size
	}
	for _, r := range man.Root.Files {
		f.load += r.Index.Size
		f.later += r.Stored
	}
	if err := checkMemory(img); err != nil {
		f.short = err.Error()
	}
	return f
}

// sizes says how much is downloaded when.
func (f *facts) sizes() string {
	if f.later == 0 {
		return ""
	}
	return fmt.Sprintf("%s are loaded before it starts, %s more at most while it runs.", size(f.load), size(f.later))
}

// memorySize writes an amount of memory in powers of 1024, as memory is sold.
func memorySize(n int64) string {
	switch {
	case n <= 0:
		return ""
	case n < 10<<30:
		return fmt.Sprintf("%d MB", (n+1<<20-1)>>20)
	}
	return fmt.Sprintf("%d GB", (n+1<<30-1)>>30)
}

// Bounds of what is read for the menu alone.
const (
	maxFacts        = 200      // images
	maxFactsFile    = 64 << 10 // bytes of a manifest
	factsAtOnce     = 4
	factsNewsPeriod = 2 * time.Second // a slow line has no time for more news
)

// gatherer reads the manifests of a menu's images while somebody looks at it.
type gatherer struct {
	news   chan struct{} // something is known that was not
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	known map[string]facts // by target
}

// gather begins to read the images with these targets, in their order.
func gather(ctx context.Context, c *catalog.Catalog, names []string) *gatherer {
	ctx, cancel := context.WithCancel(ctx)
	g := &gatherer{news: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}), known: make(map[string]facts)}
	work := make(chan string)
	go func() {
		defer close(work)
		seen := make(map[string]bool)
		for _, n := range names[:min(len(names), maxFacts)] {
			if seen[n] {
				continue
			}
			seen[n] = true
			select {
			case work <- n:
			case <-ctx.Done():
				return
			}
		}
	}()
	var readers sync.WaitGroup
	for range factsAtOnce {
		readers.Go(func() {
			for n := range work {
				g.read(ctx, c, n)
			}
		})
	}
	go func() {
		defer close(g.done)
		all := make(chan struct{})
		go func() { readers.Wait(); close(all) }()
		tick := time.NewTicker(factsNewsPeriod)
		defer tick.Stop()
		told := 0
		for over := false; !over; {
			select {
			case <-tick.C:
			case <-all:
				over = true
			}
			if n := g.count(); n > told {
				told = n
				select {
				case g.news <- struct{}{}:
				default:
				}
			}
		}
	}()
	return g
}

// read reads one image. What goes wrong here will be said when somebody wants
// to start it.
func (g *gatherer) read(ctx context.Context, c *catalog.Catalog, name string) {
	if b, err := c.Blob(ctx, name); err != nil || b.Size > maxFactsFile {
		return
	}
	img, err := c.Image(ctx, name)
	if err != nil {
		return
	}
	f := factsOf(img)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known[name] = f
}

func (g *gatherer) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.known)
}

// get returns what is known by now; nil: nothing.
func (g *gatherer) get(name string) *facts {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if f, ok := g.known[name]; ok {
		return &f
	}
	return nil
}

// wake returns the channel of the news; nil: there will be none.
func (g *gatherer) wake() <-chan struct{} {
	if g == nil {
		return nil
	}
	return g.news
}

// stop ends the reading, so that it does not get in the way of a download.
func (g *gatherer) stop() {
	if g != nil {
		g.cancel()
		<-g.done
	}
}

// startFacts begins to find out about the images of the menu's entries. From a
// cache it is known at once.
func (s *session) startFacts(ctx context.Context) {
	st := s.store
	if st.facts != nil {
		return
	}
	names := slices.Clone(images(st.menu.Entries))
	c := st.catalog
	if st.offline != "" {
		d := s.cache.Disk()
		if d == nil {
			return
		}
		c = c.From(d)
	}
	st.facts = gather(ctx, c, names)
	if st.offline != "" {
		<-st.facts.done
	}
}
