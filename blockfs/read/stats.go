package read

import "time"

// Origin says where a block came from.
type Origin uint8

// The origins of blocks.
const (
	FromMemory Origin = iota // it was there when a reader wanted it
	FromDisk                 // the cache had it
	FromPack                 // it came in a boot pack
	FromDemand               // fetched because a reader waited for it
	FromAhead                // fetched ahead of a reader
	FromFill                 // fetched in the background
	Origins                  // how many there are
)

// String returns the name that status pages and metrics use.
func (o Origin) String() string {
	return [...]string{"memory", "disk", "pack", "demand", "read-ahead", "fill", "?"}[min(o, Origins)]
}

// Count is a number of blocks and of their plain bytes.
type Count struct {
	Blocks int64 `json:"blocks"`
	Bytes  int64 `json:"bytes"`
}

func (c *Count) add(n int) {
	c.Blocks++
	c.Bytes += int64(n)
}

// Stats counts what a Blocks has done.
type Stats struct {
	Memory Count          // blocks that were there when a reader wanted them
	By     [Origins]Count // blocks that came, by origin; FromMemory as Memory

	SharedBlocks  int64 // blocks that were already on the way when a reader wanted them
	FetchedBlocks int64 // blocks that came over the network: by pack, demand, read-ahead, fill
	FetchedBytes  int64 // their plain bytes
	StoredBytes   int64 // their bytes in the store, as the index says
	AheadBlocks   int64 // those of FetchedBlocks that were fetched ahead
	ZeroBytes     int64 // bytes read from zero blocks
	ReadBytes     int64 // bytes read, zeros included
	Retries       int64 // attempts that failed and were repeated
	Refused       int64 // attempts that brought wrong bytes or nothing at all
	CacheRefused  int64 // blocks of the cache that were wrong, and dropped
	PackRefused   int64 // blocks of a pack that were wrong
	PackUnused    int64 // blocks of a pack that nobody wanted, or that were there already
	Waiting       int64 // blocks that wait for the store to come back, now
	HeldBytes     int64 // memory for contents, and for blocks as stored, now
	Down          bool  // the store cannot be reached, now

	Waits       int64         // how often a reader had to wait for a block
	Waited      time.Duration // for how long, in sum
	LongestWait time.Duration
}

// Changed returns a channel on which something comes after the counters have
// changed, once for any number of changes. It has one receiver.
func (b *Blocks) Changed() <-chan struct{} { return b.change }

// changed tells the receiver of Changed.
func (b *Blocks) changed() {
	select {
	case b.change <- struct{}{}:
	default:
	}
}

// Stats returns the counters.
func (b *Blocks) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.By[FromMemory] = s.Memory
	for _, o := range []Origin{FromPack, FromDemand, FromAhead, FromFill} {
		s.FetchedBlocks += s.By[o].Blocks
		s.FetchedBytes += s.By[o].Bytes
	}
	s.AheadBlocks = s.By[FromAhead].Blocks
	s.HeldBytes = int64(b.used + b.held.bytes + b.spare.bytes())
	s.Waits, s.Waited, s.LongestWait = b.waits.n.Load(), time.Duration(b.waits.ns.Load()), time.Duration(b.waits.longest.Load())
	return s
}
