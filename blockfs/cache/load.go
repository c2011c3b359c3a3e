package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// contents is what is in a segment file.
type contents struct {
	entries []entry
	end     int64 // of the last good record
	sealed  bool  // has a good footer, which begins at end
}

// readContents reads the table of a segment, or looks for its records where
// there is none.
func readContents(r io.ReaderAt, segment uint32, size int64) (contents, error) {
	c, err := readFooter(r, segment, size)
	if errors.Is(err, errFormat) {
		return scan(r, segment, size)
	}
	return c, err
}

// footerGuess has the footers of most segments in one read.
const footerGuess = 32 << 10

func readFooter(r io.ReaderAt, segment uint32, size int64) (contents, error) {
	if size < trailerLen || size > maxSegment {
		return contents{}, fmt.Errorf("%w: a segment of %d bytes", errFormat, size)
	}
	tail := make([]byte, min(size, footerGuess))
	if err := readAt(r, tail, size-int64(len(tail))); err != nil {
		return contents{}, err
	}
	t, err := parseTrailer(tail[len(tail)-trailerLen:], segment, size)
	if err != nil {
		return contents{}, err
	}
	if from := t.table - (size - int64(len(tail))); from >= 0 {
		tail = tail[from:]
	} else {
		tail = make([]byte, size-t.table)
		if err := readAt(r, tail, t.table); err != nil {
			return contents{}, err
		}
	}
	entries, err := parseTable(tail[:t.count*entryLen], segment, t)
	return contents{entries: entries, end: t.table, sealed: true}, err
}

// readAt reads all of b; an end of the file before that is a malformed segment.
func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: ends at %d", errFormat, off+int64(n))
	}
	return err
}

// scan follows the records of a segment from one to the next. Behind damage it
// goes on with the next page that has a header.
func scan(r io.ReaderAt, segment uint32, size int64) (contents, error) {
	var c contents
	size = min(size, maxSegment)
	w := window{r: r, size: size}
	lost := false
	for off := int64(0); off+headerLen <= size; {
		b, err := w.at(off, lost)
		if err != nil {
			return c, err
		}
		h, err := parseHeader(b)
		if next := off + recordLen(h.length); err == nil && h.segment == segment && off+headerLen+int64(h.length) <= size {
			c.entries = append(c.entries, entry{header: h, page: uint32(off / pageSize)})
			off, c.end, lost = next, next, false
			continue
		}
		lost = true
		off += pageSize
	}
	return c, nil
}

// window reads a file a piece at a time.
type window struct {
	r     io.ReaderAt
	size  int64
	buf   []byte
	start int64
}

// at returns at least a header's bytes from off. far says that what comes
// behind will be wanted, too.
func (w *window) at(off int64, far bool) ([]byte, error) {
	if at := off - w.start; at >= 0 && at+headerLen <= int64(len(w.buf)) {
		return w.buf[at:], nil
	}
	n := int64(pageSize)
	if far {
		n = 256 << 10
	}
	n = min(n, w.size-off)
	if int64(cap(w.buf)) < n {
		w.buf = make([]byte, n)
	}
	w.buf, w.start = w.buf[:n], off
	if err := readAt(w.r, w.buf, off); err != nil {
		w.buf = nil
		if errors.Is(err, errFormat) { // shorter than it was a moment ago
			return make([]byte, headerLen), nil
		}
		return nil, err
	}
	return w.buf, nil
}

// segmentName returns the path of a segment in the cache's folder.
func segmentName(id uint32) string { return fmt.Sprintf("%s/%08d.seg", segmentDir, id) }

// lastSegment is the largest number that is taken for ours: there have to be
// larger ones.
const lastSegment = 90_000_000

// parseSegmentName reads the last element of what segmentName returns.
func parseSegmentName(name string) (uint32, bool) {
	digits, ok := strings.CutSuffix(name, ".seg")
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), ok && err == nil && len(digits) == 8 && n > 0 && n <= lastSegment
}

const (
	// maxSegments and maxFiles bound what Open looks at.
	maxSegments = 16 << 10
	maxFiles    = 4096

	// loaders is how many segments are read at a time.
	loaders = 8
)

// loaded is what Open learns about a segment.
type loaded struct {
	contents
	seg   *segment
	boots []bootList
	err   error
}

// bootList says which blocks a boot read.
type bootList struct {
	session uint32
	keys    []key
}

// loadSegments fills the index. The newest record of a block counts.
func (c *Cache) loadSegments(ctx context.Context) error {
	ids, err := c.segmentIDs()
	if err != nil {
		return err
	}
	slices.SortFunc(ids, func(a, b uint32) int { return cmp.Compare(b, a) }) // newest first
	results := make([]chan loaded, len(ids))
	ahead := make(chan struct{}, loaders) // bounds the tables in memory
	stop := make(chan struct{})
	defer close(stop)
	for i := range results {
		results[i] = make(chan loaded, 1)
	}
	go func() {
		for i, id := range ids {
			select {
			case ahead <- struct{}{}:
				go func() { results[i] <- c.loadSegment(id) }()
			case <-stop:
				return
			}
		}
	}()
	var boots []bootList
	var full, damaged int
	for i := range ids {
		var l loaded
		select {
		case l = <-results[i]:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		<-ahead
		if l.err != nil {
			c.log.Warn("a segment of the cache cannot be read", "segment", ids[i], "error", l.err)
		}
		if l.seg == nil {
			continue
		}
		if !l.sealed {
			damaged++
		}
		full += c.addSegment(&l)
		boots = append(boots, l.boots...)
	}
	for _, b := range boots {
		for _, k := range b.keys {
			if old, ok := c.index[k]; ok && old.boot < b.session {
				c.setBoot(k, b.session)
			}
		}
	}
	if damaged > 0 {
		c.log.Info("segments without a good table were searched for blocks", "segments", damaged)
	}
	if full > 0 {
		c.log.Warn("the cache has more blocks than the index may have", "left_out", full, "limit", c.opt.MaxBlocks)
	}
	return nil
}

// addSegment puts a segment's blocks into the index, but for those that have a
// newer record. It returns how many did not fit.
func (c *Cache) addSegment(l *loaded) (left int) {
	s := l.seg
	c.segs[s.id] = s
	c.segBytes += s.size
	c.base = max(c.base, s.lastUse+1)
	for i := len(l.entries) - 1; i >= 0; i-- {
		e := &l.entries[i]
		c.session = max(c.session, e.session+1)
		if e.kind == kindBoot {
			s.lists = append(s.lists, e.session)
			continue
		}
		loc := location{seg: s.id, page: e.page, length: uint32(e.length)}
		if e.boot {
			loc.boot = e.session
		}
		k := keyOf(e.sum)
		if newer, ok := c.index[k]; ok {
			if newer.boot < loc.boot {
				c.setBoot(k, loc.boot)
			}
			continue
		}
		if len(c.index) >= c.opt.MaxBlocks {
			left++
			continue
		}
		c.insert(k, loc)
	}
	return left
}

// loadSegment reads what Open has to know of a segment. seg is nil if there
// is no such file.
func (c *Cache) loadSegment(id uint32) loaded {
	f, size, err := openFile(c.root, segmentName(id), os.O_RDONLY)
	if err != nil {
		return loaded{err: err}
	}
	defer f.Close()
	l := loaded{seg: &segment{id: id, size: size}}
	if st, err := f.Stat(); err == nil {
		l.seg.lastUse = min(st.ModTime().UnixMilli(), maxTime)
	}
	if l.contents, l.err = readContents(f, id, size); l.err != nil {
		l.sealed = false
	}
	l.seg.sealed, l.seg.end = l.sealed, l.end
	for i := range l.entries {
		e := &l.entries[i]
		if e.kind != kindBoot || e.length > maxList*len(key{}) {
			continue
		}
		if b, err := readBootList(f, e); err == nil {
			l.boots = append(l.boots, b)
		}
	}
	return l
}

// maxTime is the year 2100 in milliseconds: no clock is right that is beyond.
const maxTime = 4_102_444_800_000

func readBootList(r io.ReaderAt, e *entry) (bootList, error) {
	b := make([]byte, e.length)
	if err := readAt(r, b, e.offset()+headerLen); err != nil {
		return bootList{}, err
	}
	if err := e.sum.Check("list of a boot's blocks", b); err != nil {
		return bootList{}, err
	}
	l := bootList{session: e.session}
	for len(b) >= len(key{}) {
		l.keys = append(l.keys, key(b[:len(key{})]))
		b = b[len(key{}):]
	}
	return l, nil
}

// segmentIDs lists the segment files.
func (c *Cache) segmentIDs() ([]uint32, error) {
	d, err := c.root.Open(segmentDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // read-only, and nothing there
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var ids []uint32
	for {
		entries, err := d.ReadDir(1024)
		for _, e := range entries {
			if id, ok := parseSegmentName(e.Name()); ok && e.Type().IsRegular() {
				ids = append(ids, id)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return ids, nil
		case err != nil:
			c.log.Warn("the cache's folder can be read in part only", "error", err)
			return ids, nil
		case len(ids) >= maxSegments:
			c.log.Warn("the cache has more segments than are looked at", "limit", maxSegments)
			return ids, nil
		}
	}
}
