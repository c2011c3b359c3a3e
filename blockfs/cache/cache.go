package cache

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
)

// Options is how a Cache works. The zero value is usable.
type Options struct {
	// Quota is how many bytes blocks and files may take together. 0: what is free
	// and what the cache has already, less the Floor.
	Quota int64

	// Floor is how many bytes of the filesystem the cache leaves free. 0: 5 %,
	// at least 64 MiB, but no more than an eighth.
	Floor int64

	// SegmentSize is the length of segment files: 2 MiB to 256 MiB. 0: a sixteenth of
	// the quota, 2 MiB to 32 MiB. It is also by how much the quota is not used up.
	SegmentSize int64

	MaxBlocks int           // most blocks in the index; 0: 200,000
	Queue     int           // bytes that wait to be written, at most; 0: 8 MiB
	Readers   int           // most reads at a time that wait for the disk; 0: 8
	ReadLimit time.Duration // after which a read is given up; 0: 2 s
	SyncEvery time.Duration // how long what was written may wait until it is brought to the disk; 0: 5 s

	Logger *slog.Logger // nil: silent
}

// State is whether a cache works.
type State string

// The states of a Cache. They only go downwards while it is open.
const (
	StateOK       State = "ok"
	StateReadOnly State = "read-only" // nothing is written: the disk is write-protected, has no room at all, or writing failed
	StateFailed   State = "failed"    // out of service: the disk does not answer
)

// Stats says what a Cache has and has done since it was opened.
type Stats struct {
	State    State  `json:"state"`
	Reason   string `json:"reason,omitempty"` // why it is not ok
	Blocks   int    `json:"blocks"`
	Bytes    int64  `json:"bytes"`      // of segments and files, as they take room
	Files    int    `json:"files"`      // plain files
	FileSize int64  `json:"file_bytes"` // their part of Bytes
	Boot     int64  `json:"boot_bytes"` // of blocks that boots read
	Quota    int64  `json:"quota"`
	Queued   int    `json:"queued_bytes"` // waiting to be written, now

	Hits         int64 `json:"hits"`
	HitBytes     int64 `json:"hit_bytes"` // stored bytes
	Misses       int64 `json:"misses"`
	Dropped      int64 `json:"dropped"` // blocks that turned out to be bad
	Writes       int64 `json:"writes"`  // blocks written
	WrittenBytes int64 `json:"written_bytes"`
	Refused      int64 `json:"refused"` // blocks not taken: queue full, no room, read-only
	Evicted      int64 `json:"evicted"` // blocks thrown out to make room
	Copied       int64 `json:"copied"`  // blocks of boots that were saved from that
	ReadErrors   int64 `json:"read_errors"`
	ReadTimeouts int64 `json:"read_timeouts"`
	WriteErrors  int64 `json:"write_errors"`
}

// ErrInUse is returned by Open when another process has the cache.
var ErrInUse = errors.New("cache is in use by another process")

// Cache is an open cache folder. It is safe for concurrent use.
type Cache struct {
	opt   Options
	log   *slog.Logger
	root  *os.Root
	disk  disk
	lock  *os.File
	start time.Time
	base  int64 // milliseconds since 1970 at start, or after the newest file if the clock is behind

	closes sync.WaitGroup // files being closed
	noFast atomic.Bool    // the filesystem cannot read what is in memory without waiting
	slots  chan struct{}  // reads that wait for the disk
	bufs   buffers

	// writing is held by whoever changes files: the writer or PutFile. It may
	// be held for ever when the disk hangs.
	writing chan struct{}

	mu        sync.Mutex // for bookkeeping, never held while the disk is asked
	index     map[key]location
	segs      map[uint32]*segment
	opened    list.List // of *segment with an open file, most recently used first
	files     map[string]*file
	keep      map[string]bool // nil until Keep is called
	quota     int64
	segSize   int64
	segBytes  int64 // of all segments
	fileBytes int64 // of all files, those being written included
	bootBytes int64
	bootCount int
	bySession map[uint32]int64 // bootBytes of each session
	session   uint32
	state     State
	stats     Stats
	trouble   trouble

	queue     []operation
	queued    int // bytes
	pending   map[key]*item
	marks     []key         // blocks that this session's boot read, not yet written down
	touched   bool          // something was used for the first time in this session: see touch
	usedFiles []string      // files whose use is not yet noted
	paused    time.Time     // until when nothing is written, for lack of room
	room      chan struct{} // closed when the queue has become shorter
	wake      chan struct{}
	closing   bool
	done      chan struct{} // closed when the writer has ended

	w writer
}

// location is where a block lies.
type location struct {
	seg    uint32
	page   uint32
	length uint32 // of the payload
	boot   uint32 // session of the last boot that read it; 0: none
}

// segment is a segment file. Fields are guarded by Cache.mu.
type segment struct {
	id      uint32
	size    int64 // of the file
	live    int64 // bytes of records that the index points to
	count   int   // of these records
	boot    int64 // bytes of those that boots read
	lists   []uint32
	lastUse int64 // by Cache.clock
	used    bool  // in this session, and not yet noted in the file's time
	noted   bool
	sealed  bool
	end     int64 // of its records

	f    *os.File // nil if not open
	refs int      // reads under way; the file is not closed while there are some
	elem *list.Element
	gone bool // was deleted
}

const (
	// 90 KB on average, so some 18 GB. A little more would double the map's memory.
	defaultMaxBlocks = 200_000
	defaultQueue     = 8 << 20
	defaultReaders   = 8
	defaultReadLimit = 2 * time.Second
	defaultSync      = 5 * time.Second

	minSegmentSize = 2 << 20
	bestSegment    = 32 << 20

	// minQuota has room for two segments and the one in reserve.
	minQuota = 3 * minSegmentSize

	segmentDir = "segments"
	storeDir   = "store"
	lockName   = "lock"
)

func (o *Options) defaults() {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&o.MaxBlocks, defaultMaxBlocks)
	set(&o.Queue, defaultQueue)
	set(&o.Readers, defaultReaders)
	if o.ReadLimit <= 0 {
		o.ReadLimit = defaultReadLimit
	}
	if o.SyncEvery <= 0 {
		o.SyncEvery = defaultSync
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Open opens the cache in folder dir, which must exist. Damage is logged and
// never a reason for an error; a folder that cannot be used is, and another
// process that has the cache (ErrInUse). ctx bounds the opening alone: on a
// disk that does not answer, Open returns when ctx ends.
//
// A cache on a filesystem that is mounted read-only is read-only.
func Open(ctx context.Context, dir string, o Options) (*Cache, error) {
	o.defaults()
	type result struct {
		c   *Cache
		err error
	}
	done := make(chan result, 1)
	var decided atomic.Bool
	go func() {
		c, err := open(ctx, dir, o)
		if decided.CompareAndSwap(false, true) {
			done <- result{c, err}
		} else if err == nil {
			c.Close()
		}
	}()
	select {
	case r := <-done:
		return r.c, r.err
	case <-ctx.Done():
	}
	if !decided.CompareAndSwap(false, true) {
		r := <-done
		return r.c, r.err
	}
	return nil, fmt.Errorf("open the cache %s: %w", dir, context.Cause(ctx))
}

func open(ctx context.Context, dir string, o Options) (*Cache, error) {
	fail := func(err error) (*Cache, error) { return nil, fmt.Errorf("open the cache %s: %w", dir, err) }
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fail(err)
	}
	c := &Cache{
		opt: o, log: o.Logger, root: root,
		start: time.Now(), base: time.Now().UnixMilli(),
		slots:   make(chan struct{}, o.Readers),
		bufs:    buffers{limit: 4 << 20},
		writing: make(chan struct{}, 1),
		index:   map[key]location{}, segs: map[uint32]*segment{}, files: map[string]*file{},
		bySession: map[uint32]int64{}, pending: map[key]*item{},
		state: StateOK, session: 1,
		room: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if err := c.prepare(ctx); err != nil {
		c.closeFiles()
		return fail(err)
	}
	go c.write()
	return c, nil
}

// prepare does all of opening but starting the writer.
func (c *Cache) prepare(ctx context.Context) error {
	var err error
	if c.disk, err = diskOf(c.root); err != nil {
		return err
	}
	if c.disk.readOnly {
		c.lower(StateReadOnly, "the filesystem is mounted read-only")
	} else {
		if c.lock, err = acquire(c.root); errors.Is(err, ErrInUse) {
			return err
		}
		if err == nil {
			err = c.root.MkdirAll(segmentDir, 0o700)
		}
		if err == nil {
			err = c.root.MkdirAll(storeDir, 0o700)
		}
		if err != nil {
			c.lower(StateReadOnly, err.Error())
		}
	}
	begin := time.Now()
	if err := c.loadSegments(ctx); err != nil {
		return err
	}
	if err := c.loadFiles(); err != nil {
		return err
	}
	if err := c.plan(); err != nil {
		return err
	}
	c.log.Info("cache is open", "blocks", len(c.index), "segments", len(c.segs), "files", len(c.files),
		"bytes", c.segBytes+c.fileBytes, "quota", c.quota, "state", c.state, "took", time.Since(begin).Round(time.Millisecond))
	return nil
}

// plan decides on quota and segment size.
func (c *Cache) plan() error {
	free, err := c.disk.free()
	if err != nil {
		return err
	}
	if c.opt.Floor <= 0 {
		c.opt.Floor = max(c.disk.total/20, min(64<<20, c.disk.total/8))
	}
	c.quota = c.opt.Quota
	if c.quota <= 0 {
		c.quota = max(c.segBytes+c.fileBytes+free-c.opt.Floor, 0)
	}
	c.segSize = c.opt.SegmentSize
	if c.segSize <= 0 {
		c.segSize = c.quota / 16
	}
	c.segSize = roundUp(min(max(c.segSize, minSegmentSize), maxSegment))
	if c.opt.SegmentSize <= 0 {
		c.segSize = min(c.segSize, bestSegment)
	}
	if c.quota < minQuota || c.quota < 3*c.segSize {
		c.lower(StateReadOnly, fmt.Sprintf("%d MB are no room for a cache", c.quota>>20))
	}
	return nil
}

// lower makes the state worse, and says so once. c.mu is held, or nobody else
// knows c.
func (c *Cache) lower(s State, reason string) {
	if c.state == StateFailed || c.state == s {
		return
	}
	c.state, c.stats.Reason = s, reason
	for k, it := range c.pending { // nothing of this will be written
		if it.ready {
			delete(c.pending, k)
		}
	}
	what := "the cache is only read from now on"
	if s == StateFailed {
		what = "the cache is out of service; reading goes on without it"
	}
	c.log.Warn(what, "reason", reason)
}

// clock returns milliseconds since 1970 that never go back, also from one session
// to the next.
func (c *Cache) clock() int64 { return c.base + time.Since(c.start).Milliseconds() }

// Has tells whether the block is in the cache, or in the queue on its way
// there: after Flush, whether it is there. It may be damaged.
func (c *Cache) Has(sum digest.SHA256) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := keyOf(sum)
	_, ok := c.index[k]
	return (ok || c.pending[k] != nil) && c.state != StateFailed
}

// Len returns the number of blocks.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.index)
}

// Stats returns the counters.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.State, s.Blocks, s.Files, s.FileSize = c.state, len(c.index), len(c.files), c.fileBytes
	s.Bytes, s.Boot, s.Quota, s.Queued = c.segBytes+c.fileBytes, c.bootBytes, c.quota, c.queued
	return s
}

// Drop takes a block out whose bytes turned out to be bad, so that it will be
// fetched and stored anew. The next record of the block counts after the next
// Open, too.
func (c *Cache) Drop(sum digest.SHA256) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.remove(keyOf(sum)) {
		c.stats.Dropped++
	}
}

// insert notes where a block lies, and whether a boot read it. c.mu is held.
func (c *Cache) insert(k key, l location) {
	if old, ok := c.index[k]; ok {
		l.boot = max(l.boot, old.boot)
		c.remove(k)
	}
	c.index[k] = l
	c.account(l, 1)
}

// remove forgets a block. c.mu is held.
func (c *Cache) remove(k key) bool {
	l, ok := c.index[k]
	if ok {
		delete(c.index, k)
		c.account(l, -1)
	}
	return ok
}

// account adds a location to the sums, or takes it out again. c.mu is held.
func (c *Cache) account(l location, sign int64) {
	n := sign * recordLen(int(l.length))
	s := c.segs[l.seg]
	s.live += n
	s.count += int(sign)
	if l.boot == 0 {
		return
	}
	s.boot += n
	c.bootBytes += n
	c.bootCount += int(sign)
	if c.bySession[l.boot] += n; c.bySession[l.boot] == 0 {
		delete(c.bySession, l.boot)
	}
}

// setBoot notes the boot that read a block; session 0 takes the note away. c.mu
// is held.
func (c *Cache) setBoot(k key, session uint32) {
	if l, ok := c.index[k]; ok && l.boot != session {
		c.account(l, -1)
		l.boot = session
		c.index[k] = l
		c.account(l, 1)
	}
}

// Close writes what is queued, seals the segment, and ends the use of the
// folder. When the disk hangs it returns after five seconds, with an error.
func (c *Cache) Close() error {
	c.mu.Lock()
	already := c.closing
	c.closing = true
	c.mu.Unlock()
	if already {
		return nil
	}
	c.poke()
	done := make(chan struct{})
	go func() { // ends whenever the disk answers
		defer close(done)
		<-c.done
		c.closeFiles()
	}()
	t := time.NewTimer(closeLimit)
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-t.C:
		return errors.New("close the cache: the disk does not answer; what was not written is lost")
	}
}

const closeLimit = 5 * time.Second

// closeFiles closes what is open, but for files that are being read: those are
// closed by their last reader.
func (c *Cache) closeFiles() {
	c.mu.Lock()
	c.state, c.stats.Reason = StateFailed, "closed"
	for _, s := range c.segs {
		if s.gone = true; s.f != nil && s.refs == 0 {
			c.closeSegment(s)
		}
	}
	c.mu.Unlock()
	c.closes.Wait()
	c.root.Close()
	if c.lock != nil {
		c.lock.Close()
	}
}
