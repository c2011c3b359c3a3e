package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
)

// writer is what only the holder of Cache.writing touches.
type writer struct {
	began    bool        // has written in this session
	cur      *segment    // being appended to
	f        *os.File    // its file
	entries  []entry     // its records
	dirty    atomic.Bool // cur has bytes that may not be on the disk
	pushed   int64       // up to where cur's bytes are on their way to the disk
	waited   int64       // up to where they are there
	synced   time.Time
	free     int64 // of the filesystem when it was asked last, less what was written since
	asked    int64 // bytes that may be written before it is asked again
	credit   int64 // bytes that may be written below the floor, since as many were freed
	complain bool  // said that there is no room
}

const (
	// pushEvery is how much may be on its way to the disk at a time. Readers
	// of a slow stick wait for no more than that.
	pushEvery = 1 << 20

	// pause is how long nothing is written after there was no room.
	pause = 30 * time.Second
)

var errNoRoom = errors.New("no room")

// write is the goroutine that writes.
func (c *Cache) write() {
	defer close(c.done)
	c.begin()
	due := time.NewTimer(0)
	armed := true
	for {
		c.mu.Lock()
		var op operation
		some := len(c.queue) > 0
		if some {
			op = c.queue[0]
			c.queue[0] = operation{}
			if c.queue = c.queue[1:]; len(c.queue) == 0 {
				c.queue = nil
			}
		}
		closing := c.closing
		later := len(c.marks) > 0 || c.touched
		c.mu.Unlock()
		if some {
			c.do(op)
			continue
		}
		if closing {
			due.Stop()
			c.end()
			return
		}
		if (later || c.w.dirty.Load()) && !armed {
			armed = true
			due.Reset(c.opt.SyncEvery)
		}
		select {
		case <-c.wake:
		case <-due.C:
			armed = false
			c.locked(func() { c.settle() })
		}
	}
}

// locked calls f while nobody else writes.
func (c *Cache) locked(f func()) {
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	f()
}

// begin makes room if the quota has become smaller since the last session.
func (c *Cache) begin() {
	c.locked(func() {
		c.mu.Lock()
		over := c.state == StateOK && c.segBytes+c.fileBytes+c.segSize > c.quota
		c.mu.Unlock()
		if over && c.makeRoom(0) != nil {
			c.log.Warn("the cache is larger than its quota, and nothing of it can go")
		}
	})
}

// end finishes what is written, so that the next session opens it quickly.
func (c *Cache) end() {
	c.locked(func() {
		c.mu.Lock()
		for _, s := range c.segs {
			s.noted = false // what was used when the session ends was used last
		}
		c.mu.Unlock()
		c.settle()
		if c.w.cur != nil {
			c.seal()
		}
	})
}

func (c *Cache) do(op operation) {
	if op.flush != nil {
		var err error
		c.locked(func() { err = c.settle() })
		op.flush <- err
		return
	}
	it := op.block
	var err error
	c.locked(func() {
		if err = c.writeBlock(it); err == nil && time.Since(c.w.synced) > c.opt.SyncEvery {
			err = c.settle()
		}
	})
	c.mu.Lock()
	k := keyOf(it.sum)
	if c.pending[k] == it {
		delete(c.pending, k)
	}
	if err != nil {
		c.stats.Refused++
	}
	c.took(len(it.rec))
	rec := it.rec
	it.rec, it.ready = nil, false
	c.mu.Unlock()
	c.bufs.put(rec)
}

// ok returns an error unless writing makes sense.
func (c *Cache) ok() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != StateOK {
		return fmt.Errorf("%w: %s", ErrReadOnly, c.stats.Reason)
	}
	return nil
}

// writeBlock appends a block to the log.
func (c *Cache) writeBlock(it *item) error {
	if err := c.ok(); err != nil {
		return err
	}
	c.mu.Lock()
	if time.Now().Before(c.paused) {
		c.mu.Unlock()
		return errNoRoom
	}
	h := header{kind: kindBlock, boot: it.boot, length: it.n, sum: it.sum, session: c.session}
	c.mu.Unlock()
	l, err := c.store(h, it.rec)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := keyOf(it.sum)
	c.insert(k, l)
	c.stats.Writes++
	c.stats.WrittenBytes += int64(len(it.rec))
	if it.boot && !h.boot { // while it was written
		c.markBoot([]key{k})
	}
	return nil
}

// store makes room for a record and appends it. When the disk is full in
// spite of that, somebody else was faster: more room is made.
func (c *Cache) store(h header, rec []byte) (location, error) {
	err := c.makeRoom(int64(len(rec)))
	for try := 0; err == nil; try++ {
		var l location
		if l, err = c.append(h, rec); err == nil {
			c.w.complain = false
			return l, nil
		}
		if !full(err) {
			c.writeFailed(err)
			return location{}, err
		}
		if try == 3 {
			break
		}
		if _, ok := c.evictOne(); !ok {
			break
		}
		err = nil
	}
	c.noRoom()
	return location{}, errNoRoom
}

// noRoom stops writing for a while.
func (c *Cache) noRoom() {
	c.mu.Lock()
	c.paused = time.Now().Add(pause)
	c.mu.Unlock()
	if !c.w.complain {
		c.w.complain = true
		c.log.Warn("there is no room in the cache's filesystem: new blocks are not kept for now")
	}
}

// writeFailed ends all writing.
func (c *Cache) writeFailed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.WriteErrors++
	c.lower(StateReadOnly, err.Error())
}

// append writes a record at the end of the log, without asking for room.
func (c *Cache) append(h header, rec []byte) (location, error) {
	if err := c.ensureSegment(int64(len(rec))); err != nil {
		return location{}, err
	}
	w := &c.w
	h.segment = w.cur.id
	h.put(rec)
	at := w.cur.end
	if _, err := w.f.WriteAt(rec, at); err != nil {
		// Whatever came to the disk of it is not to stand before the next record.
		if terr := w.f.Truncate(at); terr != nil && !full(err) {
			err = errors.Join(err, terr)
		}
		return location{}, fmt.Errorf("write segment %d: %w", w.cur.id, err)
	}
	w.dirty.Store(true)
	w.free -= int64(len(rec))
	w.asked -= int64(len(rec))
	l := location{seg: w.cur.id, page: uint32(at / pageSize), length: uint32(h.length)}
	if h.boot {
		l.boot = h.session
	}
	w.entries = append(w.entries, entry{header: h, page: l.page})
	c.mu.Lock()
	w.cur.end = at + int64(len(rec))
	c.resize(w.cur, w.cur.end)
	w.cur.lastUse = c.clock()
	if h.kind == kindBoot {
		w.cur.lists = append(w.cur.lists, h.session)
	}
	c.mu.Unlock()
	if end := w.cur.end; end-w.pushed >= pushEvery {
		if err := c.disk.push(w.f, w.waited, w.pushed, end); err != nil {
			return location{}, fmt.Errorf("write segment %d: %w", w.cur.id, err)
		}
		w.waited, w.pushed = w.pushed, end
	}
	return l, nil
}

// resize notes a segment's new length. c.mu is held.
func (c *Cache) resize(s *segment, size int64) {
	c.segBytes += size - s.size
	s.size = size
}

// ensureSegment sees to it that there is a segment with room for n bytes.
func (c *Cache) ensureSegment(n int64) error {
	w := &c.w
	c.resume()
	if w.cur != nil {
		if w.cur.end+n+footerLen(len(w.entries)+1) <= c.segSize || len(w.entries) == 0 {
			return nil
		}
		if err := c.seal(); err != nil && !full(err) {
			return err
		}
	}
	id, f, err := c.createSegment()
	if err != nil {
		return err
	}
	if err := c.disk.syncDir(segmentDir); err != nil {
		f.Close()
		return err
	}
	s := &segment{id: id}
	c.mu.Lock()
	s.lastUse = c.clock()
	c.segs[id] = s
	c.mu.Unlock()
	c.use(s, f, nil)
	return nil
}

// createSegment makes a file with a number above all others.
func (c *Cache) createSegment() (uint32, *os.File, error) {
	c.mu.Lock()
	id := uint32(1)
	for have := range c.segs {
		id = max(id, have+1)
	}
	c.mu.Unlock()
	for try := 0; ; try++ {
		f, err := c.root.OpenFile(segmentName(id), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		// What stands there and is no segment was put there by somebody else.
		if !errors.Is(err, fs.ErrExist) || try == 100 {
			return id, f, err
		}
		id++
	}
}

// use makes s the segment that is appended to.
func (c *Cache) use(s *segment, f *os.File, entries []entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.sealed = false
	c.w.cur, c.w.f, c.w.entries = s, f, entries
	c.w.waited, c.w.pushed = s.end, s.end
}

// resume begins writing: it goes on with the last segment, if that has room, and writes
// the tables that others lack because a session did not end properly.
func (c *Cache) resume() {
	if c.w.began {
		return
	}
	c.w.began = true
	c.mu.Lock()
	var last *segment
	var torn []*segment
	for _, s := range c.segs {
		if last == nil || s.id > last.id {
			last = s
		}
	}
	for _, s := range c.segs {
		if !s.sealed && s != last && s.end > 0 {
			torn = append(torn, s)
		}
	}
	c.mu.Unlock()
	if last != nil && (last.end+int64(maxPayload) <= c.segSize || !last.sealed) {
		if err := c.reopen(last); err != nil {
			c.log.Warn("the last segment of the cache is left as it is", "error", err)
		}
	}
	for _, s := range torn {
		if err := c.mend(s); err != nil {
			c.log.Warn("a segment of the cache is left as it is", "error", err)
		}
	}
}

// reopen takes a segment's table off, so that it can be appended to.
func (c *Cache) reopen(s *segment) error {
	f, size, err := openFile(c.root, segmentName(s.id), os.O_RDWR)
	if err != nil {
		return err
	}
	in, err := readContents(f, s.id, size)
	if err == nil {
		err = f.Truncate(in.end)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("go on with segment %d: %w", s.id, err)
	}
	c.mu.Lock()
	s.end = in.end
	c.resize(s, in.end)
	c.mu.Unlock()
	c.use(s, f, in.entries)
	c.w.dirty.Store(true)
	return nil
}

// mend writes the table that a segment lacks.
func (c *Cache) mend(s *segment) error {
	f, size, err := openFile(c.root, segmentName(s.id), os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	in, err := readContents(f, s.id, size)
	if err != nil || in.sealed {
		return err
	}
	footer := appendFooter(nil, s.id, in.end, in.entries)
	if _, err = f.WriteAt(footer, in.end); err == nil {
		err = f.Truncate(in.end + int64(len(footer)))
	}
	if err == nil {
		err = c.disk.sync(f)
	}
	if err != nil {
		return fmt.Errorf("mend segment %d: %w", s.id, err)
	}
	c.mu.Lock()
	s.sealed, s.end = true, in.end
	c.resize(s, in.end+int64(len(footer)))
	lastUse := s.lastUse
	c.mu.Unlock()
	c.setTime(segmentName(s.id), lastUse) // mending is no use
	return nil
}

// seal writes the table of the current segment and ends its use.
func (c *Cache) seal() error {
	w := &c.w
	s := w.cur
	footer := appendFooter(nil, s.id, s.end, w.entries)
	_, err := w.f.WriteAt(footer, s.end)
	if err == nil {
		err = c.disk.sync(w.f)
	}
	c.mu.Lock()
	if err == nil {
		s.sealed = true
		c.resize(s, s.end+int64(len(footer)))
	}
	c.mu.Unlock()
	w.f.Close()
	w.cur, w.f, w.entries = nil, nil, nil
	w.dirty.Store(false)
	if err != nil {
		return fmt.Errorf("seal segment %d: %w", s.id, err)
	}
	return nil
}

// settle writes down what was marked, brings everything to the disk, and notes
// which segments were used.
func (c *Cache) settle() error {
	c.w.synced = time.Now()
	err := c.writeMarks()
	if err == nil && c.w.dirty.Load() && c.w.f != nil {
		if err = c.disk.sync(c.w.f); err != nil {
			c.writeFailed(fmt.Errorf("bring segment %d to the disk: %w", c.w.cur.id, err))
		} else {
			c.w.dirty.Store(false)
			c.w.waited, c.w.pushed = c.w.cur.end, c.w.cur.end
		}
	}
	c.touch()
	return err
}

// touch notes in the times of segments and files that they were used, of a
// segment once in a session.
func (c *Cache) touch() {
	c.mu.Lock()
	c.touched = false
	used := map[string]int64{}
	for _, s := range c.segs {
		if s.used && !s.noted {
			s.noted = true
			used[segmentName(s.id)] = s.lastUse
		}
	}
	for _, p := range c.usedFiles {
		used[storeDir+"/"+p] = c.clock()
	}
	c.usedFiles = nil
	state := c.state
	c.mu.Unlock()
	if state != StateOK {
		return
	}
	for name, at := range used {
		c.setTime(name, at)
	}
}

// setTime notes when a file was used last.
func (c *Cache) setTime(name string, at int64) {
	t := time.UnixMilli(at)
	if err := c.root.Chtimes(name, t, t); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Debug("the time of use cannot be noted", "file", name, "error", err)
	}
}

// maxList is how many keys a record has at most.
const maxList = 32 << 10

// writeMarks writes down which blocks this session's boot read.
func (c *Cache) writeMarks() error {
	c.mu.Lock()
	keys := c.marks
	c.marks = nil
	session := c.session
	c.mu.Unlock()
	return c.writeLists(session, keys, c.store)
}

func (c *Cache) writeLists(session uint32, keys []key, store func(header, []byte) (location, error)) error {
	for len(keys) > 0 {
		n := min(len(keys), maxList)
		rec := make([]byte, recordLen(n*len(key{})))
		for i, k := range keys[:n] {
			copy(rec[headerLen+i*len(k):], k[:])
		}
		length := n * len(key{})
		h := header{kind: kindBoot, length: length, sum: digest.Of(rec[headerLen : headerLen+length]), session: session}
		if _, err := store(h, rec); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}
