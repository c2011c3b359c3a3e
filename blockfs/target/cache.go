package target

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/cachedisk"
	"github.com/inetboot/inetboot/internal/handoff"
)

// cacheDir is where the cache's disk is mounted. It outlives the switch to the
// image's root.
const cacheDir = stateDir + "/cache"

const (
	// knownWait is how long the disk that preboot has seen may take to appear
	// here: USB needs a second or two.
	knownWait = 20 * time.Second

	// searchWait is how long to look for a disk that preboot has not seen,
	// because its kernel lacks the filesystem or the driver. It is no boot's
	// business to wait longer for what is probably not there.
	searchWait = 1500 * time.Millisecond

	// settleTime is how often drivers for new devices are looked for meanwhile:
	// each may bring the next bus.
	settleTime = 50 * time.Millisecond
)

// cacheChoice returns what is to be cached where: as the person in front of
// preboot said, else as the image's command line says.
func (b *booter) cacheChoice() handoff.Cache {
	if b.h.Cache.Mode == "" && b.cmd.cache.Mode != "" {
		c := b.cmd.cache
		if c.Mode == handoff.CacheAuto && c.UUID == "" {
			c.UUID, c.Device = b.h.Cache.UUID, b.h.Cache.Device
		}
		return c
	}
	return b.h.Cache
}

// ramShare is how much of the memory a cache in RAM takes if nobody says.
const ramShare = "40%"

// cacheFolder returns the folder that the daemon keeps blocks in: on a disk,
// or in memory, "" for nowhere.
func (b *booter) cacheFolder(ctx context.Context) string {
	c := b.cacheChoice()
	if c.Mode != handoff.CacheRAM {
		return b.findCache(ctx)
	}
	size := ramShare
	if c.Size > 0 {
		size = strconv.FormatInt(c.Size, 10)
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		b.log.Warn("going on without a cache in memory", "error", err)
		return ""
	}
	if err := unix.Mount("inetboot", cacheDir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0700,size="+size); err != nil {
		b.log.Warn("going on without a cache in memory", "error", err)
		return ""
	}
	b.say("cache in memory, at most %s", size)
	return cacheDir
}

// findCache mounts the disk with the cache folder, for writing if the disk
// allows it, and returns the folder, or "" if no cache on a disk is wanted or
// there is none. A cache is a help: whatever is wrong with it is logged, and
// the boot goes on.
//
// It may run beside network.
func (b *booter) findCache(ctx context.Context) (dir string) {
	c := b.cacheChoice()
	if c.Mode == handoff.CacheNone || c.Mode == handoff.CacheRAM {
		return ""
	}
	wait := searchWait
	if c.UUID != "" {
		wait = knownWait
	}
	ctx, cancel := context.WithCancel(ctx)
	drivers := make(chan struct{})
	go func() {
		defer close(drivers)
		for seen := map[string]bool{}; ctx.Err() == nil; {
			b.loadDrivers("/sys/bus", storageDirs, seen)
			_ = pause(ctx, settleTime)
		}
	}()
	found, err := cachedisk.Find(ctx, cachedisk.Options{
		Dir: filepath.Clean(cacheDir), UUID: c.UUID, Load: b.loadFilesystem, Wait: wait,
		Log: func(m string) { b.log.Warn(m) },
	})
	cancel()
	<-drivers
	if err != nil {
		if c.UUID != "" {
			b.log.Warn("going on without the cache", "disk", c.UUID, "error", err)
		} else {
			b.log.Debug("no cache", "error", err)
		}
		return ""
	}
	if c.UUID != "" && found.UUID != c.UUID {
		b.log.Warn("going on without the cache: another disk has one, but not the one that was seen before", "want", c.UUID, "have", found.UUID)
		if err := found.Unmount(); err != nil {
			b.log.Debug("unmount", "error", err)
		}
		return ""
	}
	b.say("cache on %s (%s), %d MB free", found.Name, found.Type, found.Free>>20)
	return found.Folder
}

// loadFilesystem loads the module of a filesystem, with the character sets
// that FAT may want.
func (b *booter) loadFilesystem(kind string) error {
	if kind == cachedisk.FAT {
		for _, m := range []string{"nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8"} {
			if err := b.mods.Load(m); err != nil {
				b.log.Debug("character set", "error", err) // it may be built in
			}
		}
	}
	return b.mods.Load(kind)
}
