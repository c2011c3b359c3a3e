package root

import (
	"fmt"
	"io"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/inetboot/inetboot/blockfs/cache"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/mirror"
)

// StatusFormat is the value of a Status's "format".
const StatusFormat = "inetboot-status/1"

// Status is what there is to tell about a root.
type Status struct {
	Format  string        `json:"format"`
	Image   handoff.Image `json:"image,omitzero"`
	Seconds float64       `json:"seconds"` // since the root was opened

	Root    Sizes                 `json:"root"`
	Origins map[string]read.Count `json:"origins"` // memory, disk, pack, demand, read-ahead, fill
	Network Network               `json:"network"`
	Reads   Reads                 `json:"reads"`
	Waits   Waits                 `json:"waits"`
	Mirrors []Mirror              `json:"mirrors,omitempty"` // in the order in which they are asked
	Cache   *cache.Stats          `json:"cache,omitempty"`
	Pack    PackStatus            `json:"pack"`
	Fill    FillStatus            `json:"fill"`
	Boot    Boot                  `json:"boot"`
	Memory  Memory                `json:"memory"`
}

// Sizes is how large a root is.
type Sizes struct {
	Blocks int64 `json:"blocks"` // zero blocks left out
	Bytes  int64 `json:"bytes"`  // plain
	Stored int64 `json:"stored"` // bytes of all blocks in the store
}

// Network is what came over it.
type Network struct {
	Blocks  int64 `json:"blocks"`
	Bytes   int64 `json:"bytes"`  // plain
	Stored  int64 `json:"stored"` // as they came
	Retries int64 `json:"retries"`
	Refused int64 `json:"refused"` // wrong or missing
	Down    bool  `json:"down"`    // no mirror can be reached, now
}

// Reads is what readers got.
type Reads struct {
	Bytes        int64 `json:"bytes"`
	Zero         int64 `json:"zero"`          // of these, from zero blocks
	CacheRefused int64 `json:"cache_refused"` // blocks that the cache had wrong
	PackRefused  int64 `json:"pack_refused"`
	PackUnused   int64 `json:"pack_unused"`
}

// Waits is how long readers waited for blocks.
type Waits struct {
	Count   int64   `json:"count"`
	Seconds float64 `json:"seconds"`
	Longest float64 `json:"longest"` // seconds
	Now     int64   `json:"now"`     // blocks that wait for a mirror to come back
}

// Mirror is how a mirror does.
type Mirror struct {
	URL       string  `json:"url"`
	Preferred bool    `json:"preferred"`         // it is asked first
	RTT       float64 `json:"rtt,omitempty"`     // milliseconds to the beginning of an answer; 0: not known
	Rate      float64 `json:"rate,omitempty"`    // bytes a second; 0: not known
	Resting   float64 `json:"resting,omitempty"` // seconds until it is tried again; 0: it does not rest
	Requests  int64   `json:"requests"`
	Failures  int64   `json:"failures"`
	Bytes     int64   `json:"bytes"`
	LastError string  `json:"last_error,omitempty"`
}

func mirrorOf(m mirror.MirrorState) Mirror {
	return Mirror{
		URL: m.URL, Preferred: m.Preferred, RTT: float64(m.RTT) / 1e6, Rate: m.Rate, Resting: m.Resting.Seconds(),
		Requests: m.Requests, Failures: m.Failures, Bytes: m.Bytes, LastError: m.LastError,
	}
}

func (m Mirror) line() string {
	var b strings.Builder
	b.WriteString(m.URL)
	if m.Preferred {
		b.WriteString(" (in use)")
	}
	if m.RTT > 0 {
		fmt.Fprintf(&b, ", %.1f ms", m.RTT)
	}
	if m.Rate > 0 {
		fmt.Fprintf(&b, ", %s/s", size(int64(m.Rate)))
	}
	fmt.Fprintf(&b, ", %d requests, %s, %d failures", m.Requests, size(m.Bytes), m.Failures)
	if m.Resting > 0 {
		fmt.Fprintf(&b, ", rests for %.0f s: %s", m.Resting, m.LastError)
	}
	return b.String()
}

// Boot is where the time of the boot went.
type Boot struct {
	Over   bool            `json:"over"`
	Stages []handoff.Stage `json:"stages,omitempty"`
}

// Memory is what the process takes, in bytes.
type Memory struct {
	Held     int64 `json:"held"` // contents of blocks
	Heap     int64 `json:"heap"`
	Resident int64 `json:"resident"`
	Peak     int64 `json:"peak"` // of resident
}

// Sizes returns how large the root is.
func (r *Root) Sizes() Sizes {
	var s Sizes
	for _, x := range r.indexes {
		s.Blocks += int64(x.Blocks())
		s.Bytes += x.Size()
		s.Stored += x.StoredSize()
	}
	return s
}

// Status returns how things are now.
func (r *Root) Status() Status {
	st := r.blocks.Stats()
	s := Status{
		Format: StatusFormat, Image: r.o.Image, Seconds: time.Since(r.opened).Seconds(), Root: r.Sizes(),
		Origins: make(map[string]read.Count, read.Origins),
		Network: Network{Blocks: st.FetchedBlocks, Bytes: st.FetchedBytes, Stored: st.StoredBytes, Retries: st.Retries, Refused: st.Refused, Down: st.Down},
		Reads:   Reads{Bytes: st.ReadBytes, Zero: st.ZeroBytes, CacheRefused: st.CacheRefused, PackRefused: st.PackRefused, PackUnused: st.PackUnused},
		Waits:   Waits{Count: st.Waits, Seconds: st.Waited.Seconds(), Longest: st.LongestWait.Seconds(), Now: st.Waiting},
		Memory:  r.memory(st.HeldBytes),
	}
	for o := range read.Origins {
		s.Origins[o.String()] = st.By[o]
	}
	if r.o.Mirrors != nil {
		for _, m := range r.o.Mirrors.State() {
			s.Mirrors = append(s.Mirrors, mirrorOf(m))
		}
	}
	if r.o.Cache != nil {
		c := r.o.Cache.Stats()
		s.Cache = &c
	}
	r.mu.Lock()
	s.Pack, s.Fill, s.Boot.Over = r.pack, r.fill, r.over
	r.mu.Unlock()
	s.Boot.Stages = r.Timeline()
	return s
}

// memory reads what the kernel and the runtime say.
func (r *Root) memory(held int64) Memory {
	m := Memory{Held: held}
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() == metrics.KindUint64 {
		m.Heap = int64(sample[0].Value.Uint64())
	}
	if r.proc == nil {
		return m
	}
	b := make([]byte, 8<<10)
	n, _ := r.proc.ReadAt(b, 0) // made anew by the kernel each time
	for line := range strings.Lines(string(b[:n])) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			m.Resident = kb << 10
		} else if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			m.Peak = kb << 10
		}
	}
	return m
}

// WriteText writes the status for people.
func (s *Status) WriteText(w io.Writer) error {
	var b strings.Builder
	if s.Image.Name != "" {
		fmt.Fprintf(&b, "image     %s %s (%s)\n", s.Image.Name, s.Image.Version, s.Image.Arch)
	}
	fmt.Fprintf(&b, "root      %s in %d blocks, %s stored; open for %s\n", size(s.Root.Bytes), s.Root.Blocks, size(s.Root.Stored), span(s.Seconds))
	fmt.Fprintf(&b, "read      %s, of which %s zeros\n", size(s.Reads.Bytes), size(s.Reads.Zero))
	for o := range read.Origins {
		c := s.Origins[o.String()]
		fmt.Fprintf(&b, "  %-10s %8d blocks  %10s\n", o, c.Blocks, size(c.Bytes))
	}
	fmt.Fprintf(&b, "network   %s came, %d retries, %d refused", size(s.Network.Stored), s.Network.Retries, s.Network.Refused)
	if s.Network.Down {
		b.WriteString("; no mirror can be reached now")
	}
	fmt.Fprintf(&b, "\nwaits     %d, %.1f s in all, longest %.2f s, %d waiting now\n", s.Waits.Count, s.Waits.Seconds, s.Waits.Longest, s.Waits.Now)
	for _, m := range s.Mirrors {
		fmt.Fprintf(&b, "mirror    %s\n", m.line())
	}
	if c := s.Cache; c != nil {
		fmt.Fprintf(&b, "cache     %s\n", cacheText(c, s.Reads.CacheRefused))
	} else {
		b.WriteString("cache     none\n")
	}
	fmt.Fprintf(&b, "pack      %s", s.Pack.State)
	if s.Pack.Records > 0 {
		fmt.Fprintf(&b, ", %d of %d blocks, %s, %d not used", s.Pack.Read, s.Pack.Records, size(s.Pack.Bytes), s.Reads.PackUnused)
	}
	if s.Pack.Error != "" {
		fmt.Fprintf(&b, ": %s", s.Pack.Error)
	}
	fmt.Fprintf(&b, "\nfill      %s", s.Fill.State)
	if s.Fill.Total > 0 {
		fmt.Fprintf(&b, ", %d of %d blocks", s.Fill.Blocks, s.Fill.Total)
	}
	if s.Fill.Error != "" {
		fmt.Fprintf(&b, ": %s", s.Fill.Error)
	}
	fmt.Fprintf(&b, "\nmemory    %s of blocks, %s resident, %s at most\n", size(s.Memory.Held), size(s.Memory.Resident), size(s.Memory.Peak))
	b.WriteString(timelineText(s.Boot))
	_, err := io.WriteString(w, b.String())
	return err
}

func cacheText(c *cache.Stats, refused int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", c.State)
	if c.Reason != "" {
		fmt.Fprintf(&b, " (%s)", c.Reason)
	}
	fmt.Fprintf(&b, ", %d blocks, %d files, %s of %s; %d hits, %d misses, %d wrong, %d written, %d thrown out",
		c.Blocks, c.Files, size(c.Bytes), size(c.Quota), c.Hits, c.Misses, refused, c.Writes, c.Evicted)
	return b.String()
}

// timelineText shows each stage with the time it took to get there.
func timelineText(t Boot) string {
	if len(t.Stages) == 0 {
		return ""
	}
	var b strings.Builder
	state := "boot      going on\n"
	first, last := t.Stages[0].Unix, t.Stages[len(t.Stages)-1].Unix
	if t.Over {
		state = fmt.Sprintf("boot      %.1f s\n", float64(last-first)/1000)
	}
	b.WriteString(state)
	before := first
	for _, st := range t.Stages {
		fmt.Fprintf(&b, "  %7.1f s  +%6.1f s  %s\n", float64(st.Unix-first)/1000, float64(st.Unix-before)/1000, st.Name)
		before = st.Unix
	}
	return b.String()
}

func span(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}

// size shows bytes in decimal units.
func size(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}
