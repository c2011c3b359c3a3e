package cachedisk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Names returns the names of cache folders, best first.
func Names() []string { return []string{"inetboot-cache", "knxblock"} }

// Errors of Find.
var (
	// ErrNone: no filesystem with a cache folder.
	ErrNone = errors.New("no disk with a cache folder")

	// ErrNoRoom: there is a cache folder, but its filesystem is full of other things.
	ErrNoRoom = errors.New("no room for a cache")
)

// MinRoom is how many bytes a writable cache must be able to have, with what it
// has already.
const MinRoom = 32 << 20

// Options is how Find works. Only Dir is needed.
type Options struct {
	// Dir is a folder of the caller's own, below which disks are mounted, each
	// at its name. It is made if it is missing.
	Dir string

	// ReadOnly mounts so that not a byte of the disk changes: without replaying
	// a journal.
	ReadOnly bool

	// UUID is that of a filesystem found earlier, as in Found.UUID. It is taken
	// as soon as it is there; others only if it does not come.
	UUID string

	// Load gets the kernel module for a filesystem type, such as "vfat". An
	// error is only told if the kernel turns out not to know the type. nil:
	// none are needed.
	Load func(fstype string) error

	// Wait is how long to wait for disks that appear late, as those on USB do:
	// for the one with UUID if that is given, else for the first one with a
	// cache. 0: not at all.
	Wait time.Duration

	// Limit is how long a single disk may take; 0: 10 s, in which most disks
	// have spun up.
	Limit time.Duration

	// Log gets messages for people about disks that are passed over. nil: silent.
	Log func(msg string)

	// SysDir and DevDir stand for /sys/class/block and /dev.
	SysDir, DevDir string
}

// Found is a mounted filesystem with a cache folder.
type Found struct {
	Device
	Superblock
	MountPoint string
	Folder     string // the cache folder, an absolute path
	Free       int64  // bytes that the filesystem has free
	Total      int64  // its size in bytes
	Writable   bool   // false if ReadOnly was asked for, or the disk cannot be written to
}

// Unmount ends the use of the disk. While files are open the mount is only
// hidden, and ends with the last of them.
func (f *Found) Unmount() error {
	if err := unmount(f.MountPoint); err != nil {
		return err
	}
	os.Remove(f.MountPoint) // an empty folder of no consequence
	return nil
}

// Find looks for a filesystem with a cache folder and leaves the best one
// mounted: the one with Options.UUID, else the one with the most free space. If it
// cannot be mounted for writing it is still there for reading; see Found.Writable.
//
// Errors wrap ErrNone or ErrNoRoom, or are the context's; all of them mean to go on
// without a cache. A disk that hangs or is broken is passed over.
func Find(ctx context.Context, o Options) (*Found, error) {
	if o.Limit <= 0 {
		o.Limit = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil || o.Dir == "" {
		return nil, fmt.Errorf("find a cache: folder for mounts %q: %w", o.Dir, cmp.Or(err, fs.ErrInvalid))
	}
	o.Dir = dir
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("find a cache: folder for mounts: %w", err)
	}
	s := &search{o: o, looks: map[string]*look{}, seen: map[string]time.Time{}, results: make(chan *look, maxDevices)}
	err = s.run(ctx)
	for _, l := range s.looks {
		if l.done && !l.retry.IsZero() {
			s.passOver(l)
		}
	}
	if err != nil {
		s.drop(nil)
		return nil, fmt.Errorf("find a cache: %w", err)
	}
	return s.choose(ctx)
}

// search is one run of Find.
type search struct {
	o       Options
	looks   map[string]*look     // by the device's name
	seen    map[string]time.Time // when a whole disk was listed first
	results chan *look
	open    int // looks without result
}

// look is what became of a device.
type look struct {
	dev   Device
	done  bool
	retry time.Time // when to look again at a device that was not ready
	found *Found    // mounted read-only
	err   error
}

const (
	pollEvery  = 100 * time.Millisecond
	retryAfter = time.Second

	// partitionTime is how long the kernel may take to read a partition table.
	partitionTime = 250 * time.Millisecond
)

// run looks at devices until the search is over; it fails only with ctx.
func (s *search) run(ctx context.Context) error {
	end := time.Now().Add(s.o.Wait)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if err := s.scan(ctx); err != nil {
			s.o.Log(err.Error())
		}
		for more := true; more; {
			switch late := !time.Now().Before(end); {
			case s.has(true):
				return s.rest(ctx)
			case s.open == 0 && (late || (s.o.UUID == "" && s.has(false))):
				return nil
			}
			select {
			case l := <-s.results:
				s.note(l)
			case <-tick.C:
				more = false
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// rest waits a moment for the other disks, so that none is being looked at
// when Find returns; one that hangs cleans up behind itself whenever it answers.
func (s *search) rest(ctx context.Context) error {
	t := time.NewTimer(time.Second)
	defer t.Stop()
	for s.open > 0 {
		select {
		case l := <-s.results:
			s.note(l)
		case <-t.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (s *search) note(l *look) {
	l.done = true
	s.open--
	if l.err != nil && !errors.Is(l.err, ErrUnknown) && !errors.Is(l.err, ErrNone) && l.retry.IsZero() {
		s.passOver(l)
	}
}

func (s *search) passOver(l *look) {
	s.o.Log(fmt.Sprintf("disk %s is passed over: %v", l.dev.Name, l.err))
}

// has tells whether a filesystem with a cache was found, or the expected one.
func (s *search) has(expected bool) bool {
	for _, l := range s.looks {
		if l.done && l.found != nil && (!expected || (s.o.UUID != "" && l.found.UUID == s.o.UUID)) {
			return true
		}
	}
	return false
}

// scan begins to look at devices that are new, or were not ready.
func (s *search) scan(ctx context.Context) error {
	devs, err := Devices(s.o.SysDir, s.o.DevDir)
	if err != nil {
		return err
	}
	maps.DeleteFunc(s.looks, func(name string, l *look) bool { // pulled out; what comes in its place is another disk
		return l.done && l.found == nil && !slices.ContainsFunc(devs, func(d Device) bool { return d.Name == name })
	})
	for _, d := range devs {
		old := s.looks[d.Name]
		if old != nil && (!old.done || old.retry.IsZero() || time.Now().Before(old.retry)) {
			continue
		}
		if s.open >= maxDevices {
			break
		}
		if !d.Partition && s.o.Wait > 0 && s.young(d) {
			continue
		}
		l := &look{dev: d}
		s.looks[d.Name] = l
		s.open++
		go func() {
			what := "look at " + d.Name
			l.found, l.err = within(ctx, s.o.Limit, what, func() (*Found, error) { return s.look(d) }, func(f *Found) { f.Unmount() })
			if notReady(l.err) {
				l.retry = time.Now().Add(retryAfter)
			}
			s.results <- l
		}()
	}
	return nil
}

// young tells whether a disk was listed a moment ago only: the kernel lists it
// before it has looked for its partitions.
func (s *search) young(d Device) bool {
	if s.seen[d.Name].IsZero() {
		s.seen[d.Name] = time.Now()
	}
	return time.Since(s.seen[d.Name]) < partitionTime
}

// notReady tells whether a device may answer when it is asked again: its node
// is not made yet, a reader has no card, a disk spins up.
func notReady(err error) bool {
	for _, e := range []error{fs.ErrNotExist, unix.ENXIO, unix.ENOMEDIUM, unix.EIO, unix.EBUSY, unix.EAGAIN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// look reads a device's superblock, and if it may hold a cache mounts it
// read-only and looks for the folder. It may hang.
func (s *search) look(d Device) (*Found, error) {
	sb, err := probeNode(d)
	if err != nil {
		return nil, err
	}
	f := &Found{Device: d, Superblock: sb, MountPoint: filepath.Join(s.o.Dir, filepath.Base(d.Name))}
	if err := os.MkdirAll(f.MountPoint, 0o700); err != nil {
		return nil, err
	}
	if err := mountDevice(d.Node, f.MountPoint, sb.Type, true, s.o.Load); err != nil {
		os.Remove(f.MountPoint)
		return nil, err
	}
	if err := f.inspect(); err != nil {
		f.Unmount()
		return nil, err
	}
	return f, nil
}

func probeNode(d Device) (Superblock, error) {
	// Without O_NONBLOCK an empty drive is waited for.
	dev, err := os.OpenFile(d.Node, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Superblock{}, err
	}
	defer dev.Close()
	return Probe(dev, d.Size)
}

// inspect looks for the cache folder of a mounted filesystem and asks for its
// free space.
func (f *Found) inspect() error {
	for _, name := range Names() {
		p := filepath.Join(f.MountPoint, name)
		// Not a symbolic link: it would lead out of the disk.
		if st, err := os.Lstat(p); err == nil && st.IsDir() {
			f.Folder = p
			break
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if f.Folder == "" {
		return ErrNone
	}
	var st unix.Statfs_t
	if err := unix.Statfs(f.MountPoint, &st); err != nil {
		return fmt.Errorf("ask %s for its free space: %w", f.Node, err)
	}
	f.Free, f.Total = int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize
	f.Writable = st.Flags&unix.ST_RDONLY == 0
	return nil
}

// choose keeps the best of what was found.
func (s *search) choose(ctx context.Context) (*Found, error) {
	var list []*Found
	for _, l := range s.looks {
		if l.done && l.found != nil {
			list = append(list, l.found)
		}
	}
	expected := func(f *Found) int {
		if s.o.UUID != "" && f.UUID == s.o.UUID {
			return 0
		}
		return 1
	}
	slices.SortFunc(list, func(a, b *Found) int {
		return cmp.Or(expected(a)-expected(b), cmp.Compare(b.Free, a.Free), cmp.Compare(a.Name, b.Name))
	})
	err := ErrNone
	for _, f := range list {
		if s.o.ReadOnly {
			s.drop(f)
			return f, nil
		}
		w, werr := within(ctx, s.o.Limit, "mount "+f.Node+" for writing", func() (*Found, error) { return s.writable(*f) }, func(f *Found) { f.Unmount() })
		if werr == nil {
			s.drop(f)
			return w, nil
		}
		s.o.Log(fmt.Sprintf("the cache on %s is passed over: %v", f.Name, werr))
		s.forget(f)
		if errors.Is(werr, ErrNoRoom) {
			err = ErrNoRoom
		}
	}
	s.drop(nil)
	if cerr := context.Cause(ctx); cerr != nil {
		err = cerr
	}
	return nil, fmt.Errorf("find a cache: %w", err)
}

// writable mounts f, which is mounted read-only, anew for writing. It may hang.
// Without success nothing is mounted.
func (s *search) writable(f Found) (*Found, error) {
	if err := f.Unmount(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(f.MountPoint, 0o700); err != nil {
		return nil, err
	}
	err := error(unix.EROFS)
	if !f.ReadOnly {
		err = mountDevice(f.Node, f.MountPoint, f.Type, false, s.o.Load)
	}
	if err != nil {
		if rerr := mountDevice(f.Node, f.MountPoint, f.Type, true, s.o.Load); rerr != nil {
			return nil, rerr
		}
		s.o.Log(fmt.Sprintf("the cache on %s can only be read: %v", f.Name, err))
	}
	if err := f.inspect(); err != nil {
		f.Unmount()
		return nil, err
	}
	if f.Writable {
		if used := sizeOf(f.Folder); f.Free+used < MinRoom {
			f.Unmount()
			return nil, fmt.Errorf("%w: %d MB free, %d MB in use by the cache; a cache needs %d MB", ErrNoRoom, f.Free>>20, used>>20, MinRoom>>20)
		}
	}
	return &f, nil
}

// sizeOf adds up the files of a cache folder, about.
func sizeOf(dir string) int64 {
	var sum int64
	files := 0
	filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if files++; err != nil || files > 20_000 || sum >= MinRoom {
			return fs.SkipAll
		}
		if st, err := e.Info(); err == nil && st.Mode().IsRegular() {
			sum += st.Size()
		}
		return nil
	})
	return sum
}

// forget takes f out of what drop unmounts.
func (s *search) forget(f *Found) {
	for _, l := range s.looks {
		if l.done && l.found == f {
			l.found = nil
		}
	}
}

// drop unmounts all that was found but keep. What is still being looked at is
// unmounted whenever its disk answers.
func (s *search) drop(keep *Found) {
	for name, l := range s.looks {
		if l.done && l.found != nil && l.found != keep {
			s.unmount(l.found)
		}
		delete(s.looks, name)
	}
	if n := s.open; n > 0 {
		s.open = 0
		go func() {
			for range n {
				if l := <-s.results; l.found != nil {
					s.unmount(l.found)
				}
			}
		}()
	}
}

// unmount takes away the mount of a disk that is not kept, which may hang.
func (s *search) unmount(f *Found) {
	_, err := within(context.Background(), s.o.Limit, "unmount "+f.Node,
		func() (struct{}, error) { return struct{}{}, f.Unmount() }, func(struct{}) {})
	if err != nil {
		s.o.Log(err.Error())
	}
}
