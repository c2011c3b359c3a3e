package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// makeRoom sees to it that n more bytes keep to quota and floor.
func (c *Cache) makeRoom(n int64) error {
	for {
		if err := c.ok(); err != nil {
			return err
		}
		c.mu.Lock()
		// A segment's length stays in reserve for copies of what is saved from
		// a victim.
		over := c.segBytes+c.fileBytes+n+c.segSize > c.quota || len(c.index) >= c.opt.MaxBlocks
		c.mu.Unlock()
		if over {
			if _, ok := c.evictOne(); !ok {
				return errNoRoom
			}
			continue
		}
		low, err := c.low(n)
		if err != nil {
			c.writeFailed(err)
			return err
		}
		if !low {
			return nil
		}
		if c.w.credit >= n {
			c.w.credit -= n
			return nil
		}
		// Others fill the disk: the cache does not grow, but goes on with what it has.
		freed, ok := c.evictOne()
		if !ok {
			return errNoRoom
		}
		c.w.credit += freed
	}
}

// low tells whether writing n bytes would leave less than the floor free.
func (c *Cache) low(n int64) (bool, error) {
	if c.w.asked < n {
		free, err := c.disk.free()
		if err != nil {
			return false, err
		}
		c.w.free, c.w.asked = free, n+1<<20
	}
	return c.w.free-n < c.opt.Floor, nil
}

// evictOne throws out the segment or file of the least value. It returns how
// many bytes that freed; ok is false if there is nothing to throw out.
func (c *Cache) evictOne() (freed int64, ok bool) {
	c.resume() // so that the segment that is appended to is not the victim
	c.mu.Lock()
	c.demote()
	before := c.segBytes + c.fileBytes
	s, name := c.victim()
	c.mu.Unlock()
	var err error
	if s == nil && name == "" && len(c.w.entries) > 0 { // all there is
		if err = c.seal(); err == nil {
			return 0, true
		}
	}
	switch {
	case err != nil:
	case s != nil:
		err = c.evictSegment(s)
	case name != "":
		err = c.removeFile(name)
	default:
		return 0, false
	}
	c.w.asked = 0
	if err != nil {
		c.writeFailed(err)
		return 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return before - c.segBytes - c.fileBytes, true
}

// victim chooses what to throw out: what was not used for long, has
// little in it that is worth its room, and little that has to be copied. c.mu is held.
func (c *Cache) victim() (*segment, string) {
	var seg *segment
	var name string
	best := -1.0
	now := c.clock()
	for _, s := range c.segs {
		if s == c.w.cur {
			continue
		}
		// Blocks that move cost writing; a segment with hardly any others frees
		// nothing.
		score := float64(max(now-s.lastUse, 0)+1) * float64(max(s.size-s.boot, 1)) / float64(s.live+s.boot+pageSize)
		if !s.worthSaving() {
			score = float64(s.size-s.boot) / maxSegment / 2 // less than all others
		}
		if score > best || (score == best && seg != nil && s.id < seg.id) {
			best, seg = score, s
		}
	}
	if c.keep == nil {
		return seg, ""
	}
	for n, f := range c.files {
		if f.busy || c.keep[n] {
			continue
		}
		if score := float64(max(now-f.lastUse, 0) + 1); score > best {
			best, name = score, n
		}
	}
	if name != "" {
		return nil, name
	}
	return seg, ""
}

// worthSaving tells whether enough is freed when a segment goes and its boot
// blocks are saved.
func (s *segment) worthSaving() bool { return s.boot <= s.size/4*3 }

// demote takes the privilege of boots' blocks from those of the oldest boots,
// until the others have at most half of the quota, and of the index. c.mu is held.
func (c *Cache) demote() {
	excess := func() bool { return c.bootBytes > c.quota/2 || c.bootCount > c.opt.MaxBlocks/2 }
	if !excess() {
		return
	}
	sessions := make([]uint32, 0, len(c.bySession))
	for s := range c.bySession {
		sessions = append(sessions, s)
	}
	slices.Sort(sessions)
	for _, session := range sessions {
		for k, l := range c.index {
			if !excess() {
				return
			}
			if l.boot == session {
				c.setBoot(k, 0)
			}
		}
	}
}

// evictSegment saves what boots read, and deletes the rest.
func (c *Cache) evictSegment(s *segment) error {
	name := segmentName(s.id)
	in, err := c.contentsOf(s)
	if err != nil {
		// What cannot be read is not worth saving.
		c.log.Warn("a segment that makes room cannot be read", "segment", s.id, "error", err)
	}
	c.mu.Lock()
	lists := s.lists
	copied, room := 0, c.segSize/4*3 // of the segment's length in reserve
	if !s.worthSaving() {
		room = 0
	}
	c.mu.Unlock()
	for i := range in.entries {
		e := &in.entries[i]
		k := keyOf(e.sum)
		c.mu.Lock()
		l, ok := c.index[k]
		c.mu.Unlock()
		if !ok || e.kind != kindBlock || l.seg != s.id || l.page != e.page {
			continue
		}
		n := recordLen(e.length)
		if l.boot == 0 || n > room {
			continue
		}
		err := c.save(s, e, k, l)
		for try := 0; full(err) && try < 3; try++ { // others have filled the disk to the brim
			c.mu.Lock()
			other := c.withoutBoot(s)
			c.mu.Unlock()
			if other == nil {
				break
			}
			if err = c.evictSegment(other); err == nil {
				err = c.save(s, e, k, l)
			}
		}
		if full(err) {
			break
		}
		if err != nil {
			return err
		}
		room -= n
		copied++
	}
	c.mu.Lock()
	evicted := s.count
	for i := range in.entries {
		k := keyOf(in.entries[i].sum)
		if l, ok := c.index[k]; ok && l.seg == s.id {
			c.remove(k)
		}
	}
	if s.count > 0 { // those that the file does not list any more
		for k, l := range c.index {
			if l.seg == s.id {
				c.remove(k)
			}
		}
	}
	c.stats.Evicted += int64(evicted)
	c.stats.Copied += int64(copied)
	var again []key
	if len(lists) > 0 {
		for k, l := range c.index {
			if l.boot != 0 && slices.Contains(lists, l.boot) {
				again = append(again, k)
			}
		}
	}
	c.mu.Unlock()
	if err := c.rewriteLists(again); err != nil && !full(err) {
		return err
	}
	if copied > 0 && c.w.f != nil {
		if err := c.disk.sync(c.w.f); err != nil {
			return err
		}
	}
	return c.deleteSegment(s, name)
}

// withoutBoot returns the oldest segment, other than s, that can be deleted
// without copying anything, or nil. c.mu is held.
func (c *Cache) withoutBoot(s *segment) *segment {
	var best *segment
	for _, o := range c.segs {
		if o != s && o != c.w.cur && o.boot == 0 && len(o.lists) == 0 && o.size > 0 && (best == nil || o.lastUse < best.lastUse) {
			best = o
		}
	}
	return best
}

// rewriteLists writes down anew which boots read the blocks, since the lists
// in a segment that goes go with it.
func (c *Cache) rewriteLists(keys []key) error {
	bySession := map[uint32][]key{}
	c.mu.Lock()
	for _, k := range keys {
		if l, ok := c.index[k]; ok && l.boot != 0 {
			bySession[l.boot] = append(bySession[l.boot], k)
		}
	}
	c.mu.Unlock()
	for session, keys := range bySession {
		if err := c.writeLists(session, keys, c.append); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cache) contentsOf(s *segment) (contents, error) {
	f, size, err := openFile(c.root, segmentName(s.id), os.O_RDONLY)
	if err != nil {
		return contents{}, err
	}
	defer f.Close()
	return readContents(f, s.id, size)
}

// save copies a block to the end of the log. A block that cannot be read any more is
// passed over.
func (c *Cache) save(s *segment, e *entry, k key, l location) error {
	rec := c.bufs.get(int(recordLen(e.length)))
	defer c.bufs.put(rec)
	c.mu.Lock()
	s.refs++
	c.mu.Unlock()
	f, err := c.openSegment(s)
	if err == nil {
		_, err = f.ReadAt(rec[:headerLen+e.length], e.offset())
	}
	c.mu.Lock()
	c.release(s)
	c.mu.Unlock()
	if err != nil || !matches(rec, e.sum, l) {
		return nil
	}
	clear(rec[headerLen+e.length:])
	moved, err := c.append(header{kind: kindBlock, boot: true, length: e.length, sum: e.sum, session: l.boot}, rec)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now, ok := c.index[k]; ok && now.seg == l.seg && now.page == l.page { // was not dropped meanwhile
		c.insert(k, moved)
	}
	return nil
}

// deleteSegment deletes a segment that has no blocks any more.
func (c *Cache) deleteSegment(s *segment, name string) error {
	if err := c.unlink(name); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.segs, s.id)
	c.segBytes -= s.size
	s.gone = true
	if s.f != nil && s.refs == 0 {
		c.closeSegment(s)
	}
	return nil
}

// unlink deletes a file, also from a disk that is so full that there is no room to
// note it: btrfs.
func (c *Cache) unlink(name string) error {
	err := c.root.Remove(name)
	if full(err) {
		f, _, oerr := openFile(c.root, name, os.O_WRONLY)
		if oerr == nil {
			f.Truncate(0) // if this fails, so does what follows
			f.Close()
		}
		err = c.root.Remove(name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make room: %w", err)
	}
	return nil
}
