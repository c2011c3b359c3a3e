package pack

import (
	"cmp"
	"slices"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
)

// MergeLast is how many reports count: the last ones.
const MergeLast = 8

// Merged is the contents of a pack.
type Merged struct {
	Blocks  []index.Entry // in order; no zero blocks, none twice
	Stored  int64         // their bytes in the store, as the indexes say
	Reports int           // that count
	Refused int           // reports with blocks that the root does not have; they do not count
	Over    int           // blocks left out at the end, because the pack would be too long
}

// Merge decides from the reports of several boots, newest last, what the next
// boot's pack has: the blocks that at least half of the last MergeLast reports
// have, in the order of the median of their ranks. So one odd boot changes
// little. root is the indexes of the root's files, in the order of the
// manifest; limit bounds the stored bytes, 0 is DefaultLimit(root). The result
// depends on nothing else, and not on the order of the reports that count.
func Merge(root []*index.Index, reports []*Report, limit int64) Merged {
	var m Merged
	if limit <= 0 {
		limit = DefaultLimit(root)
	}
	var good []*Report
	for _, r := range reports {
		if fits(root, r) {
			good = append(good, r)
		} else {
			m.Refused++
		}
	}
	good = good[max(0, len(good)-MergeLast):]
	m.Reports = len(good)

	type block struct {
		entry index.Entry
		place Access // the first of the places where it stands
		ranks []int
		last  int // the report that was the last to have it
		order int // twice the median of ranks
	}
	blocks := make(map[digest.SHA256]*block)
	for n, r := range good {
		rank := 0
		for _, a := range r.Trace {
			e := root[a.File].Entry(a.Block)
			if e.Zero() {
				continue
			}
			place := Access{File: a.File, Block: a.Block}
			b := blocks[e.SHA256]
			if b == nil {
				b = &block{entry: e, place: place, last: -1}
				blocks[e.SHA256] = b
			} else if comparePlaces(place, b.place) < 0 {
				b.entry, b.place = e, place
			}
			// A block may stand at several places: its first access counts.
			if b.last == n {
				continue
			}
			b.last = n
			b.ranks = append(b.ranks, rank)
			rank++
		}
	}
	var list []*block
	for _, b := range blocks {
		if 2*len(b.ranks) < len(good) {
			continue
		}
		slices.Sort(b.ranks)
		k := len(b.ranks)
		b.order = b.ranks[(k-1)/2] + b.ranks[k/2]
		list = append(list, b)
	}
	slices.SortFunc(list, func(x, y *block) int {
		return cmp.Or(cmp.Compare(x.order, y.order), comparePlaces(x.place, y.place))
	})
	for i, b := range list {
		if len(m.Blocks) == MaxRecords || m.Stored+int64(b.entry.StoredLen) > limit {
			m.Over = len(list) - i
			break
		}
		m.Blocks = append(m.Blocks, b.entry)
		m.Stored += int64(b.entry.StoredLen)
	}
	return m
}

func comparePlaces(x, y Access) int {
	return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Block, y.Block))
}

// fits tells whether a report can be about the root.
func fits(root []*index.Index, r *Report) bool {
	return len(r.Files) == len(root) && !slices.ContainsFunc(r.Trace, func(a Access) bool {
		return a.File < 0 || a.File >= len(root) || a.Block < 0 || a.Block >= root[a.File].Len()
	})
}

// DefaultLimit is how many stored bytes a pack may have: half of what the root
// has, because a boot that reads more is no slower without a pack, and
// MaxStored at most.
func DefaultLimit(root []*index.Index) int64 {
	sum := int64(0)
	for _, x := range root {
		sum += x.StoredSize()
	}
	return min(sum/2, MaxStored)
}
